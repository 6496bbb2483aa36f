//! Calls to the API server, each with a deadline: the client itself retries some answers for minutes.

use std::time::Duration;

use tokio::time::timeout;

/// Deadline of a call to the API server.
pub const API_DEADLINE: Duration = Duration::from_secs(5);

/// Why a call to the API server did not work out.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The API server said no.
    #[error("{what}: {source}")]
    Api {
        /// What it was about.
        what: String,
        /// Its answer.
        source: kube::Error,
    },
    /// The API server did not answer in time.
    #[error("{0}: the API server did not answer within {API_DEADLINE:?}")]
    Deadline(String),
}

/// Awaits an answer of the API server with a deadline.
///
/// # Errors
/// [`KubernetesError`].
pub async fn ask<T>(what: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, KubernetesError> {
    match timeout(API_DEADLINE, call).await {
        Ok(answer) => answer.map_err(|source| KubernetesError::Api {
            what: what.into(),
            source,
        }),
        Err(_) => Err(KubernetesError::Deadline(what.into())),
    }
}
