//! The Secret with the passwords. It is created once and never applied over, because the servers on old volumes know the old passwords.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use super::object::{owner, unowned};
use crate::api::{MultiMasterCluster, Reclaim};
use crate::names;

/// 64 symbols for six bits each. They are letters and digits only, so that a password can be pasted into a shell, a URL or a my.cnf as it is. Two
/// digits come twice, which leaves 190 bits.
const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz012345678901";

/// Secret `<cluster>-credentials`. `random` returns random bytes of the operating system. It is called once for each password.
pub fn credentials(cluster: &MultiMasterCluster, mut random: impl FnMut() -> [u8; 24]) -> Secret {
    let mut metadata = unowned(cluster, names::credentials_secret(&cluster.name_any()));
    metadata.owner_references = credentials_owner(cluster).map(|owner| vec![owner]);
    let passwords = names::keys::ALL.map(|key| (key.to_owned(), ByteString(password(random()))));
    Secret {
        metadata,
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from(passwords)),
        ..Secret::default()
    }
}

/// The owner of a new credentials Secret. With `reclaim: Delete` the cluster owns it, so it is deleted with the cluster; with `Retain` it stays for
/// the volumes. A later change of `reclaim` does not change the owner, because the Secret is never applied over.
pub fn credentials_owner(cluster: &MultiMasterCluster) -> Option<OwnerReference> {
    match cluster.spec.storage.reclaim {
        Reclaim::Retain => None,
        Reclaim::Delete => owner(cluster),
    }
}

/// The keys that are missing or empty in a credentials Secret.
pub fn missing_keys(secret: &Secret) -> Vec<&'static str> {
    let has = |key: &&str| {
        let value = secret.data.as_ref().and_then(|data| data.get(*key));
        value.is_some_and(|value| !value.0.is_empty())
    };
    names::keys::ALL.into_iter().filter(|key| !has(key)).collect()
}

/// 24 bytes are 32 symbols of six bits.
fn password(random: [u8; 24]) -> Vec<u8> {
    let symbols = random.chunks_exact(3).flat_map(|bytes| {
        let bits = bytes.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
        [18, 12, 6, 0].map(|shift| SYMBOLS[(bits >> shift & 63) as usize])
    });
    symbols.collect()
}
