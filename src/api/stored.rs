//! Reads and writes status. Values that this version cannot read are written back unchanged. `docs/ring.md`, "Versions side by side".

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::as_read::{AsRead, pattern, readable, written};
use super::schema;
use super::status::{MemberStatus, MultiMasterClusterStatus};

/// Fields that decisions rest on and that a pass cannot observe again. `[]` stands for every entry of a list.
const RECORDED: [&str; 12] = [
    "epoch",
    "databaseCreated",
    "writer",
    "memberStatuses",
    "memberStatuses[].name",
    "memberStatuses[].bypassed",
    "memberStatuses[].serverUUID",
    "memberStatuses[].formerServerUUIDs",
    "memberStatuses[].gtidExecuted",
    "memberStatuses[].gtidExecutedOmitted",
    "memberStatuses[].catchUpTo",
    "memberStatuses[].voters",
];

impl MultiMasterClusterStatus {
    /// Paths of fields that decisions rest on and that cannot be read, for example `memberStatuses[1].bypassed`. They are written back as they were,
    /// whatever values this status has.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        let paths = self.as_read.unreadable.iter().map(String::as_str);
        paths.filter(|path| RECORDED.contains(&pattern(path).as_str()))
    }

    /// Whether decisions that rest on what is recorded are the same with both. What a pass observes again, and the GTID sets that grow with every
    /// write, may differ.
    pub fn records_as(&self, other: &Self) -> bool {
        let of = |status: &Self| {
            let members = status.member_statuses.iter().map(|member| MemberStatus {
                name: member.name.clone(),
                bypassed: member.bypassed,
                bypassed_at: member.bypassed_at.clone(),
                held_out_until: member.held_out_until.clone(),
                server_id: member.server_id,
                server_uuid: member.server_uuid.clone(),
                former_server_uuids: member.former_server_uuids.clone(),
                catch_up_to: member.catch_up_to.clone(),
                voters: member.voters.clone(),
                ..MemberStatus::default()
            });
            let writer = status.writer.as_ref().map(|writer| writer.name.clone());
            (
                status.epoch,
                status.database_created,
                writer,
                members.collect::<Vec<_>>(),
            )
        };
        of(self) == of(other)
    }

    /// This status as it will be read after it is written over `present`. Differences that cannot be written are not in it.
    #[must_use]
    pub fn over(mut self, present: &Self) -> Self {
        self.as_read = present.as_read.clone();
        if present.as_read.unreadable.is_empty() {
            return self;
        }
        match serde_json::to_value(&self).and_then(serde_json::from_value::<Self>) {
            Ok(read) => Self {
                as_read: self.as_read,
                ..read
            },
            Err(_) => self,
        }
    }
}

impl<'de> Deserialize<'de> for MultiMasterClusterStatus {
    /// Never fails because of a field's value: one resource that cannot be read would stop the watch of all resources.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Value::deserialize(deserializer)?;
        let mut unreadable = Vec::new();
        let readable = readable(&SCHEMA, &text, "", &mut unreadable).unwrap_or_default();
        let mut status = Self::deserialize(readable).unwrap_or_else(|_| {
            unreadable.extend(RECORDED.map(str::to_owned));
            Self::default()
        });
        status.as_read = AsRead {
            text: Some(Arc::new(text)),
            unreadable,
        };
        Ok(status)
    }
}

impl Serialize for MultiMasterClusterStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(text) = &self.as_read.text else {
            return Self::serialize(self, serializer);
        };
        let new = Self::serialize(self, serde_json::value::Serializer).map_err(serde::ser::Error::custom)?;
        let kept: Vec<&str> = self.unreadable().collect();
        written(&SCHEMA, text, new, "", &kept).serialize(serializer)
    }
}

/// The schema of status, with Rust's own formats of numbers.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema::of("status"));

#[cfg(test)]
mod tests;
