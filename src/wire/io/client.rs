//! The client of an agent or a balancer: HTTPS to its closed port, with the token.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::agent::LONGEST_ORDER;

/// Deadline for a connection to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// The most bytes of an answer. A report has some KiB; the history of an HAProxy pod is the longest.
const LONGEST_ANSWER: usize = 16 << 20;
/// Bytes of a refusal that are shown to people.
const LONGEST_REFUSAL: usize = 4 << 10;

/// Why a request to an agent or balancer failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The network, TLS or the deadline.
    #[error("{}", with_causes(.0))]
    Http(#[from] reqwest::Error),
    /// The answer is longer than an agent's can be.
    #[error("its answer is longer than {} MiB", LONGEST_ANSWER >> 20)]
    TooLong,
    /// The order is longer than an agent reads.
    #[error("the order has {bytes} bytes, and an agent reads at most {} MiB of it", LONGEST_ORDER >> 20)]
    OrderTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The answer is not the JSON that was expected.
    #[error("its answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It answered with another status than success.
    #[error("it refused ({status}): {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Text of the answer.
        body: String,
    },
}

/// The text of an error with its causes, which reqwest's own text leaves out.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The client of one agent or balancer.
#[derive(Clone)]
pub struct AgentClient {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl AgentClient {
    /// A client of the agent at this address and port. Its certificate must name the host and be signed by the authority (PEM).
    ///
    /// # Errors
    /// [`AgentError::Http`] when the authority's certificate cannot be used.
    pub fn new(ip: IpAddr, host: &str, port: u16, authority: &[u8], token: String) -> Result<Self, AgentError> {
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(authority)?])
            .resolve(host, SocketAddr::new(ip, port))
            .connect_timeout(CONNECT_DEADLINE)
            .no_proxy()
            .build()?;
        let url = format!("https://{host}:{port}");
        Ok(Self { http, url, token })
    }

    /// GET.
    ///
    /// # Errors
    /// [`AgentError`] when there is no answer within the deadline, a refusal, or an answer that is not a `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, deadline: Duration) -> Result<T, AgentError> {
        let answer = self.answer(path, deadline).await?;
        Ok(serde_json::from_slice(&body(answer, LONGEST_ANSWER).await?)?)
    }

    /// GET for a request whose answer is only yes or no.
    ///
    /// # Errors
    /// [`AgentError`] when there is no answer within the deadline, or a refusal.
    pub async fn ask(&self, path: &str, deadline: Duration) -> Result<(), AgentError> {
        self.answer(path, deadline).await.map(drop)
    }

    async fn answer(&self, path: &str, deadline: Duration) -> Result<reqwest::Response, AgentError> {
        let request = self.http.get(format!("{}{path}", self.url));
        let response = request.bearer_auth(&self.token).timeout(deadline).send().await?;
        accepted(response).await
    }

    /// POST.
    ///
    /// # Errors
    /// [`AgentError`] when there is no answer within the deadline, or a refusal; [`AgentError::OrderTooLong`] if nothing was sent.
    pub async fn post<T: Serialize + Sync>(&self, path: &str, order: &T, deadline: Duration) -> Result<(), AgentError> {
        let response = self
            .http
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .header(CONTENT_TYPE, "application/json")
            .body(written(order)?)
            .timeout(deadline)
            .send()
            .await?;
        accepted(response).await.map(drop)
    }
}

/// An order as it is sent.
fn written(order: &impl Serialize) -> Result<Vec<u8>, AgentError> {
    let text = serde_json::to_vec(order)?;
    match text.len() {
        ..=LONGEST_ORDER => Ok(text),
        bytes => Err(AgentError::OrderTooLong { bytes }),
    }
}

async fn accepted(response: reqwest::Response) -> Result<reqwest::Response, AgentError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = body(response, LONGEST_ANSWER).await.unwrap_or_default();
    let shown = body.get(..LONGEST_REFUSAL).unwrap_or(&body);
    Err(AgentError::Refused {
        status: status.as_u16(),
        body: String::from_utf8_lossy(shown).into_owned(),
    })
}

/// The body of an answer, if it is not longer than this many bytes.
async fn body(mut response: reqwest::Response, longest: usize) -> Result<Vec<u8>, AgentError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > longest {
            return Err(AgentError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_no_agent_reads_is_not_sent() {
        let quotes = 2;
        let order = "x".repeat(LONGEST_ORDER - quotes);
        assert_eq!(written(&order).unwrap().len(), LONGEST_ORDER);
        let error = written(&(order + "x")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the order has 16777217 bytes, and an agent reads at most 16 MiB of it"
        );
    }
}
