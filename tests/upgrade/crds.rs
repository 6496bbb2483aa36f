//! The CustomResourceDefinition only grows: the API server never prunes or refuses what a ring has, and an earlier operator, to which one can go
//! back without an earlier definition, reads what this one's schema makes of it.

use std::collections::BTreeSet;

use multimaster::api::crd;
use serde_json::{Map, Value};

use crate::VERSIONS;
use crate::kept::{rings, yaml};

/// New rules on properties that were there before, by path: each with a reason why it refuses no resource that is stored.
const HARMLESS_RULES: [(&str, &str); 2] = [
    // Of the sizes that it refuses no volume was made, and the rule before it could not compare most of them. The API server does not ask it again
    // about a size that is stored and stays (ratcheting, Kubernetes 1.30).
    (
        "/spec/storage/size",
        "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('1')) >= 0 && quantity(string(self)).compareTo(quantity('1Ei')) < 0",
    ),
    // It refuses a change only.
    (
        "/spec/database",
        "self.name == oldSelf.name && self.user == oldSelf.user",
    ),
];

/// New limits on properties that were there before, by path and key: the least that refuses no resource that is stored, and why. An API server
/// before 1.30 refuses every write of the status of a resource that is beyond a new limit.
const HARMLESS_LIMITS: [(&str, &str, u32); 28] = [
    // A reference has 255 characters of a name, 128 of a tag and 71 of a digest, beside the host.
    ("/spec/image", "maxLength", 1024),
    ("/spec/balancer/image", "maxLength", 1024),
    // No StorageClass, and no claim of a resource, has a longer name.
    ("/spec/storage/storageClassName", "maxLength", 253),
    ("/spec/resources/claims/items/name", "maxLength", 253),
    ("/spec/resources/claims/items/request", "maxLength", 253),
    ("/spec/balancer/resources/claims/items/name", "maxLength", 253),
    ("/spec/balancer/resources/claims/items/request", "maxLength", 253),
    // A rule has allowed 64 and 32 from the first version on.
    ("/spec/database/name", "maxLength", 64),
    ("/spec/database/user", "maxLength", 32),
    // 2^63-1 has 19 digits.
    ("/spec/storage/size", "maxLength", 64),
    ("/spec/resources/limits/additionalProperties", "maxLength", 64),
    ("/spec/resources/requests/additionalProperties", "maxLength", 64),
    ("/spec/balancer/resources/limits/additionalProperties", "maxLength", 64),
    (
        "/spec/balancer/resources/requests/additionalProperties",
        "maxLength",
        64,
    ),
    // mysqld reads lines of 4096 bytes.
    ("/spec/mysql/config/additionalProperties", "maxLength", 16_384),
    // There are cpu, memory, ephemeral-storage, huge pages, and those of device plugins.
    ("/spec/resources/limits", "maxProperties", 100),
    ("/spec/resources/requests", "maxProperties", 100),
    ("/spec/resources/claims", "maxItems", 100),
    ("/spec/balancer/resources/limits", "maxProperties", 100),
    ("/spec/balancer/resources/requests", "maxProperties", 100),
    ("/spec/balancer/resources/claims", "maxItems", 100),
    // A pod template has two fields.
    ("/spec/podTemplate", "maxProperties", 100),
    // A ring has 9 members at most, a server 256 channels, a comparison lists 20 differences, and there are 8 conditions.
    ("/status/memberStatuses", "maxItems", 9),
    ("/status/memberStatuses/items/links", "maxItems", 257),
    ("/status/comparison/differences", "maxItems", 20),
    ("/status/conditions", "maxItems", 100),
    // A volume remembers a life for each loss of its data, and agents of the version before one for each clone that failed. More than this is larger
    // than a resource may be.
    ("/status/memberStatuses/items/formerServerUUIDs", "maxItems", 40_000),
    ("/status/memberStatuses/items/kept", "maxItems", 40_000),
];

/// Keys of a schema that hold for a value: what was promised must stay so, word for word.
const SAME: [&str; 8] = [
    "type",
    "format",
    "default",
    "nullable",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
];
/// May go or rise.
const UPPER: [&str; 4] = ["maximum", "maxItems", "maxLength", "maxProperties"];
/// May go or sink.
const LOWER: [&str; 4] = ["minimum", "minItems", "minLength", "minProperties"];

#[test]
fn the_definition_only_grew() {
    for version in VERSIONS {
        let before = yaml(&format!("{version}/crds.yaml"));
        let wrong = shrunk(&before, &today());
        assert!(wrong.is_empty(), "since {version}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn nothing_that_is_stored_is_pruned_or_refused() {
    for version in VERSIONS {
        for ring in rings(version) {
            let mut wrong = Vec::new();
            fits("", schema(&today()), &ring.resource(), &mut wrong);
            assert!(wrong.is_empty(), "{}: {wrong:#?}", ring.name);
        }
    }
}

type Change<'a> = &'a dyn Fn(&mut Value);

/// Each of them would break a ring that exists, and is found.
#[test]
fn every_way_to_shrink_is_found() {
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    let member = &format!("{status}/properties/memberStatuses/items/properties");
    let number = serde_json::json!({"type": "integer"});
    let changes: [(&str, Change<'_>); 14] = [
        ("serverUUID", &|crd| remove(crd, member, "serverUUID")),
        ("epoch", &|crd| {
            put(crd, &format!("{status}/properties/epoch"), "type", "string".into())
        }),
        ("enum", &|crd| {
            let states = crd.pointer_mut(&format!("{member}/state/enum")).unwrap();
            states.as_array_mut().unwrap().pop();
        }),
        // An earlier operator cannot read it any more.
        ("enum", &|crd| {
            let states = crd.pointer_mut(&format!("{member}/state/enum")).unwrap();
            states.as_array_mut().unwrap().push("Archiving".into());
        }),
        ("required", &|crd| {
            put(crd, spec, "required", serde_json::json!(["storage", "backup"]))
        }),
        ("minimum", &|crd| {
            put(crd, &format!("{spec}/properties/members"), "minimum", 3.into())
        }),
        ("maxItems", &|crd| {
            put(
                crd,
                &format!("{spec}/properties/conflicts/properties/prefer"),
                "maxItems",
                8.into(),
            );
        }),
        ("maxLength", &|crd| {
            put(crd, &format!("{spec}/properties/image"), "maxLength", 8.into())
        }),
        ("pattern", &|crd| {
            put(crd, &format!("{spec}/properties/image"), "pattern", "^mysql".into())
        }),
        ("default", &|crd| {
            put(crd, &format!("{spec}/properties/members"), "default", 5.into())
        }),
        // The API server would write it into every resource, and an earlier operator refuses fields that it does not know.
        ("backup", &|crd| {
            let mut new = number.clone();
            new["default"] = 1.into();
            put(crd, &format!("{spec}/properties"), "backup", new);
        }),
        ("x-kubernetes-validations", &|crd| {
            let rule = serde_json::json!([{"rule": "self.members > 2"}]);
            put(
                crd,
                &format!("{spec}/properties/storage"),
                "x-kubernetes-validations",
                rule,
            );
        }),
        ("scope", &|crd| put(crd, "/spec", "scope", "Cluster".into())),
        ("preserve", &|crd| {
            remove(
                crd,
                &format!("{spec}/properties/podTemplate"),
                "x-kubernetes-preserve-unknown-fields",
            );
        }),
    ];
    for (named, change) in changes {
        let mut changed = today();
        change(&mut changed);
        let wrong = shrunk(&today(), &changed);
        assert!(wrong.iter().any(|wrong| wrong.contains(named)), "{named}: {wrong:?}");
    }
    // What any version may do.
    let mut grown = today();
    put(&mut grown, &format!("{spec}/properties"), "backup", number.clone());
    put(&mut grown, member, "archivedUpTo", number);
    assert_eq!(shrunk(&today(), &grown), Vec::<String>::new());
}

fn put(crd: &mut Value, at: &str, key: &str, value: Value) {
    let object = crd.pointer_mut(at).and_then(Value::as_object_mut);
    object.unwrap_or_else(|| panic!("{at}")).insert(key.into(), value);
}

fn remove(crd: &mut Value, at: &str, key: &str) {
    let object = crd.pointer_mut(at).and_then(Value::as_object_mut);
    assert!(object.unwrap().remove(key).is_some(), "{at}/{key}");
}

fn today() -> Value {
    serde_json::to_value(crd().unwrap()).unwrap()
}

fn schema(crd: &Value) -> &Value {
    &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// What a ring of `before` cannot do with `now`.
fn shrunk(before: &Value, now: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in [
        "/metadata/name",
        "/spec/group",
        "/spec/scope",
        "/spec/names/kind",
        "/spec/names/plural",
        "/spec/names/singular",
    ] {
        if before.pointer(path) != now.pointer(path) {
            wrong.push(format!("{path} is another"));
        }
    }
    for path in ["/spec/names/shortNames", "/spec/names/categories"] {
        let gone = &strings(before.pointer(path)) - &strings(now.pointer(path));
        wrong.extend(gone.iter().map(|name| format!("{path}: {name} is gone")));
    }
    for version in before["spec"]["versions"].as_array().unwrap() {
        let name = version["name"].as_str().unwrap();
        let versions = now["spec"]["versions"].as_array().unwrap();
        let Some(now) = versions.iter().find(|version| version["name"] == name) else {
            wrong.push(format!("version {name} is gone"));
            continue;
        };
        for key in ["served", "storage", "subresources"] {
            if version[key] != now[key] {
                wrong.push(format!("{name}: {key} is another"));
            }
        }
        let (before, now) = (&version["schema"]["openAPIV3Schema"], &now["schema"]["openAPIV3Schema"]);
        compare("", before, now, &mut wrong);
    }
    wrong
}

fn compare(path: &str, before: &Value, now: &Value, wrong: &mut Vec<String>) {
    let (Some(before), Some(now)) = (before.as_object(), now.as_object()) else {
        if before != now {
            wrong.push(format!("{path}: {before} became {now}"));
        }
        return;
    };
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for key in keys {
        let (was, is) = (before.get(key), now.get(key));
        if was == is {
            continue;
        }
        let fine = match key.as_str() {
            "description" => true,
            "properties" => {
                properties(path, was, is, wrong);
                true
            }
            "items" | "additionalProperties" if was.is_some() && is.is_some() => {
                compare(&format!("{path}/{key}"), &before[key], &now[key], wrong);
                true
            }
            "enum" => is.is_none() || was.is_some() && values(path, was, is),
            "required" => strings(is).is_subset(&strings(was)),
            "pattern" => is.is_none(),
            "x-kubernetes-validations" => rules(path, is).is_subset(&rules(path, was)),
            "x-kubernetes-preserve-unknown-fields" => is.is_some(),
            bound if UPPER.contains(&bound) => {
                is.is_none()
                    || number(was)
                        .or(harmless(path, bound))
                        .is_some_and(|was| number(is) >= Some(was))
            }
            bound if LOWER.contains(&bound) => is.is_none() || number(was).is_some_and(|was| number(is) <= Some(was)),
            // Nobody knows what it means here: as strict as can be.
            other => SAME.contains(&other) && was == is,
        };
        if !fine {
            let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".into(), Value::to_string);
            wrong.push(format!("{path}: {key} was {} and is {}", shown(was), shown(is)));
        }
    }
}

fn properties(path: &str, was: Option<&Value>, is: Option<&Value>, wrong: &mut Vec<String>) {
    let none = Map::new();
    let of = |value: Option<&'_ Value>| {
        value
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_else(|| none.clone())
    };
    let (was, is) = (of(was), of(is));
    for (name, schema) in &was {
        match is.get(name) {
            Some(now) => compare(&format!("{path}/{name}"), schema, now, wrong),
            None => wrong.push(format!("{path}/{name} is gone: what is stored there is pruned")),
        }
    }
    // What the API server puts there by itself, an operator of before refuses to read.
    let new = is.iter().filter(|(name, _)| !was.contains_key(*name));
    let defaulted = new.filter(|(_, schema)| schema.get("default").is_some());
    wrong.extend(defaulted.map(|(name, _)| format!("{path}/{name} is new and has a default")));
}

/// Whether all values may still be written; in status, also whether an operator of before can read all of them.
fn values(path: &str, was: Option<&Value>, is: Option<&Value>) -> bool {
    let (was, is) = (strings(was), strings(is));
    match path.starts_with("/status") {
        true => was == is,
        false => was.is_subset(&is),
    }
}

fn rules(path: &str, rules: Option<&Value>) -> BTreeSet<String> {
    let all = rules.and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|rule| rule["rule"].as_str())
        .filter(|rule| !HARMLESS_RULES.contains(&(path, *rule)))
        .map(ToOwned::to_owned)
        .collect()
}

fn strings(list: Option<&Value>) -> BTreeSet<String> {
    let all = list.and_then(Value::as_array).into_iter().flatten();
    all.map(|value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
        .collect()
}

/// The least new limit there that refuses nothing.
fn harmless(path: &str, bound: &str) -> Option<f64> {
    let mut limits = HARMLESS_LIMITS.iter();
    let limit = limits.find(|(at, key, _)| (*at, *key) == (path, bound));
    limit.map(|(_, _, least)| f64::from(*least))
}

fn number(value: Option<&Value>) -> Option<f64> {
    value?.as_f64()
}

/// What of a stored value has no place in a schema. Rules, which are CEL, are not carried out here.
fn fits(path: &str, schema: &Value, value: &Value, wrong: &mut Vec<String>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true || path.starts_with("/metadata") {
        return;
    }
    let type_ = schema["type"].as_str().unwrap_or_default();
    let right = match value {
        Value::Null => schema["nullable"] == true,
        Value::Bool(_) => type_ == "boolean",
        Value::Number(number) if type_ == "integer" => number.is_i64() || number.is_u64(),
        Value::Number(_) => type_ == "number" || schema["x-kubernetes-int-or-string"] == true,
        Value::String(_) => type_ == "string" || schema["x-kubernetes-int-or-string"] == true,
        Value::Array(_) => type_ == "array",
        Value::Object(_) => type_ == "object",
    };
    if !right {
        wrong.push(format!("{path}: {value} is no {type_}"));
    }
    let bound = |key: &str| number(schema.get(key));
    let size = match value {
        Value::Number(number) => number.as_f64().map(|number| (number, "minimum", "maximum")),
        Value::String(text) => Some((count(text.chars().count()), "minLength", "maxLength")),
        Value::Array(items) => Some((count(items.len()), "minItems", "maxItems")),
        Value::Object(object) => Some((count(object.len()), "minProperties", "maxProperties")),
        _ => None,
    };
    if let Some((size, low, high)) = size
        && (bound(low).is_some_and(|low| size < low) || bound(high).is_some_and(|high| size > high))
    {
        wrong.push(format!("{path}: {value} is beyond {low} or {high}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !value.is_null()
        && !allowed.contains(value)
    {
        wrong.push(format!("{path}: {value} is none of {allowed:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(&format!("{path}[]"), &schema["items"], item, wrong);
    }
    let Some(object) = value.as_object() else { return };
    let named = |name: &String| schema["properties"].get(name).or(schema.get("additionalProperties"));
    for (name, value) in object {
        let path = format!("{path}/{name}");
        match named(name) {
            Some(schema) => fits(&path, schema, value, wrong),
            None if ["/apiVersion", "/kind", "/metadata"].contains(&path.as_str()) => {}
            None => wrong.push(format!("{path} is pruned")),
        }
    }
    let missing = &strings(schema.get("required")) - &object.keys().cloned().collect();
    wrong.extend(missing.iter().map(|name| format!("{path}/{name} is wanting")));
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}
