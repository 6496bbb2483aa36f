//! The cluster's certificate authority and its members' certificate.
//!
//! All members have one certificate: they trust each other wholly anyway, and all pods of a StatefulSet mount the same Secret.

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};

use crate::api::{MAX_MEMBERS, MultiMasterCluster};
use crate::names;
use crate::resources;

/// How long certificates are valid. It is long, because a member that was down for months must still be able to join its ring.
const YEARS: i16 = 10;

/// Makes the Secret `<cluster>-tls`: `ca.crt`, `ca.key`, `tls.crt`, `tls.key`. The certificate has the names of all members that there can ever be,
/// so it stays when the ring grows.
///
/// # Errors
/// When a key cannot be made, a name is not a DNS name, or a certificate cannot be signed.
pub fn issue(cluster: &MultiMasterCluster) -> Result<Secret, rcgen::Error> {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();

    let mut ca = params(Vec::new(), &format!("{name} MultiMasterCluster CA"))?;
    // The authority signs members' certificates, and no further authority.
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let ca_certificate = ca.self_signed(&ca_key)?;

    let mut member = params(host_names(&name, &namespace), &format!("{name} member"))?;
    member.is_ca = IsCa::ExplicitNoCa;
    member.use_authority_key_identifier_extension = true;
    member.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A member is a server for its downstream and a client of its upstream.
    member.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let member_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let member_certificate = member.signed_by(&member_key, &Issuer::from_params(&ca, &ca_key))?;

    let files = [
        ("ca.crt", ca_certificate.pem()),
        ("ca.key", ca_key.serialize_pem()),
        ("tls.crt", member_certificate.pem()),
        ("tls.key", member_key.serialize_pem()),
    ];
    let data = files.map(|(file, pem)| (file.to_owned(), ByteString(pem.into_bytes())));
    Ok(Secret {
        metadata: resources::object::owned(cluster, names::tls_secret(&name)),
        type_: Some("kubernetes.io/tls".into()),
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    })
}

/// Every DNS name and address of a member, and of the Services in front of members.
fn host_names(cluster: &str, namespace: &str) -> Vec<String> {
    let mut names = Vec::new();
    for ordinal in 0..MAX_MEMBERS {
        let host = names::member_host(cluster, namespace, ordinal);
        names.push(format!("{host}.cluster.local"));
        names.push(host);
    }
    for name in [cluster.to_owned(), names::reads_service(cluster)] {
        let service = format!("{name}.{namespace}.svc");
        names.extend([
            format!("{name}.{namespace}"),
            format!("{service}.cluster.local"),
            service,
            name,
        ]);
    }
    names.extend(["localhost", "127.0.0.1", "::1"].map(Into::into));
    names
}

fn params(names: Vec<String>, common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Valid since yesterday, because clocks of nodes differ.
    let yesterday = SystemTime::now() - std::time::Duration::from_secs(24 * 60 * 60);
    params.not_before = yesterday.into();
    params.not_after = params
        .not_before
        .replace_year(params.not_before.year() + i32::from(YEARS))
        .unwrap_or(params.not_before);
    Ok(params)
}

#[cfg(test)]
mod tests;
