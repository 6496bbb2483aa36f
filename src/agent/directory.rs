//! The data directory while mysqld is down. The agent makes it, gives it a new life, or throws it away. After a crash at any point the next start
//! completes the work.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, bail};
use tracing::{info, warn};

use super::accounts::{self, Passwords};
use super::life::{Intent, Life, sync_folder_of};
use super::member::{Member, Shared};
use super::mysqld::{self, Process};
use super::relay_logs;
use crate::names::keys;
use crate::wire::agent::{Origin, Phase};

/// Prefix of the names of data directories that are kept although the member became empty.
const KEPT: &str = "data.kept-";

/// Prepares a directory on which mysqld can start, and returns its life record.
///
/// # Errors
/// When the volume cannot be read or written, when the life record cannot be used, when the volume holds data without a life record, or when
/// `mysqld --initialize-insecure` fails. Data that has no record is not changed.
pub async fn prepare(member: &Member, shared: &Shared) -> anyhow::Result<Life> {
    fs::create_dir_all(&member.args.run).with_context(|| format!("cannot make {}", member.args.run.display()))?;
    // First, so that nothing is changed where a newer agent has begun something that this agent does not know.
    let known = Life::load(&member.life)?;
    // A crash may have left these: a directory that was never complete, and one that was being removed.
    remove(&member.data_new)?;
    remove(&discarded(member))?;

    if let Some(Life {
        intent: Some(Intent::Emptying { keep }),
        server_uuid,
        ..
    }) = &known
    {
        clear(member, *keep, server_uuid.as_deref().unwrap_or("unknown"))?;
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

/// Continues what was under way, and begins a new life if `auto.cnf` no longer has the recorded UUID.
fn resume(member: &Member, mut life: Life) -> anyhow::Result<Life> {
    let uuid = server_uuid_on_disk(&member.data)?;
    match &life.intent {
        Some(intent) => {
            info!(?intent, "a new life begins on the data directory");
            // The intent stays recorded until mysqld has made the new UUID. Otherwise a copy of the volume, made in between, could become a second
            // life with this server_id.
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

/// Records a new server_id, then removes the old UUID. In this order no start has the new UUID with the old server_id.
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

/// Makes an empty directory. It gets its final name only when it is complete.
async fn initialise(member: &Member, shared: &Shared, earlier: Option<Life>) -> anyhow::Result<Life> {
    let life = Life::empty(member.ordinal, earlier)?;
    // Before the data, because data without a record counts as not made by this operator.
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
        // It is empty: the caller has checked that.
        fs::remove_dir(&member.data).with_context(|| format!("cannot replace {}", member.data.display()))?;
    }
    fs::rename(&member.data_new, &member.data)
        .and_then(|()| sync_folder_of(&member.data))
        .with_context(|| format!("cannot rename {}", member.data_new.display()))?;
    Ok(life)
}

/// Throws away the directory after a failed clone. The member was empty before the clone, so nothing is lost; the record is checked once more.
///
/// # Errors
/// When the life record does not say that the directory is a failed clone, or when the volume cannot be written.
pub fn discard_failed_clone(member: &Member, mut life: Life, why: String) -> anyhow::Result<()> {
    if life.origin != Origin::Empty || !matches!(life.intent, Some(Intent::Cloning { .. })) {
        bail!(
            "refusing to throw away {}: its life record does not say that it is a failed clone",
            member.data.display()
        );
    }
    warn!(%why, "the clone failed and left nothing usable; the member becomes empty again");
    life.clone_failed(why, false, SystemTime::now());
    life.save(&member.life)?;
    fs::rename(&member.data, discarded(member))
        .and_then(|()| sync_folder_of(&member.data))
        .with_context(|| format!("cannot rename {}", member.data.display()))?;
    remove(&discarded(member))
}

/// Moves the data directory out of the way. With `keep` its files stay on the volume, because it holds transactions that no other member has.
/// Repeating it after a crash is harmless.
fn clear(member: &Member, keep: bool, server_uuid: &str) -> anyhow::Result<()> {
    let target = match keep {
        true => member.args.volume.join(format!("{KEPT}{server_uuid}")),
        false => discarded(member),
    };
    if !holds_anything(&member.data)? {
        return Ok(());
    }
    warn!(to = %target.display(), keep, "the member becomes empty: its data directory is moved away");
    fs::rename(&member.data, &target)
        .and_then(|()| sync_folder_of(&member.data))
        .with_context(|| format!("cannot rename {} to {}", member.data.display(), target.display()))?;
    remove(&discarded(member))
}

/// The directories that [`clear`] has kept.
fn kept(member: &Member) -> anyhow::Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&member.args.volume)?.collect::<io::Result<Vec<_>>>()?;
        let names = entries
            .iter()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut kept: Vec<String> = names.filter(|name| name.starts_with(KEPT)).collect();
        kept.sort();
        Ok(kept)
    };
    list().with_context(|| format!("cannot list {}", member.args.volume.display()))
}

/// Writes the init file for the next start, and returns the agent's own password.
///
/// # Errors
/// When a password is missing or empty in the Secret's folder, or when the file cannot be written.
pub fn write_init_file(member: &Member, life: &Life) -> anyhow::Result<String> {
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
    write_private(
        &member.init_file,
        &accounts::init_file(&passwords, member.is_copy(life)),
    )?;
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
        Err(error) => Err(error).with_context(|| format!("cannot list {}", folder.display())),
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
