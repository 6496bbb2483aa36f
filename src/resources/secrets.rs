//! The Secret with the passwords. It is created once and never applied over, because the servers on old volumes know the old passwords.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use webpki::EndEntityCert;

use super::foreign::{Foreign, foreign};
use super::labels;
use super::object::{owner, unowned};
use crate::api::{MultiMasterCluster, Reclaim};
use crate::names;

/// 64 symbols for six bits each. They are letters and digits only, so that a password can be pasted into a shell, a URL or a my.cnf as it is. Two
/// digits come twice, which leaves 190 bits.
const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz012345678901";

/// The most characters of the password of a link (manual, "CHANGE REPLICATION SOURCE TO").
const MOST_OF_LINKS: usize = 32;
/// The most bytes of the others. MySQL takes 256.
const MOST: usize = 128;

/// Keys that no Secret of another product has.
const OWN_KEYS: [&str; 4] = [
    names::keys::OPERATOR,
    names::keys::AGENT,
    names::keys::REPLICATION,
    names::keys::AGENT_TOKEN,
];

/// The annotation that Argo CD's options of an object are in.
const SYNC_OPTIONS: &str = "argocd.argoproj.io/sync-options";

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

/// Whether a Secret with passwords or certificates is not this cluster's. What an ExternalSecret, a SealedSecret or a Certificate owns is, if it has the
/// label. One that was restored without its metadata, or made by a person beforehand, is known by what is in it: a password of this product's own
/// accounts, or a certificate of members.
pub fn foreign_secret(secret: &Secret, cluster: &MultiMasterCluster) -> Option<Foreign> {
    let foreign = foreign(&secret.metadata, cluster)?;
    let has = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let is_known = match secret.labels().get(names::LABEL_CLUSTER) {
        Some(label) => *label == cluster.name_any(),
        None if secret.name_any() == names::tls_secret(&cluster.name_any()) => {
            has("tls.crt").is_some_and(|certificate| is_of_members(&certificate.0))
        }
        None => OWN_KEYS.into_iter().any(|key| has(key).is_some()),
    };
    (!is_known || matches!(foreign, Foreign::Earlier(_))).then_some(foreign)
}

fn is_of_members(pem: &[u8]) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_slice(pem) else {
        return false;
    };
    let Ok(certificate) = EndEntityCert::try_from(&certificate) else {
        return false;
    };
    let mut hosts = certificate.valid_dns_names();
    hosts.any(names::is_member_host)
}

/// Whether Argo CD, where it tracks objects by label, would prune a Secret: an earlier version made it with the label of an application and without an
/// owner.
pub fn may_be_pruned(secret: &Secret) -> bool {
    let says = |object: &Option<BTreeMap<String, String>>, key: &str, value: &str| {
        let found = object.as_ref().and_then(|all| all.get(key));
        found.is_some_and(|found| found.contains(value))
    };
    secret.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
        && says(&secret.metadata.labels, labels::INSTANCE, "")
        && !says(&secret.metadata.annotations, SYNC_OPTIONS, "Prune=false")
}

/// What to do about such a Secret.
pub fn against_pruning(secret: &Secret) -> String {
    let (name, namespace) = (secret.name_any(), secret.namespace().unwrap_or_default());
    format!(
        "Secret {name} has the label {}, by which Argo CD may prune it, and the passwords in it are in use: kubectl annotate secret -n {namespace} {name} \
         {SYNC_OPTIONS}=Prune=false,Delete=false",
        labels::INSTANCE
    )
}

/// The keys that are missing or empty in a credentials Secret.
pub fn missing_keys(secret: &Secret) -> Vec<&'static str> {
    let has = |key: &&str| {
        let value = secret.data.as_ref().and_then(|data| data.get(*key));
        value.is_some_and(|value| !value.0.is_empty())
    };
    names::keys::ALL.into_iter().filter(|key| !has(key)).collect()
}

/// Keys of a credentials Secret whose values cannot be used, and why. Nothing of a value is told.
pub fn unusable(secret: &Secret) -> Option<String> {
    let told = |key: &'static str| {
        let value = secret.data.as_ref()?.get(key)?;
        Some(format!("{key} {}", wrong(key, &value.0)?))
    };
    let all: Vec<String> = names::keys::ALL.into_iter().filter_map(told).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn wrong(key: &str, value: &[u8]) -> Option<String> {
    let Ok(text) = str::from_utf8(value) else {
        return Some("is not UTF-8".into());
    };
    // MySQL takes no line break in the password of a link (1525), and no HTTP header has one.
    if text.ends_with('\n') {
        return Some("ends with a line break, as a file does; write it with printf or --from-literal".into());
    }
    if text.chars().any(char::is_control) {
        return Some("has a control character".into());
    }
    // Of a header's value the spaces at its ends are left out.
    if key == names::keys::AGENT_TOKEN && (!text.is_ascii() || text.trim() != text) {
        return Some("has more than the visible characters of ASCII, or a space at an end".into());
    }
    let characters = text.chars().count();
    if key == names::keys::REPLICATION && characters > MOST_OF_LINKS {
        return Some(format!("has {characters} characters; the most are {MOST_OF_LINKS}"));
    }
    (value.len() > MOST).then(|| format!("has {} bytes; the most are {MOST}", value.len()))
}

/// 24 bytes are 32 symbols of six bits.
fn password(random: [u8; 24]) -> Vec<u8> {
    let symbols = random.chunks_exact(3).flat_map(|bytes| {
        let bits = bytes.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
        [18, 12, 6, 0].map(|shift| SYMBOLS[(bits >> shift & 63) as usize])
    });
    symbols.collect()
}
