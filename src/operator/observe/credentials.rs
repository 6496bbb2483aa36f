//! Reads the two Secrets of a cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::runtime::events::EventType;
use kube::{Api, Client, ResourceExt};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use crate::api::MultiMasterCluster;
use crate::api::reasons::{EventReason, Reason};
use crate::decide::observed::Problem;
use crate::names;
use crate::operator::kubernetes::{KubernetesError, ask};
use crate::operator::members::Credentials;
use crate::operator::shared::Context;
use crate::resources::secrets::{against_pruning, foreign_secret, may_be_pruned, missing_keys, unusable};

/// How long the operator uses Secrets without reading them again. They hardly ever change.
const SECRETS_FRESH: Duration = Duration::from_secs(30);

/// The contents of both Secrets. They are read again if the last reading is older than [`SECRETS_FRESH`].
///
/// # Errors
/// As [`read`].
pub async fn remembered(
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<Result<Option<Credentials>, Problem>, KubernetesError> {
    let uid = cluster.uid().unwrap_or_default();
    if let Some((read, credentials)) = context.recall(&uid).credentials
        && read.elapsed() < SECRETS_FRESH
    {
        return Ok(Ok(Some(credentials)));
    }
    let (passwords, tls) = secrets(cluster, &context.client).await?;
    let prey = |passwords: &&Secret| cluster.is_founded() && may_be_pruned(passwords);
    if let Some(passwords) = passwords.as_ref().filter(prey) {
        let (reason, message) = (EventReason::SecretMayBePruned, against_pruning(passwords));
        let mut is_told = false;
        context.remember(&uid, |memory| {
            is_told = std::mem::replace(&mut memory.pruning_is_told, true)
        });
        if !is_told {
            context.publish(cluster, EventType::Warning, reason, message, None);
        }
    }
    let found = judged(cluster, passwords, tls);
    if let Ok(Some(credentials)) = &found {
        context.remember(&uid, |memory| {
            memory.credentials = Some((Instant::now(), credentials.clone()))
        });
    }
    Ok(found)
}

/// Reads both Secrets. `None`: they do not exist yet. A [`Problem`]: one is gone or incomplete.
///
/// # Errors
/// [`KubernetesError`] when the API server cannot be asked. A Secret that is gone or incomplete is the inner `Err`.
pub async fn read(
    cluster: &MultiMasterCluster,
    client: &Client,
) -> Result<Result<Option<Credentials>, Problem>, KubernetesError> {
    let (passwords, tls) = secrets(cluster, client).await?;
    Ok(judged(cluster, passwords, tls))
}

/// The Secrets with the passwords and with the certificates.
async fn secrets(
    cluster: &MultiMasterCluster,
    client: &Client,
) -> Result<(Option<Secret>, Option<Secret>), KubernetesError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    let name = cluster.name_any();
    Ok((
        ask("Secret", api.get_opt(&names::credentials_secret(&name))).await?,
        ask("Secret", api.get_opt(&names::tls_secret(&name))).await?,
    ))
}

fn judged(
    cluster: &MultiMasterCluster,
    passwords: Option<Secret>,
    tls: Option<Secret>,
) -> Result<Option<Credentials>, Problem> {
    let (passwords_name, tls_name) = (
        names::credentials_secret(&cluster.name_any()),
        names::tls_secret(&cluster.name_any()),
    );
    let founded = cluster.is_founded();
    // Nothing is read out of a Secret that is not this cluster's. Whoever applies the objects says it.
    let is_ours = |secret: &Secret| founded || foreign_secret(secret, cluster).is_none();
    if ![&passwords, &tls].into_iter().flatten().all(is_ours) {
        return Ok(None);
    }
    let problem = |message: String| -> Result<Option<Credentials>, Problem> {
        Err(Problem {
            reason: Reason::CredentialsIncomplete,
            message,
        })
    };
    let (passwords, tls) = match (passwords, tls) {
        (Some(passwords), Some(tls)) => (passwords, tls),
        // The running servers do not know new passwords or certificates.
        (None, _) if founded => {
            return problem(format!(
                "Secret {passwords_name}: is gone, and its passwords are in use; create it again with its old contents"
            ));
        }
        (_, None) if founded => {
            return problem(format!(
                "Secret {tls_name}: is gone, and its certificates are in use; create it again with its old contents"
            ));
        }
        // Made beforehand. Nothing starts with what cannot be used.
        (Some(passwords), None) => {
            let missing = missing_keys(&passwords);
            let why = (!missing.is_empty()).then(|| lacking(&passwords_name, &missing));
            let why = why.or_else(|| unusable(&passwords).map(|why| format!("Secret {passwords_name}: {why}")));
            return why.map_or(Ok(None), problem);
        }
        _ => return Ok(None),
    };
    let missing = missing_keys(&passwords);
    if !missing.is_empty() {
        return problem(lacking(&passwords_name, &missing));
    }
    // Those of a founded ring are in use.
    if let Some(why) = unusable(&passwords).filter(|_| !founded) {
        return problem(format!("Secret {passwords_name}: {why}"));
    }
    let host = names::member_host(&cluster.name_any(), &cluster.namespace().unwrap_or_default(), 0);
    let certificate = tls.data.as_ref().and_then(|data| data.get("tls.crt"));
    if !founded && certificate.is_some_and(|certificate| !names_host(&certificate.0, &host)) {
        return Err(Problem {
            reason: Reason::CopiedSecret,
            message: copied(cluster, &tls_name, &host),
        });
    }
    let authority = tls
        .data
        .as_ref()
        .and_then(|data| data.get("ca.crt"))
        .map(|value| value.0.clone());
    let Some(authority) = authority else {
        return problem(lacking(&tls_name, &["ca.crt"]));
    };
    let text = |data: BTreeMap<String, k8s_openapi::ByteString>| {
        data.into_iter()
            .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
            .collect()
    };
    let credentials = Credentials::new(text(passwords.data.unwrap_or_default()), authority);
    Ok(Some(credentials))
}

/// Whether a certificate is for this host. One that cannot be read counts as such: whoever uses it says what is wrong with it.
fn names_host(pem: &[u8], host: &str) -> bool {
    let (Ok(certificate), Ok(host)) = (CertificateDer::from_pem_slice(pem), ServerName::try_from(host)) else {
        return true;
    };
    let Ok(certificate) = EndEntityCert::try_from(&certificate) else {
        return true;
    };
    certificate.verify_is_valid_for_subject_name(&host).is_ok()
}

fn copied(cluster: &MultiMasterCluster, secret: &str, host: &str) -> String {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    format!(
        "Secret {secret}: its certificate is not for {host}, so it was copied from another cluster, and no member of this one can be asked anything. \
         Delete it, and then the pods that have it; the operator makes another: kubectl delete secret -n {namespace} {secret} && \
         kubectl delete pod -n {namespace} -l {}={name}",
        names::LABEL_CLUSTER
    )
}

fn lacking(secret: &str, keys: &[&str]) -> String {
    format!(
        "Secret {secret}: lacks {}; add {}, or delete the Secret while the cluster has no data yet",
        keys.join(", "),
        if keys.len() == 1 { "it" } else { "them" }
    )
}

#[cfg(test)]
mod tests {
    use super::names_host;

    #[test]
    fn a_certificate_is_for_the_hosts_that_it_names() {
        let names = ["demo-0.demo-members.shop.svc", "*.demo-members.wild.svc"].map(Into::into);
        let certificate = rcgen::generate_simple_self_signed(names).unwrap().cert.pem();
        for (host, expected) in [
            ("demo-0.demo-members.shop.svc", true),
            ("demo-0.demo-members.wild.svc", true),
            ("demo-0.demo-members.staging.svc", false),
            ("demo-0.other-members.shop.svc", false),
        ] {
            assert_eq!(names_host(certificate.as_bytes(), host), expected, "{host}");
        }
        assert!(names_host(b"no certificate", "demo-0.demo-members.shop.svc"));
    }
}
