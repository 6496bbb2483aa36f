//! The CustomResourceDefinitions, as they are applied.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::cluster::MultiMasterCluster;

/// The CustomResourceDefinition as it is installed.
///
/// # Errors
/// When it cannot be converted to JSON and back, which would be a bug.
pub fn crd() -> serde_json::Result<CustomResourceDefinition> {
    let mut crd = serde_json::to_value(MultiMasterCluster::crd())?;
    drop_unsigned_formats(&mut crd);
    serde_json::from_value(crd)
}

/// The schema of a part of the resource, `spec` or `status`, with Rust's own formats of numbers.
pub(super) fn of(part: &str) -> Value {
    let crd = serde_json::to_value(MultiMasterCluster::crd()).unwrap_or_default();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
}

/// Removes the formats `uint8` and the like, which schemars writes for Rust's types. The API server warns of unknown formats at every apply.
fn drop_unsigned_formats(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let unsigned = |format: &Value| format.as_str().is_some_and(|format| format.starts_with("uint"));
            if map.get("format").is_some_and(unsigned) {
                map.remove("format");
            }
            map.values_mut().for_each(drop_unsigned_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_unsigned_formats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of texts, lists and maps without a limit. Texts of status are the operator's own.
    fn unlimited(path: &str, schema: &Value, without: &mut Vec<String>) {
        let is_listed = schema.get("enum").is_some() || schema["format"] == "date-time";
        let is_text = schema["type"] == "string" && !is_listed || schema["x-kubernetes-int-or-string"] == true;
        let is_map = schema.get("additionalProperties").is_some_and(Value::is_object)
            || schema["x-kubernetes-preserve-unknown-fields"] == true;
        for (is_one, limit) in [
            (is_text && path.starts_with("spec"), "maxLength"),
            (schema["type"] == "array", "maxItems"),
            (is_map, "maxProperties"),
        ] {
            if is_one && !schema[limit].is_number() {
                without.push(format!("{path}: {limit}"));
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            unlimited(&format!("{path}.{name}"), property, without);
        }
        for part in ["items", "additionalProperties"] {
            if let Some(part_schema) = schema.get(part).filter(|part| part.is_object()) {
                unlimited(&format!("{path}.{part}"), part_schema, without);
            }
        }
    }

    #[test]
    fn every_text_of_the_spec_and_every_list_and_map_has_a_limit() {
        let crd = serde_json::to_value(crd().unwrap()).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let mut without = Vec::new();
        for part in ["spec", "status"] {
            assert!(schema[part]["properties"].is_object(), "{part}");
            unlimited(part, &schema[part], &mut without);
        }
        assert_eq!(without, Vec::<String>::new());
    }
}
