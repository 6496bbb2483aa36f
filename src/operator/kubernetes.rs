//! Calls to the API server, each with a deadline. Without one the client itself would retry some answers for minutes.

use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::timeout;

use super::watched::Watched;
use crate::api::MultiMasterCluster;

/// Deadline of a call to the API server.
pub const API_DEADLINE: Duration = Duration::from_secs(5);

/// Why a call to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The API server refused, or cannot be reached.
    #[error("{what}: {source}")]
    Api {
        /// The object of the call.
        what: String,
        /// Its answer, or the failure.
        source: kube::Error,
    },
    /// The API server did not answer in time.
    #[error("{0}: the API server did not answer within {API_DEADLINE:?}")]
    Deadline(String),
}

impl KubernetesError {
    /// The resource is another one by now, or gone.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.is_conflict() || status.is_not_found())
    }
}

/// The resource as the API server has it now. The operator may list resources, and not get one by its name.
///
/// # Errors
/// [`KubernetesError`].
pub async fn fresh(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<MultiMasterCluster>, KubernetesError> {
    let api: Api<Watched> = Api::namespaced(client.clone(), namespace);
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let mut found = ask("MultiMasterCluster", api.list(&only)).await?.items;
    Ok(found.pop().map(|found| found.0))
}

/// Awaits an answer of the API server with a deadline.
///
/// # Errors
/// [`KubernetesError::Api`] when the API server refuses or cannot be reached, [`KubernetesError::Deadline`] when it does not answer in time.
pub async fn ask<T>(what: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, KubernetesError> {
    match timeout(API_DEADLINE, call).await {
        Ok(answer) => answer.map_err(|source| KubernetesError::Api {
            what: what.into(),
            source,
        }),
        Err(_) => Err(KubernetesError::Deadline(what.into())),
    }
}
