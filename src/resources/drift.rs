//! Whether a live object already has every desired field, so that the operator writes only what differs.
//!
//! The API server adds defaults, and other controllers add fields of their own: both are ignored. A desired field that was changed is a difference.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::quantity;

/// Maps that server-side apply treats as one value: one more key changes their meaning.
const WHOLE_MAPS: [&str; 3] = ["selector", "matchLabels", "nodeSelector"];
/// Lists to which other controllers may add.
const OPEN_LISTS: [&str; 2] = ["ownerReferences", "finalizers"];
/// Fields whose zero value the API server does not keep.
const ZERO_IS_ABSENT: [&str; 10] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "stdin",
    "stdinOnce",
    "tty",
    "readOnly",
    "publishNotReadyAddresses",
    "initialDelaySeconds",
    "hostPort",
];
/// Fields that are quantities, and maps of quantities.
const QUANTITIES: [&str; 6] = ["requests", "limits", "capacity", "overhead", "sizeLimit", "divisor"];

/// Whether every field of `desired` is in `live` with an equal value.
pub fn is_subset(desired: &Value, live: &Value) -> bool {
    subset("", desired, live)
}

/// `field`: name of the field that holds the two values; for items of a list, the name of the list.
fn subset(field: &str, desired: &Value, live: &Value) -> bool {
    match (desired, live) {
        (Value::Object(desired), Value::Object(live)) => maps(field, desired, live),
        (Value::Array(desired), Value::Array(live)) => lists(field, desired, live),
        (Value::String(desired), Value::String(live)) if QUANTITIES.contains(&field) => {
            let value = quantity::nanos(desired);
            desired == live || (value.is_some() && value == quantity::nanos(live))
        }
        _ => {
            desired == live
                || (is_empty(desired) && is_empty(live))
                || (ZERO_IS_ABSENT.contains(&field) && is_zero(desired) && is_zero(live))
        }
    }
}

fn maps(field: &str, desired: &Map<String, Value>, live: &Map<String, Value>) -> bool {
    if WHOLE_MAPS.contains(&field) && live.keys().any(|key| !desired.contains_key(key)) {
        return false;
    }
    desired.iter().all(|(key, value)| {
        // An empty `emptyDir: {}` decides the kind of the volume.
        if key == "emptyDir" && live.get(key).is_none_or(Value::is_null) {
            return false;
        }
        // The keys of a map of quantities (`cpu`, `storage`) are not names of fields.
        let field = if QUANTITIES.contains(&field) { field } else { key };
        subset(field, value, live.get(key).unwrap_or(&Value::Null))
    })
}

fn lists(field: &str, desired: &[Value], live: &[Value]) -> bool {
    if desired.len() > live.len() || (desired.len() < live.len() && !OPEN_LISTS.contains(&field)) {
        return false;
    }
    match (names(desired), names(live)) {
        (Some(_), Some(_)) => desired.iter().all(|item| {
            let live = live.iter().find(|other| other.get("name") == item.get("name"));
            live.is_some_and(|live| subset(field, item, live))
        }),
        _ if OPEN_LISTS.contains(&field) => desired
            .iter()
            .all(|item| live.iter().any(|other| subset(field, item, other))),
        _ => desired
            .iter()
            .zip(live)
            .all(|(desired, live)| subset(field, desired, live)),
    }
}

/// The names of the items, if each item has a name of its own. Mounts have names too, but two mounts may be of one volume.
fn names(items: &[Value]) -> Option<BTreeSet<&str>> {
    let names: BTreeSet<&str> = items
        .iter()
        .map(|item| item.get("name")?.as_str())
        .collect::<Option<_>>()?;
    (names.len() == items.len()).then_some(names)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        // `resources: {limits: {}}` is as empty as `resources: {}`.
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_zero(value: &Value) -> bool {
    is_empty(value) || value == &Value::Bool(false) || value.as_i64() == Some(0)
}

#[cfg(test)]
mod tests;
