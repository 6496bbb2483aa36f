//! Reads a spec that another version wrote. Fields and values that this version does not know are left out, and named. `docs/ring.md`, "Versions side
//! by side".

use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::as_read::{below, readable};
use super::cluster::{MultiMasterCluster, MultiMasterClusterSpec, Writes};
use super::ring::{ConflictPolicy, Healing};
use super::schema;

/// Seconds of the longest lease that a version to come may give. Today the longest is 60.
const LONGEST_LEASE: u16 = 600;

impl MultiMasterClusterSpec {
    /// Whether a field, a part of it, or what it is a part of, is not known. `field`: its path below `spec`.
    pub fn is_unknown(&self, field: &str) -> bool {
        let is_part = |whole: &str, part: &str| {
            let rest = part.strip_prefix(whole);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let mut paths = self.unknown.iter();
        paths.any(|path| is_part(field, path) || is_part(path, field))
    }

    /// While it is not known how a channel finds its place, none is created, and the ring stays as it is.
    pub fn knows_positioning(&self) -> bool {
        !self.is_unknown("replication.positioning")
    }

    /// Seconds of the longest lease that the writer may have: another version may have given it.
    pub fn longest_lease(&self) -> u16 {
        match self.is_unknown("isolation.leaseSeconds") {
            true => LONGEST_LEASE,
            false => self.isolation.lease_seconds,
        }
    }
}

impl MultiMasterCluster {
    /// Where this version does not know the spec, the ring goes on as status has it. What status does not have is read so that least is changed:
    /// nobody is bypassed, and no winner is chosen.
    #[must_use]
    pub fn as_recorded(mut self) -> Self {
        let spec = &mut self.spec;
        if spec.unknown.is_empty() {
            return self;
        }
        let status = self.status.clone().unwrap_or_default();
        if !status.member_statuses.is_empty() {
            spec.members = u8::try_from(status.member_statuses.len()).unwrap_or(u8::MAX);
        }
        spec.comparison.period_hours = 0;
        if spec.is_unknown("writes") && status.writer.is_some() {
            spec.writes = Writes::SingleWriter;
        }
        let heals = ["replication.healing", "replication.positioning", "failureDetection"];
        if heals.iter().any(|field| spec.is_unknown(field)) {
            spec.replication.healing = Some(Healing::Wait);
        }
        if spec.is_unknown("conflicts") {
            spec.conflicts.policy = ConflictPolicy::Halt;
        }
        if spec.is_unknown("balancer.type") {
            spec.balancer.type_ = status.balancer.type_;
        }
        // Which members take writes, nothing else says.
        let is_unclear = spec.is_unknown("writes") && status.writer.is_none();
        if spec.is_unknown("paused") || is_unclear {
            spec.paused = Some(true);
        }
        self
    }
}

impl<'de> Deserialize<'de> for MultiMasterClusterSpec {
    /// Never fails because of a field or its value: one resource that cannot be read would stop the watch of all resources.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Value::deserialize(deserializer)?;
        let mut unknown = Vec::new();
        let mut fields = Map::from_iter([("storage".to_owned(), json!({"size": ""}))]);
        for (key, value) in text.as_object().into_iter().flatten() {
            let read = readable(&SCHEMA["properties"][key], value, "", &mut Vec::new());
            let read = read.filter(|read| is_readable(key, read));
            left_out(value, read.as_ref(), key, &mut unknown);
            if let Some(read) = read {
                fields.insert(key.clone(), read);
            }
        }
        let mut spec = Self::deserialize(Value::Object(fields)).map_err(serde::de::Error::custom)?;
        spec.unknown = unknown;
        Ok(spec)
    }
}

/// Whether a field can be read by itself.
fn is_readable(key: &str, value: &Value) -> bool {
    let mut alone = json!({"storage": {"size": ""}});
    alone[key] = value.clone();
    MultiMasterClusterSpec::deserialize(alone).is_ok()
}

impl Serialize for MultiMasterClusterSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// Adds the paths of what is in `text` and was not read. A null is nothing.
fn left_out(text: &Value, read: Option<&Value>, path: &str, paths: &mut Vec<String>) {
    match (text, read) {
        (Value::Null, _) => {}
        (Value::Object(fields), Some(Value::Object(read))) => {
            for (key, value) in fields {
                left_out(value, read.get(key), &below(path, key), paths);
            }
        }
        (Value::Array(items), Some(Value::Array(read))) => {
            for (n, item) in items.iter().enumerate() {
                left_out(item, read.get(n), &format!("{path}[{n}]"), paths);
            }
        }
        (_, Some(_)) => {}
        (_, None) => paths.push(path.into()),
    }
}

/// The schema of spec, with Rust's own formats of numbers.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema::of("spec"));

#[cfg(test)]
mod tests;
