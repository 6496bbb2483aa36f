//! Reads and writes what another version may have written. This version knows the fields and values of its own schema. `docs/ring.md`, "Versions
//! side by side".

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value};

/// Lists whose entries have a name, and the field with the name.
const NAMED: [(&str, &str); 3] = [
    ("conditions", "type"),
    ("memberStatuses", "name"),
    ("memberStatuses[].links", "upstream"),
];

/// The JSON that a status was read from.
#[derive(Clone, Debug, Default)]
pub struct AsRead {
    pub(super) text: Option<Arc<Value>>,
    /// Paths, below `status`, of values that this version cannot read.
    pub(super) unreadable: Vec<String>,
}

/// Always equal: two statuses with the same fields are equal, whatever they were read from.
impl PartialEq for AsRead {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// `memberStatuses[].name` for `memberStatuses[1].name`.
pub(super) fn pattern(path: &str) -> String {
    path.split('[')
        .map(|part| {
            part.split_once(']')
                .map_or(part.to_owned(), |(_, rest)| format!("]{rest}"))
        })
        .collect::<Vec<_>>()
        .join("[")
}

pub(super) fn below(path: &str, key: &str) -> String {
    match path {
        "" => key.into(),
        path => format!("{path}.{key}"),
    }
}

/// The part of a value that this schema allows; `None`: no part of it. Adds the paths of values that it does not allow to `unreadable`.
pub(super) fn readable(schema: &Value, value: &Value, path: &str, unreadable: &mut Vec<String>) -> Option<Value> {
    let read = match (schema["type"].as_str(), value) {
        _ if schema["x-kubernetes-preserve-unknown-fields"] == true => Some(value.clone()),
        (_, Value::String(_) | Value::Number(_)) if schema["x-kubernetes-int-or-string"] == true => Some(value.clone()),
        (_, Value::Null) => (schema["nullable"] == true).then_some(Value::Null),
        (Some("object"), Value::Object(fields)) => readable_object(schema, fields, path, unreadable),
        (Some("array"), Value::Array(items)) => {
            let mut items = items
                .iter()
                .enumerate()
                .map(|(n, item)| readable(&schema["items"], item, &format!("{path}[{n}]"), unreadable));
            match schema["x-kubernetes-list-map-keys"].is_array() {
                true => Some(items.by_ref().flatten().collect()),
                // The index of an entry has a meaning, so no entry may be left out.
                false => items.collect::<Option<Vec<Value>>>().map(Value::Array),
            }
        }
        (Some("string"), Value::String(_)) => {
            let is_listed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
            let is_time = || serde_json::from_value::<Time>(value.clone()).is_ok();
            (is_listed && (schema["format"] != "date-time" || is_time())).then(|| value.clone())
        }
        (Some("integer"), Value::Number(_)) => {
            let fits = fits(schema["format"].as_str(), value) && is_within(schema, value);
            fits.then(|| value.clone())
        }
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
    let of_all = Some(&schema["additionalProperties"]).filter(|schema| schema.is_object());
    let mut read = Map::new();
    for (key, value) in fields {
        if let Some(schema) = schema["properties"].get(key).or(of_all)
            && let Some(value) = readable(schema, value, &below(path, key), unreadable)
        {
            read.insert(key.clone(), value);
        }
    }
    let mut required = schema["required"].as_array().into_iter().flatten();
    let is_whole = required.all(|key| key.as_str().is_some_and(|key| read.contains_key(key)));
    is_whole.then_some(Value::Object(read))
}

/// Whether a number is within the bounds that the rules of its own field name, as `self >= 2 && self <= 9`. A version to come may allow others.
fn is_within(schema: &Value, number: &Value) -> bool {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let mut bounds = rules.filter_map(|rule| {
        let (from, to) = rule["rule"]
            .as_str()?
            .strip_prefix("self >= ")?
            .split_once(" && self <= ")?;
        Some(from.parse::<i64>().ok()?..=to.parse::<i64>().ok()?)
    });
    bounds.all(|bounds| number.as_i64().is_some_and(|number| bounds.contains(&number)))
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

/// The value to write over `old`: `new`, and from `old` the fields that this schema does not know and the paths in `kept`.
pub(super) fn written(schema: &Value, old: &Value, new: Value, path: &str, kept: &[&str]) -> Value {
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
            // A member that is missing in `new` has left. A condition that is missing there may be one of another version, so it stays.
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
