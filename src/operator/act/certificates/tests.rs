//! The certificates as the two sides of a link see them: OpenSSL in mysqld, rustls in operator and agent.

use std::process::Command;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;

use super::*;

fn cluster(name: &str, namespace: &str) -> MultiMasterCluster {
    serde_json::from_value(json!({
        "apiVersion": "multimaster.dev/v1alpha1",
        "kind": "MultiMasterCluster",
        "metadata": { "name": name, "namespace": namespace, "uid": "1" },
        "spec": { "storage": { "size": "1Gi" } },
    }))
    .unwrap()
}

fn file<'a>(secret: &'a Secret, name: &str) -> &'a [u8] {
    &secret.data.as_ref().unwrap()[name].0
}

fn certificate(secret: &Secret, name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(file(secret, name)).unwrap()
}

fn roots(secret: &Secret) -> Arc<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(secret, "ca.crt")).unwrap();
    Arc::new(roots)
}

#[test]
fn rustls_trusts_every_member_by_name_and_as_a_client() {
    let secret = issue(&cluster("demo", "shop")).unwrap();
    let provider = Arc::new(default_provider());
    let server = WebPkiServerVerifier::builder_with_provider(roots(&secret), provider.clone())
        .build()
        .unwrap();
    let member = certificate(&secret, "tls.crt");
    let verify = |name: &str, verifier: &WebPkiServerVerifier| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier
            .verify_server_cert(&member, &[], &name, &[], UnixTime::now())
            .is_ok()
    };
    for ordinal in 0..MAX_MEMBERS {
        assert!(
            verify(&names::member_host("demo", "shop", ordinal), &server),
            "{ordinal}"
        );
    }
    for name in [
        "demo",
        "demo.shop",
        "demo.shop.svc",
        "demo.shop.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "::1",
    ] {
        assert!(verify(name, &server), "{name}");
    }
    assert!(!verify(&names::member_host("demo", "shop", 9), &server));
    assert!(!verify(&names::member_host("demo", "other", 0), &server));

    let client = WebPkiClientVerifier::builder_with_provider(roots(&secret), provider.clone())
        .build()
        .unwrap();
    assert!(client.verify_client_cert(&member, &[], UnixTime::now()).is_ok());

    let stranger = issue(&cluster("demo", "shop")).unwrap();
    let stranger = WebPkiServerVerifier::builder_with_provider(roots(&stranger), provider.clone())
        .build()
        .unwrap();
    assert!(!verify("demo", &stranger), "an authority of its own for each cluster");

    let key = PrivateKeyDer::from_pem_slice(file(&secret, "tls.key")).unwrap();
    let pair = rustls::sign::CertifiedKey::from_der(vec![member.clone()], key, &provider).unwrap();
    pair.keys_match().unwrap();
}

#[test]
fn the_secret_is_a_tls_secret_with_an_owner() {
    let secret = issue(&cluster("demo", "shop")).unwrap();
    assert_eq!(secret.metadata.name.as_deref(), Some("demo-tls"));
    assert_eq!(
        secret.metadata.owner_references.as_ref().unwrap()[0].controller,
        Some(true)
    );
    let files: Vec<&str> = secret.data.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(files, ["ca.crt", "ca.key", "tls.crt", "tls.key"]);
}

#[test]
fn the_longest_names_fit() {
    issue(&cluster(&"c".repeat(40), &"n".repeat(63))).unwrap();
}

/// mysqld uses OpenSSL, whose strict mode also asks for key identifiers. A machine without the tool has rustls' word only.
#[test]
fn openssl_accepts_them_strictly() {
    let secret = issue(&cluster("demo", "shop")).unwrap();
    let folder = std::env::temp_dir().join(format!("multimaster-certificates-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["ca.crt", "tls.crt"] {
        std::fs::write(folder.join(name), file(&secret, name)).unwrap();
    }
    let host = names::member_host("demo", "shop", 8);
    for purpose in ["sslserver", "sslclient"] {
        let mut openssl = Command::new("openssl");
        openssl
            .current_dir(&folder)
            .args(["verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", &host]);
        match openssl.args(["-CAfile", "ca.crt", "tls.crt"]).output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("skipped: openssl: {error}"),
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
