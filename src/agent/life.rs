//! The life record, `life.json` beside the data directory: whose history the directory holds.
//!
//! A life is one incarnation of the server. Every new life gets a new server UUID **and** a new server_id: with the old server_id the server would
//! silently drop what its earlier life wrote, when that comes back around the ring. mysqld makes the UUID (`auto.cnf`); the server_id is kept here.
//! Before each step that a crash could cut in two, the agent records an intent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clone_failures::CloneFailures;
use crate::wire::agent::{Mark, Origin, VERSION};

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file is not a life record of this version or an earlier one.
    #[error("{path} is not a life record of this version of the agent; restore it, or move the volume's contents away")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A newer agent wrote the file.
    #[error(
        "{path} was written by an agent of version {version}, and version {VERSION} does not know what it says: {source}. Nothing was \
         changed; start this member with the newer image again"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        version: u64,
        /// What this version does not understand.
        source: serde_json::Error,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(getrandom::Error),
}

/// What was under way when the record was written. The next start continues it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Intent {
    /// An empty directory is becoming a copy of the donor. Until the copy is verified, its contents belong to no life.
    Cloning {
        /// Address of the donor.
        donor: String,
        /// Server UUID of the donor, if the operator has named it.
        #[serde(default, rename = "donorUUID", skip_serializing_if = "Option::is_none")]
        donor_uuid: Option<String>,
    },
    /// The directory gets a new server UUID and server_id before mysqld starts again.
    NewLife,
    /// The directory is moved away, and an empty one takes its place.
    Emptying {
        /// It holds transactions that no other member has, so its files stay on the volume.
        keep: bool,
    },
}

/// The life record. Fields are only added, each with a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Life {
    /// [`VERSION`] of the agent that wrote it last.
    #[serde(default)]
    pub version: u32,
    /// server_id of this life.
    pub server_id: u32,
    /// server UUID of this life; `None` until mysqld has made it.
    pub server_uuid: Option<String>,
    /// Where the data came from.
    pub origin: Origin,
    /// UUIDs of earlier lives, oldest first.
    #[serde(default)]
    pub former_server_uuids: Vec<String>,
    /// What is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// Why the last clone failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_clone_error: Option<String>,
    /// The clones that failed since one succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_failures: Option<CloneFailures>,
    /// Whose the volume is; `None`: it was not marked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// Fields of a newer version. The agent writes them back unchanged.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

impl Life {
    /// The life of a directory that was just initialised; `earlier` is what the volume held before.
    ///
    /// # Errors
    /// [`Error::Random`] when the operating system gives no random bytes.
    pub fn empty(ordinal: u8, earlier: Option<Self>) -> Result<Self, Error> {
        let mut life = earlier.unwrap_or(Self {
            version: VERSION,
            server_id: 0,
            server_uuid: None,
            origin: Origin::Empty,
            former_server_uuids: Vec::new(),
            intent: None,
            last_clone_error: None,
            clone_failures: None,
            mark: None,
            others: BTreeMap::new(),
        });
        life.begin_anew(ordinal, None)?;
        life.origin = Origin::Empty;
        life.intent = None;
        Ok(life)
    }

    /// The next life on the same directory: a new server_id, a UUID that mysqld has yet to make, the old one remembered.
    /// Repeating it after a crash is harmless.
    ///
    /// # Errors
    /// [`Error::Random`] when the operating system gives no random bytes.
    pub fn begin_anew(&mut self, ordinal: u8, uuid_on_disk: Option<String>) -> Result<(), Error> {
        for uuid in self.server_uuid.take().into_iter().chain(uuid_on_disk) {
            if !self.former_server_uuids.contains(&uuid) {
                self.former_server_uuids.push(uuid);
            }
        }
        self.server_id = new_server_id(ordinal)?;
        Ok(())
    }

    /// Counts a clone that failed. `refused`: before anything was dropped. `clock`: of this machine.
    pub fn clone_failed(&mut self, why: String, refused: bool, clock: SystemTime) {
        let donor_uuid = match &self.intent {
            Some(Intent::Cloning { donor_uuid, .. }) => donor_uuid.clone(),
            _ => None,
        };
        let failures = self.clone_failures.get_or_insert_default();
        failures.add(refused, donor_uuid, clock);
        self.last_clone_error = Some(why);
    }

    /// Reads the record; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Newer`] when a newer agent wrote what this one does not know,
    /// [`Error::Unreadable`] when it is not a life record.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        match fs::read(path) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io {
                action: "read",
                path: path.into(),
                source,
            }),
        }
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self, Error> {
        let path = path.into();
        let source = match serde_json::from_slice::<Self>(text) {
            Ok(life) if life.origin != Origin::Unknown => return Ok(life),
            // The origin decides what may be done with the data.
            Ok(_) => serde::de::Error::custom("an unknown origin"),
            Err(source) => source,
        };
        let version = serde_json::from_slice::<Value>(text).ok();
        let version = version.and_then(|life| life["version"].as_u64());
        Err(match version.filter(|version| *version > VERSION.into()) {
            Some(version) => Error::Newer { path, version, source },
            None => Error::Unreadable { path, source },
        })
    }

    /// Writes the record. After a crash either the old record or the new one is there, whole.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let unfinished = path.with_extension("json.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&unfinished)?;
            let life = Self {
                version: VERSION,
                ..self.clone()
            };
            file.write_all(&serde_json::to_vec_pretty(&life)?)?;
            file.sync_all()?;
            fs::rename(&unfinished, path)?;
            sync_folder_of(path)
        };
        write().map_err(|source| Error::Io {
            action: "write",
            path: path.into(),
            source,
        })
    }
}

/// Makes a creation, removal or renaming inside the folder of `path` durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// 28 random bits, and ordinal + 1 in the low four bits. Two lives practically never share a server_id, and people can read the ordinal from it.
fn new_server_id(ordinal: u8) -> Result<u32, Error> {
    let random = getrandom::u32().map_err(Error::Random)?;
    Ok((random << 4) | (u32::from(ordinal) + 1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn life() -> Life {
        Life::empty(2, None).unwrap()
    }

    #[test]
    fn server_ids_tell_the_ordinal_and_differ() {
        let (a, b) = (life(), life());
        assert_eq!(a.server_id & 0xf, 3);
        assert_ne!(a.server_id, b.server_id);
    }

    #[test]
    fn a_new_life_remembers_the_old_one_once() {
        let mut life = life();
        life.server_uuid = Some("a".into());
        let old = life.server_id;
        life.begin_anew(2, Some("a".into())).unwrap();
        life.begin_anew(2, Some("a".into())).unwrap();
        assert_eq!(
            (life.former_server_uuids.as_slice(), life.server_uuid.as_ref()),
            (["a".to_owned()].as_slice(), None)
        );
        assert_ne!(life.server_id, old);
    }

    #[test]
    fn a_lost_directory_keeps_its_former_uuids() {
        let mut life = life();
        life.server_uuid = Some("b".into());
        life.former_server_uuids = vec!["a".into()];
        life.origin = Origin::Cloned;
        life.intent = Some(Intent::NewLife);
        let life = Life::empty(2, Some(life)).unwrap();
        assert_eq!((life.origin, life.intent), (Origin::Empty, None));
        assert_eq!(life.former_server_uuids, ["a", "b"]);
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = std::env::temp_dir().join(format!("multimaster-life-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("life.json");
        assert_eq!(Life::load(&path).unwrap(), None);
        let mut life = life();
        life.intent = Some(Intent::Cloning {
            donor: "10.0.0.1".into(),
            donor_uuid: Some("b".into()),
        });
        life.clone_failed("it ended".into(), false, SystemTime::now());
        assert_eq!(life.clone_failures.as_ref().unwrap().donor_uuid.as_deref(), Some("b"));
        life.save(&path).unwrap();
        assert_eq!(Life::load(&path).unwrap(), Some(life));
        fs::write(&path, "{}").unwrap();
        assert!(matches!(Life::load(&path), Err(Error::Unreadable { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }

    fn parse(text: &Value) -> Result<Life, Error> {
        Life::parse(Path::new("life.json"), text.to_string().as_bytes())
    }

    #[test]
    fn the_record_of_an_earlier_agent_is_read() {
        let life = parse(&json!({"serverId": 19, "serverUuid": "a", "origin": "Founded", "formerServerUuids": ["b"]}));
        let life = life.unwrap();
        assert_eq!((life.version, life.server_id, life.origin), (0, 19, Origin::Founded));
    }

    #[test]
    fn fields_of_a_newer_agent_survive() {
        let folder = std::env::temp_dir().join(format!("multimaster-newer-life-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("life.json");
        let newer = json!({
            "version": 7, "serverId": 19, "serverUuid": "a", "origin": "Cloned", "archive": {"until": [1, null]}, "ring": "demo"
        });
        fs::write(&path, newer.to_string()).unwrap();
        let mut life = Life::load(&path).unwrap().unwrap();
        life.begin_anew(2, None).unwrap();
        life.save(&path).unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for field in ["archive", "ring", "origin"] {
            assert_eq!(written[field], newer[field], "{field}");
        }
        assert_eq!(written["version"], VERSION);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_a_newer_agent_has_begun_is_not_guessed_at() {
        for (field, value) in [
            ("intent", json!({"kind": "Merging", "with": "b"})),
            ("origin", json!("Restored")),
        ] {
            let mut life = json!({"version": 2, "serverId": 19, "serverUuid": "a", "origin": "Cloned"});
            life[field] = value;
            let error = parse(&life).unwrap_err();
            assert!(matches!(error, Error::Newer { version: 2, .. }), "{error:?}");
            assert!(
                error.to_string().contains("start this member with the newer image"),
                "{error}"
            );
            // Not written by a newer agent.
            life["version"] = json!(1);
            assert!(matches!(parse(&life), Err(Error::Unreadable { .. })));
        }
    }
}
