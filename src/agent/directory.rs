//! The data directory while mysqld is down: made, given a new life, or thrown away - each so that a crash at any point is
//! taken up again by the next start.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use tracing::{info, warn};

use super::accounts::{self, Passwords};
use super::life::{Intent, Life, sync_folder_of};
use super::member::{Member, Shared};
use super::mysqld::{self, Process};
use super::relay_logs;
use crate::names::keys;
use crate::wire::agent::{Origin, Phase};

/// Begins the names of data directories that were given up and are kept.
const KEPT: &str = "data.kept-";

/// Makes sure of a directory that mysqld can be started on, and answers whose life it holds.
pub async fn prepare(member: &Member, shared: &Shared) -> anyhow::Result<Life> {
    fs::create_dir_all(&member.args.run).with_context(|| format!("cannot make {}", member.args.run.display()))?;
    // First of all: nothing is touched where a newer agent has begun what this one does not know.
    let known = Life::load(&member.life)?;
    // Left behind by a crash: never complete, or already given up.
    remove(&member.data_new)?;
    remove(&discarded(member))?;

    if let Some(Life {
        intent: Some(Intent::Emptying { keep }),
        server_uuid,
        ..
    }) = &known
    {
        give_up(member, *keep, server_uuid.as_deref().unwrap_or("unknown"))?;
    }
    let has_data = holds_anything(&member.data)?;
    shared.set_kept(kept(member)?);
    let life = match known {
        None if has_data => bail!(
            "{} holds data, but there is no {}: this volume was not made by this operator, and its server_id and history are \
             unknown. Nothing was changed. Move the data away to let an empty member be made here, or import it into a new cluster",
            member.data.display(),
            member.life.display()
        ),
        None if member.args.volume.join("ibdata1").exists() => bail!(
            "{} holds the data of another MySQL (there is an ibdata1). Nothing was changed. Move it away to let an empty member \
             be made here, or import it into a new cluster",
            member.args.volume.display()
        ),
        Some(life) if has_data => resume(member, life)?,
        earlier => {
            if earlier.is_some() {
                warn!(data = %member.data.display(), "the data directory is gone; a new, empty life begins");
            }
            initialise(member, shared, earlier).await?
        }
    };
    shared.set_life(&life);
    Ok(life)
}

/// Takes up what was under way, and notices a UUID that changed behind the agent's back.
fn resume(member: &Member, mut life: Life) -> anyhow::Result<Life> {
    let uuid = server_uuid_on_disk(&member.data)?;
    match &life.intent {
        Some(intent) => {
            info!(?intent, "a new life begins on the data directory");
            // Fulfilled only when mysqld has made the new UUID: a copy of the volume from in between must not become a second life with
            // this server_id.
            begin_anew(member, &mut life, uuid)?;
        }
        // auto.cnf was removed or replaced: a new UUID with the old server_id would make the ring drop transactions silently.
        None if life.server_uuid.is_some() && life.server_uuid != uuid => {
            warn!(recorded = ?life.server_uuid, found = ?uuid, "auto.cnf is not this life's; a new life begins");
            begin_anew(member, &mut life, uuid)?;
        }
        None => {}
    }
    Ok(life)
}

/// A new server_id, recorded before the old UUID is removed, so that no start can pair a new one with the other's old one.
fn begin_anew(member: &Member, life: &mut Life, uuid: Option<String>) -> anyhow::Result<()> {
    relay_logs::drop_stop_events(&member.data)
        .with_context(|| format!("cannot prepare the relay logs in {}", member.data.display()))?;
    life.begin_anew(member.ordinal, uuid)?;
    life.save(&member.life)?;
    let path = member.data.join("auto.cnf");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => sync_folder_of(&path).with_context(|| format!("cannot sync {}", member.data.display())),
    }
}

/// An empty directory, complete when it gets its name.
async fn initialise(member: &Member, shared: &Shared, earlier: Option<Life>) -> anyhow::Result<Life> {
    let life = Life::empty(member.ordinal, earlier)?;
    // Before the data: data without a record is somebody else's.
    life.save(&member.life)?;
    shared.set_life(&life);
    shared.set_phase(Phase::Initialising);
    info!(data = %member.data.display(), "initialising the data directory");
    let config = fs::read_to_string(&member.args.config)
        .with_context(|| format!("cannot read the configuration {}", member.args.config.display()))?;
    write_private(&member.initialise_config, &mysqld::tolerant(&config))?;
    let mut process = Process::start(member, mysqld::initialise_command_line(member))?;
    let ended = process
        .wait()
        .await
        .context("cannot wait for mysqld --initialize-insecure")?;
    if !ended.success() {
        bail!("mysqld --initialize-insecure failed: {ended}");
    }
    if member.data.exists() {
        // Empty, or the caller would not be here.
        fs::remove_dir(&member.data).with_context(|| format!("cannot replace {}", member.data.display()))?;
    }
    fs::rename(&member.data_new, &member.data)
        .and_then(|()| sync_folder_of(&member.data))
        .with_context(|| format!("cannot rename {}", member.data_new.display()))?;
    Ok(life)
}

/// Throws away what a failed clone left. It was empty before the clone, so nothing is lost; that is checked once more here.
pub fn discard_failed_clone(member: &Member, mut life: Life, why: String) -> anyhow::Result<()> {
    if life.origin != Origin::Empty || !matches!(life.intent, Some(Intent::Cloning { .. })) {
        bail!(
            "refusing to throw away {}: its life record does not say that it is a failed clone",
            member.data.display()
        );
    }
    warn!(%why, "the clone failed and left nothing usable; the member becomes empty again");
    life.last_clone_error = Some(why);
    life.save(&member.life)?;
    fs::rename(&member.data, discarded(member))
        .and_then(|()| sync_folder_of(&member.data))
        .with_context(|| format!("cannot rename {}", member.data.display()))?;
    remove(&discarded(member))
}

/// Takes the data directory out of the way; what nobody else has stays on the volume. Doing it again after a crash does no more.
fn give_up(member: &Member, keep: bool, server_uuid: &str) -> anyhow::Result<()> {
    let target = match keep {
        true => member.args.volume.join(format!("{KEPT}{server_uuid}")),
        false => discarded(member),
    };
    if !holds_anything(&member.data)? {
        return Ok(());
    }
    warn!(to = %target.display(), keep, "the data directory is given up");
    fs::rename(&member.data, &target)
        .and_then(|()| sync_folder_of(&member.data))
        .with_context(|| format!("cannot rename {} to {}", member.data.display(), target.display()))?;
    remove(&discarded(member))
}

/// What [`give_up`] has kept.
fn kept(member: &Member) -> anyhow::Result<Vec<String>> {
    let look = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&member.args.volume)?.collect::<io::Result<Vec<_>>>()?;
        let names = entries
            .iter()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut kept: Vec<String> = names.filter(|name| name.starts_with(KEPT)).collect();
        kept.sort();
        Ok(kept)
    };
    look().with_context(|| format!("cannot look into {}", member.args.volume.display()))
}

/// The init file for the next start. Answers the agent's own password.
pub fn write_init_file(member: &Member) -> anyhow::Result<String> {
    let passwords = Passwords {
        root: member.credential(keys::ROOT)?,
        operator: member.credential(keys::OPERATOR)?,
        agent: member.credential(keys::AGENT)?,
        replication: member.credential(keys::REPLICATION)?,
        app: match &member.args.app_user {
            Some(user) if !user.is_empty() => Some((user.clone(), member.credential(keys::APP)?)),
            _ => None,
        },
    };
    write_private(&member.init_file, &accounts::init_file(&passwords))?;
    Ok(passwords.agent)
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        remove_file_if_there(path)?;
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?
            .write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn remove_file_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn discarded(member: &Member) -> std::path::PathBuf {
    member.args.volume.join("data.discarded")
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn holds_anything(folder: &Path) -> anyhow::Result<bool> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look into {}", folder.display())),
    }
}

/// The server UUID in `auto.cnf`; `None` if there is none.
fn server_uuid_on_disk(data: &Path) -> anyhow::Result<Option<String>> {
    let path = data.join("auto.cnf");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text
            .lines()
            .find_map(|line| line.trim().strip_prefix("server-uuid="))
            .map(|uuid| uuid.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
