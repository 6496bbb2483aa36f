//! Reads what a watch delivers: each resource by itself, whatever is in it. One that cannot be read would end the list of all.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::api::MultiMasterCluster;

/// Levels of a resource that are read. serde_json gives up at 128, and the API server stores more.
const DEPTH: usize = 64;

/// A resource as the API server sends it.
#[derive(Clone, Debug)]
pub struct Watched(pub MultiMasterCluster);

impl Resource for Watched {
    type DynamicType = ();
    type Scope = <MultiMasterCluster as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        MultiMasterCluster::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        MultiMasterCluster::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        MultiMasterCluster::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        MultiMasterCluster::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

impl Serialize for Watched {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Watched {
    /// Fails only where it is no JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Levels(DEPTH).deserialize(deserializer)?;
        // Nobody asks who wrote which field, and it is as deep as the resource.
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            metadata.remove("managedFields");
        }
        let metadata = object["metadata"].clone();
        MultiMasterCluster::deserialize(object)
            .or_else(|_| MultiMasterCluster::deserialize(named(metadata)))
            .or_else(|_| MultiMasterCluster::deserialize(named(json!({}))))
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// A resource of which only the metadata is known.
fn named(metadata: Value) -> Value {
    let (api, kind) = (MultiMasterCluster::api_version(&()), MultiMasterCluster::kind(&()));
    // No spec that this version knows.
    json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": {"unreadable": true}})
}

/// Reads JSON down to a level. What is deeper is left out, and nulls are there in its place.
struct Levels(usize);

impl<'de> DeserializeSeed<'de> for Levels {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Levels {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let Some(below) = self.0.checked_sub(1) else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self(below))? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Some(below) = self.0.checked_sub(1) else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            fields.insert(key, map.next_value_seed(Self(below))?);
        }
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use kube::api::{ObjectList, WatchEvent};

    use super::*;

    fn resource(name: &str, spec: &str, managed: &str) -> String {
        format!(
            r#"{{"apiVersion": "multimaster.dev/v1alpha1", "kind": "MultiMasterCluster",
            "metadata": {{"name": "{name}", "namespace": "x", "uid": "u", "generation": 7, "managedFields": [{{"fieldsV1": {managed}}}]}},
            "spec": {spec}}}"#
        )
    }

    #[test]
    fn one_that_cannot_be_read_hides_no_other() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(9000), "}".repeat(9000));
        let lists = format!("{}1{}", "[".repeat(9000), "]".repeat(9000));
        let poison = [
            format!(r#"{{"storage": {{"size": "1Gi"}}, "podTemplate": {deep}}}"#),
            format!(r#"{{"storage": {{"size": "1Gi"}}, "podTemplate": {{"spec": {lists}}}}}"#),
            r#"{"storage": {"size": "1Gi"}, "podTemplate": {"spec": {"nodeSelector": {"gpu": true}}}}"#.to_owned(),
            r#"{"members": {}, "storage": 7}"#.to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
            deep.clone(),
        ];
        let healthy = resource("healthy", r#"{"members": 5, "storage": {"size": "1Gi"}}"#, "{}");
        let mut items = vec![healthy.clone()];
        items.extend(poison.iter().map(|spec| resource("poison", spec, &deep)));
        items.push(healthy);
        let list = format!(
            r#"{{"apiVersion": "multimaster.dev/v1alpha1", "kind": "MultiMasterClusterList", "metadata": {{}}, "items": [{}]}}"#,
            items.join(", ")
        );
        let list: ObjectList<Watched> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.items.len(), poison.len() + 2);
        for item in &list.items {
            assert_eq!(
                (item.namespace().unwrap(), item.meta().generation),
                ("x".to_owned(), Some(7))
            );
            let is_healthy = item.name_any() == "healthy";
            assert!(!is_healthy || item.0.spec.members == 5 && item.0.spec.unknown.is_empty());
        }
        for item in items {
            let event = format!(r#"{{"type": "MODIFIED", "object": {item}}}"#);
            let event: WatchEvent<Watched> = serde_json::from_str(&event).unwrap();
            assert!(matches!(event, WatchEvent::Modified(_)));
        }
    }

    #[test]
    fn what_is_read_is_read_as_before() {
        let text = include_str!("../../manifests/full.yaml");
        let value: Value = serde_yaml_ng::from_str(text).unwrap();
        let watched: Watched = serde_json::from_str(&value.to_string()).unwrap();
        let plain: MultiMasterCluster = serde_json::from_value(value).unwrap();
        assert_eq!(watched.0, plain);
    }
}
