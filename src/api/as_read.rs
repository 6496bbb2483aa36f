//! A status that another version may have written: read as far as this version can, and written back as it was where it cannot. What this
//! version knows is what its CustomResourceDefinition says. `docs/ring.md`, "Versions side by side".

use std::sync::{Arc, LazyLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResourceExt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::MultiMasterCluster;
use super::status::MultiMasterClusterStatus;

/// Fields that are not seen anew in every pass, and that decisions rest on. `[]` stands for every entry of a list.
const RECORDED: [&str; 10] = [
    "epoch",
    "databaseCreated",
    "writer",
    "memberStatuses",
    "memberStatuses[].name",
    "memberStatuses[].bypassed",
    "memberStatuses[].serverUUID",
    "memberStatuses[].formerServerUUIDs",
    "memberStatuses[].gtidExecuted",
    "memberStatuses[].catchUpTo",
];
/// Lists whose entries have a name, and the field that it is in.
const NAMED: [(&str, &str); 3] = [
    ("conditions", "type"),
    ("memberStatuses", "name"),
    ("memberStatuses[].links", "upstream"),
];

/// What a status was read from.
#[derive(Clone, Debug, Default)]
pub struct AsRead {
    text: Option<Arc<Value>>,
    /// Paths below `status` of what this version cannot read.
    unreadable: Vec<String>,
}

/// What a status says is the same, whatever it was read from.
impl PartialEq for AsRead {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl MultiMasterClusterStatus {
    /// Paths of fields that decisions rest on and that cannot be read, for example `memberStatuses[1].bypassed`. They are written back as they
    /// were, whatever this status says.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        let paths = self.as_read.unreadable.iter().map(String::as_str);
        paths.filter(|path| RECORDED.contains(&pattern(path).as_str()))
    }

    /// This status as it will be read once it is written over another one: a difference that cannot be written is none.
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
    /// Never fails for what a field holds: one resource that cannot be read would stop the watch of all.
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
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(MultiMasterCluster::crd()).unwrap_or_default();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"].clone()
});

/// `memberStatuses[].name` for `memberStatuses[1].name`.
fn pattern(path: &str) -> String {
    path.split('[')
        .map(|part| {
            part.split_once(']')
                .map_or(part.to_owned(), |(_, rest)| format!("]{rest}"))
        })
        .collect::<Vec<_>>()
        .join("[")
}

fn below(path: &str, key: &str) -> String {
    match path {
        "" => key.into(),
        path => format!("{path}.{key}"),
    }
}

/// What this schema allows of a value; `None`: nothing of it. Adds the paths of what it does not allow.
fn readable(schema: &Value, value: &Value, path: &str, unreadable: &mut Vec<String>) -> Option<Value> {
    let read = match (schema["type"].as_str(), value) {
        (_, Value::Null) => (schema["nullable"] == true).then_some(Value::Null),
        (Some("object"), Value::Object(fields)) => readable_object(schema, fields, path, unreadable),
        (Some("array"), Value::Array(items)) => {
            let mut items = items
                .iter()
                .enumerate()
                .map(|(n, item)| readable(&schema["items"], item, &format!("{path}[{n}]"), unreadable));
            match schema["x-kubernetes-list-map-keys"].is_array() {
                true => Some(items.by_ref().flatten().collect()),
                // The place of an entry means something.
                false => items.collect::<Option<Vec<Value>>>().map(Value::Array),
            }
        }
        (Some("string"), Value::String(_)) => {
            let is_listed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
            let is_time = || serde_json::from_value::<Time>(value.clone()).is_ok();
            (is_listed && (schema["format"] != "date-time" || is_time())).then(|| value.clone())
        }
        (Some("integer"), Value::Number(_)) => fits(schema["format"].as_str(), value).then(|| value.clone()),
        (Some("boolean"), Value::Bool(_)) => Some(value.clone()),
        _ => None,
    };
    if read.is_none() {
        unreadable.push(path.into());
    }
    read
}

fn readable_object(
    schema: &Value,
    fields: &Map<String, Value>,
    path: &str,
    unreadable: &mut Vec<String>,
) -> Option<Value> {
    let known = schema["properties"].as_object()?;
    let mut read = Map::new();
    for (key, value) in fields {
        if let Some(schema) = known.get(key)
            && let Some(value) = readable(schema, value, &below(path, key), unreadable)
        {
            read.insert(key.clone(), value);
        }
    }
    let mut required = schema["required"].as_array().into_iter().flatten();
    let is_whole = required.all(|key| key.as_str().is_some_and(|key| read.contains_key(key)));
    is_whole.then_some(Value::Object(read))
}

fn fits(format: Option<&str>, number: &Value) -> bool {
    let up_to = |most: u32| number.as_u64().is_some_and(|number| number <= most.into());
    match format {
        Some("uint8") => up_to(u8::MAX.into()),
        Some("uint16") => up_to(u16::MAX.into()),
        Some("uint32") => up_to(u32::MAX),
        Some("uint64") => number.is_u64(),
        _ => number.is_i64(),
    }
}

/// What is to be written where `old` is: `new`, and of `old` what this schema does not know and what is to be `kept`.
fn written(schema: &Value, old: &Value, new: Value, path: &str, kept: &[&str]) -> Value {
    let is_kept = |path: &str| kept.contains(&path);
    match (old, new) {
        (old, _) if is_kept(path) => old.clone(),
        (Value::Object(old), Value::Object(new)) => {
            let known = &schema["properties"];
            let mut fields = Map::new();
            for (key, new) in new {
                let value = match old.get(&key) {
                    Some(old) => written(&known[&key], old, new, &below(path, &key), kept),
                    None => new,
                };
                fields.insert(key, value);
            }
            for (key, old) in old {
                if known.get(key).is_none() || is_kept(&below(path, key)) {
                    fields.entry(key.clone()).or_insert_with(|| old.clone());
                }
            }
            Value::Object(fields)
        }
        (Value::Array(old), Value::Array(new)) => {
            let list = pattern(path);
            let Some((_, name)) = NAMED.iter().find(|(named, _)| *named == list) else {
                return Value::Array(new);
            };
            let is_same = |one: &Value, other: &Value| one[name].is_string() && one[name] == other[name];
            let mut items: Vec<Value> = new
                .into_iter()
                .map(|new| match old.iter().enumerate().find(|(_, old)| is_same(old, &new)) {
                    Some((n, old)) => written(&schema["items"], old, new, &format!("{path}[{n}]"), kept),
                    None => new,
                })
                .collect();
            // A member that has left is gone; a condition that another version judges is not.
            if list == "conditions" {
                let more = old.iter().filter(|old| !items.iter().any(|new| is_same(old, new)));
                let more: Vec<Value> = more.cloned().collect();
                items.extend(more);
            }
            Value::Array(items)
        }
        (_, new) => new,
    }
}

#[cfg(test)]
mod tests;
