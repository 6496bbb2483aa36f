//! Certificates for the servers of a test, and the authority that signed them.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// Writes `ca.crt`, and `tls.crt` with `tls.key` for these names, into a folder; returns the authority's certificate, PEM.
pub fn certify(folder: &Path, names: Vec<SanType>) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // To OpenSSL a certificate whose subject is its issuer has signed itself.
    params.distinguished_name.push(DnType::CommonName, "authority");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names;
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    for (name, pem) in [
        ("ca.crt", issuer.pem()),
        ("tls.crt", certificate.pem()),
        ("tls.key", key.serialize_pem()),
    ] {
        fs::write(folder.join(name), pem).unwrap();
    }
    issuer.pem()
}
