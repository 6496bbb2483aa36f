//! What is kept, as this version's types have it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use multimaster::api::MultiMasterCluster;
use multimaster::decide::conflicts::{Record, Stage};
use multimaster::decide::observed::{Balancer, Channel, Member, Observed, Pod, Probe, Receiver, Server, SqlError};
use multimaster::mysql::transaction::BinlogPosition;
use multimaster::names;
use multimaster::wire::agent::Report;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fixture;

/// A ring as it was captured.
pub struct Ring {
    /// Version and case.
    pub name: String,
    folder: PathBuf,
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/upgrade"))
}

/// All rings of a version.
pub fn rings(version: &str) -> Vec<Ring> {
    let rings = folder().join(version).join("rings");
    let entries = fs::read_dir(&rings).unwrap_or_else(|error| panic!("{}: {error}", rings.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    names.iter().map(|case| ring(version, case)).collect()
}

/// One of them.
pub fn ring(version: &str, case: &str) -> Ring {
    Ring {
        name: format!("{version}/{case}"),
        folder: folder().join(version).join("rings").join(case),
    }
}

/// A file in YAML.
pub fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&fs::read_to_string(folder().join(path)).unwrap()).unwrap()
}

/// All files of a version's folder by their names without extension, as text.
pub fn texts(version: &str, name: &str) -> BTreeMap<String, String> {
    let files = folder().join(version).join(name);
    let entries = fs::read_dir(&files).unwrap_or_else(|error| panic!("{}: {error}", files.display()));
    let texts = entries.map(|entry| {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (stem, fs::read_to_string(&path).unwrap())
    });
    texts.collect()
}

impl Ring {
    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// A file that the ring must have.
    pub fn read<T: DeserializeOwned>(&self, file: &str) -> T {
        self.find(file).unwrap_or_else(|| panic!("{} has no {file}", self.name))
    }

    /// A file that it may have.
    pub fn find<T: DeserializeOwned>(&self, file: &str) -> Option<T> {
        let text = fs::read_to_string(self.path(file)).ok()?;
        let read = serde_json::from_str(&text);
        Some(read.unwrap_or_else(|error| panic!("{}/{file}: {error}", self.name)))
    }

    pub fn resource(&self) -> Value {
        self.read("resource.json")
    }

    pub fn cluster(&self) -> MultiMasterCluster {
        self.read("resource.json")
    }

    /// What the operator sees that comes after the one which wrote all this: the same pods, servers and agents, the same status.
    pub fn observed(&self) -> Observed {
        let cluster = self.cluster();
        let members = (0..cluster.spec.members).map(|ordinal| self.member(ordinal)).collect();
        let statefulset: Value = self.read("statefulset.json");
        let mut observed = fixture::whole();
        observed.update_revision = Some(text(&statefulset["status"], "updateRevision"));
        observed.cluster = cluster;
        observed.members = members;
        observed.balancers = (0..2).filter_map(|n| self.balancer(n)).collect();
        observed
    }

    fn member(&self, ordinal: u8) -> Member {
        let report: Option<Report> = self.find(&format!("member-{ordinal}/report.json"));
        let mut member = fixture::whole().members.remove(usize::from(ordinal));
        member.pod = Some(pod(&self.read(&format!("member-{ordinal}/pod.json"))));
        member.agent = report.map_or(Probe::NoAddress, Probe::Reached);
        member.server = self.server(ordinal).map_or(Probe::NoAddress, Probe::Reached);
        member
    }

    fn balancer(&self, n: u8) -> Option<Balancer> {
        let report = self.find(&format!("balancer-{n}/report.json"))?;
        let found: Value = self.read(&format!("balancer-{n}/pod.json"));
        Some(Balancer {
            name: text(&found["metadata"], "name"),
            pod: pod(&found),
            report: Probe::Reached(report),
        })
    }

    fn server(&self, ordinal: u8) -> Option<Server> {
        let said: Value = self.find(&format!("member-{ordinal}/server.json"))?;
        let globals = |name: &str| text(&said["globals"], name);
        let list = |name: &str| said[name].as_array().unwrap().clone();
        let mut channels: Vec<Channel> = list("channels").iter().map(channel).collect();
        for worker in list("stopped") {
            let stopped = channels
                .iter_mut()
                .find(|channel| channel.name == text(&worker, "channel"));
            if let Some(stopped) = stopped {
                stopped.blocked = Some(text(&worker, "gtid")).filter(|gtid| !gtid.is_empty());
            }
        }
        Some(Server {
            uuid: globals("uuid"),
            server_id: globals("server_id").parse().unwrap(),
            super_read_only: globals("fenced") == "1",
            executed: globals("executed").parse().unwrap(),
            purged: globals("purged").parse().unwrap(),
            channels,
            binary_logs: list("binaryLogs").iter().map(|log| text(log, "Log_name")).collect(),
            conflicts: self.records(&format!("member-{ordinal}/conflicts.json")),
            ..Server::default()
        })
    }

    /// Records of conflicts as the table has them.
    pub fn records(&self, file: &str) -> Vec<Record> {
        let rows: Vec<Value> = self.read(file);
        rows.iter().map(record).collect()
    }
}

fn pod(found: &Value) -> Pod {
    let (metadata, status) = (&found["metadata"], &found["status"]);
    let labelled = |label: &str| metadata["labels"][label] == "true";
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    Pod {
        uid: text(metadata, "uid"),
        ip: Some(text(status, "podIP")).filter(|ip| !ip.is_empty()),
        ready: conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True"),
        running: status["phase"] == "Running",
        serving: labelled(names::LABEL_SERVING),
        reads: labelled(names::LABEL_READS),
        revision: Some(text(&metadata["labels"], "controller-revision-hash")),
        ..Pod::default()
    }
}

/// A column; what is NULL is empty.
pub fn text(row: &Value, column: &str) -> String {
    match &row[column] {
        Value::Null => String::new(),
        value => value.as_str().unwrap().to_owned(),
    }
}

fn channel(row: &Value) -> Channel {
    let text = |column: &str| text(row, column);
    let error = |number: &str, message: &str| {
        let number = text(number).parse().ok().filter(|number| *number != 0)?;
        Some(SqlError {
            number,
            text: text(message),
        })
    };
    Channel {
        name: text("Channel_Name"),
        source_host: text("Source_Host"),
        source_port: text("Source_Port").parse().unwrap(),
        source_uuid: Some(text("Source_UUID")).filter(|uuid| !uuid.is_empty()),
        receiver: match text("Replica_IO_Running").as_str() {
            "Yes" => Receiver::On,
            "Connecting" => Receiver::Connecting,
            _ => Receiver::Off,
        },
        applier_running: text("Replica_SQL_Running") == "Yes",
        retrieved: text("Retrieved_Gtid_Set").parse().unwrap(),
        receiver_error: error("Last_IO_Errno", "Last_IO_Error"),
        applier_error: error("Last_SQL_Errno", "Last_SQL_Error"),
        lag_seconds: text("Seconds_Behind_Source").parse().ok(),
        receiver_file: text("Source_Log_File"),
        applied_file: text("Relay_Source_Log_File"),
        applied_offset: text("Exec_Source_Log_Pos").parse().unwrap(),
        seconds_since_contact: Some(0),
        blocked: None,
        seconds_since_error: None,
    }
}

/// The columns mean what `conflict_table` says; `tests/agent/records.rs` has a server read them.
fn record(row: &Value) -> Record {
    let optional = |column: &str| Some(text(row, column)).filter(|text| !text.is_empty());
    let stage: Stage = serde_json::from_value(row["stage"].clone()).unwrap();
    let seen = text(row, "seen_at").replace(' ', "T") + "Z";
    Record {
        observer: text(row, "observer"),
        gtid: text(row, "gtid"),
        seen: seen.parse().unwrap(),
        stage,
        rows: serde_json::from_str(&text(row, "changes")).unwrap(),
        for_a_person: optional("for_a_person"),
        winner: optional("winner").map(|winner| winner.parse().unwrap()),
        known: text(row, "known").parse().unwrap(),
        kept: optional("kept_file").map(|file| BinlogPosition {
            file,
            offset: text(row, "kept_offset").parse().unwrap(),
        }),
    }
}
