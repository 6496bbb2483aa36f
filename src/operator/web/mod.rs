//! Which member served which client, for pages and tools: `GET /v1/clusters/{namespace}/{name}/history` on the operator's port answers JSON, see
//! [`merge::History`].
//!
//! `?since=2026-01-02T15:04:05Z` leaves out connections that ended, and points that were, before that time. `?limit=` is the most connections that
//! are shown, see [`LIMIT`].
//!
//! The operator keeps no history. HAProxy's pods do, and the operator reads every answer from Kubernetes and from these pods. So each replica of the
//! operator answers, whether it leads or not. Addresses of clients are personal data, so a request needs a token, see [`access`].

pub mod access;
pub mod merge;
mod refusal;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Semaphore;

use super::kubernetes::{ask, fresh};
use super::members::Credentials;
use super::observe::{credentials, pods};
use crate::api::MultiMasterCluster;
use crate::names::{self, keys};
use crate::resources::labels;
use crate::wire::history::{Extract, PATH_HISTORY};
use crate::wire::io::client::AgentClient;
pub use refusal::Refusal;

use merge::{Asked, merge};

/// The most connections in an answer without `limit` in the query.
const LIMIT: usize = 1000;
/// Values that `limit` may have.
const LIMITS: RangeInclusive<usize> = 1..=100_000;
/// Requests at the same time. Each request causes some requests to the API server, which the operator needs for healing, and every pod can send one.
const AT_ONCE: usize = 4;
/// How long a pod has for its answer, which may be some megabytes.
const POD_DEADLINE: Duration = Duration::from_secs(5);

/// What the handlers share.
struct Histories {
    client: Client,
    free: Semaphore,
}

/// The route.
pub fn routes(client: Client) -> Router {
    let histories = Histories {
        client,
        free: Semaphore::new(AT_ONCE),
    };
    Router::new()
        .route("/v1/clusters/{namespace}/{name}/history", get(answer))
        .with_state(Arc::new(histories))
}

async fn answer(
    State(histories): State<Arc<Histories>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Ok(_permit) = histories.free.try_acquire() else {
        let message = format!("{AT_ONCE} requests are being answered; try again");
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, message));
    };
    let query = HistoryQuery::read(&query).map_err(|message| Refusal(StatusCode::BAD_REQUEST, message))?;
    // Both become parts of URLs at the API server.
    if !is_label(&namespace) || !is_label(&name) {
        return Err(not_found(&namespace, &name));
    }
    let client = &histories.client;
    access::check(client, &headers, &namespace, &name).await?;
    let cluster = find(client, &namespace, &name).await?;
    let asked = ask_pods(client, &cluster, query.since).await?;
    Ok(Json(merge(&name, cluster.spec.members, asked, query.limit)).into_response())
}

/// The query of a request.
#[derive(Debug, PartialEq, Eq)]
struct HistoryQuery {
    since: Option<Timestamp>,
    limit: usize,
}

impl HistoryQuery {
    fn read(query: &[(String, String)]) -> Result<Self, String> {
        let mut read = Self {
            since: None,
            limit: LIMIT,
        };
        for (parameter, value) in query {
            match parameter.as_str() {
                "since" => {
                    let since = value.parse();
                    read.since = Some(since.map_err(|error| {
                        format!("since: must be a time in RFC 3339, 2026-01-02T15:04:05Z for example, with %2B for a +: {error}")
                    })?);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| LIMITS.contains(limit));
                    read.limit = limit.ok_or_else(|| {
                        format!("limit: must be a number from {} to {}", LIMITS.start(), LIMITS.end())
                    })?;
                }
                other => {
                    return Err(format!(
                        "{other}: there is no such parameter; there are since and limit"
                    ));
                }
            }
        }
        Ok(read)
    }
}

/// Whether a text can be the name of a namespace or a cluster.
fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

fn not_found(namespace: &str, name: &str) -> Refusal {
    let message = format!("there is no MultiMasterCluster {name:?} in the namespace {namespace:?}");
    Refusal(StatusCode::NOT_FOUND, message)
}

/// A cluster that has HAProxy.
async fn find(client: &Client, namespace: &str, name: &str) -> Result<MultiMasterCluster, Refusal> {
    let found = fresh(client, namespace, name).await?;
    let cluster = found.ok_or_else(|| not_found(namespace, name))?.as_recorded();
    if !cluster.spec.balancer.is_haproxy() {
        let message = format!(
            "spec.balancer.type of {name} is Service: kube-proxy balances and keeps no record of connections; HAProxy does"
        );
        return Err(Refusal(StatusCode::NOT_FOUND, message));
    }
    Ok(cluster)
}

/// Asks all HAProxy pods at the same time. Pods that are terminating are asked, too, because they still have sessions.
async fn ask_pods(
    client: &Client,
    cluster: &MultiMasterCluster,
    since: Option<Timestamp>,
) -> Result<Vec<Asked>, Refusal> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    let selector = labels::text(&labels::balancer_selector(cluster));
    let pods = ask("pods of HAProxy", api.list(&ListParams::default().labels(&selector))).await?;
    let credentials = credentials::read(cluster, client).await?;
    let credentials = credentials.map_err(|problem| Refusal(StatusCode::SERVICE_UNAVAILABLE, problem.message))?;
    let asking = pods.items.iter().map(async |pod| Asked {
        pod: pod.name_any(),
        answer: ask_pod(cluster, pod, credentials.as_ref(), since).await,
    });
    Ok(join_all(asking).await)
}

async fn ask_pod(
    cluster: &MultiMasterCluster,
    pod: &Pod,
    credentials: Option<&Credentials>,
    since: Option<Timestamp>,
) -> Result<Extract, String> {
    let credentials = credentials.ok_or("the cluster's Secrets are not there yet")?;
    let pod = pods::pod(pod, names::HAPROXY_CONTAINER, jiff::Timestamp::now());
    let ip: Option<IpAddr> = pod.ip.and_then(|ip| ip.parse().ok());
    let ip = ip.filter(|_| pod.running).ok_or("its container does not run")?;
    let host = names::service_host(&cluster.name_any(), &cluster.namespace().unwrap_or_default());
    let token = credentials.get(keys::AGENT_TOKEN).to_owned();
    let agent = AgentClient::new(ip, &host, names::AGENT_PORT, &credentials.authority, token)
        .map_err(|error| error.to_string())?;
    let path = match since {
        Some(since) => format!("{PATH_HISTORY}?since={since}"),
        None => PATH_HISTORY.to_owned(),
    };
    let answer = agent.get(&path, POD_DEADLINE).await;
    answer.map_err(|error| format!("it does not answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<HistoryQuery, String> {
        let owned: Vec<_> = query
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        HistoryQuery::read(&owned)
    }

    #[test]
    fn a_query_is_read_or_its_parameter_named() {
        let none = HistoryQuery {
            since: None,
            limit: LIMIT,
        };
        assert_eq!(read(&[]).unwrap(), none);
        let both = read(&[("since", "2026-11-22T17:00:00+01:00"), ("limit", "5")]).unwrap();
        assert_eq!(
            (both.since.unwrap().to_string(), both.limit),
            ("2026-11-22T16:00:00Z".into(), 5)
        );
        for (parameter, value) in [
            ("since", "yesterday"),
            ("since", ""),
            ("limit", "0"),
            ("limit", "100001"),
            ("limit", "-1"),
            ("until", "2026-11-22T17:00:00Z"),
        ] {
            let error = read(&[(parameter, value)]).unwrap_err();
            assert!(error.starts_with(&format!("{parameter}: ")), "{error}");
        }
    }

    #[test]
    fn only_names_reach_the_api_server() {
        assert!(is_label("demo") && is_label("e2e-1"));
        for name in [
            "",
            "../demo",
            "a/b",
            "demo,metadata.namespace=x",
            "Demo",
            &"a".repeat(64),
        ] {
            assert!(!is_label(name), "{name}");
        }
    }
}
