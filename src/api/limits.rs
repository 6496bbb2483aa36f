//! Limits of texts, lists and maps that the derived schema cannot name at a field: those of Kubernetes' own types, and of the values of a map.
//!
//! A limit that a ring exceeds would stop the operator: an API server before 1.30 refuses every write of the status of a resource whose spec is
//! beyond the schema. So each limit is far above what works. [`super::schema`] has the test that nothing is without one.

use schemars::Schema;
use serde_json::Value;

/// Resources, claims and names in the resource requirements of a container.
const MOST_RESOURCES: u32 = 100;
/// Characters of a name; no object of Kubernetes has a longer one.
const MOST_OF_NAME: u32 = 253;
/// Characters of a quantity.
const MOST_OF_QUANTITY: u32 = 64;
/// Characters of a MySQL setting; mysqld itself reads lines of 4096 bytes.
const MOST_OF_SETTING: u32 = 16_384;

/// Limits the resource requirements of a container.
pub fn resources(schema: &mut Schema) {
    for map in ["limits", "requests"] {
        put(schema, &format!("/properties/{map}"), "maxProperties", MOST_RESOURCES);
        let value = format!("/properties/{map}/additionalProperties");
        put(schema, &value, "maxLength", MOST_OF_QUANTITY);
    }
    put(schema, "/properties/claims", "maxItems", MOST_RESOURCES);
    for name in ["name", "request"] {
        let at = format!("/properties/claims/items/properties/{name}");
        put(schema, &at, "maxLength", MOST_OF_NAME);
    }
}

/// Limits the values of a map of settings.
pub fn values(schema: &mut Schema) {
    put(schema, "/additionalProperties", "maxLength", MOST_OF_SETTING);
}

/// What is not there is found by the test.
fn put(schema: &mut Schema, at: &str, key: &str, limit: u32) {
    if let Some(Value::Object(found)) = schema.pointer_mut(at) {
        found.insert(key.into(), limit.into());
    }
}
