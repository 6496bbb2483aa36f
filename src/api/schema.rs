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
