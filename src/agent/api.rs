//! The agent's ports: open probes over HTTP; report and orders over TLS with the bearer token of the Secret.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::member::{Accepted, Member, Refused, Request, Shared, Work};
use crate::wire::agent::{
    CloneOrder, EmptyOrder, Look, Order, PATH_ANSWERS, PATH_CLONE, PATH_CONFIRM, PATH_EMPTY, PATH_FOUND, PATH_LIVE,
    PATH_LOOK, PATH_NEW_LIFE, PATH_REPORT, Phase, Terms,
};
use crate::wire::io::ports::{self, Ports, Servers, only_with_token};

/// Below the kubelet's timeout of one second, so that the answer is this agent's and says why.
const PROBE_DEADLINE: Duration = Duration::from_millis(900);
/// Shorter than the operator's, so that it hears that a member does not answer and not that this agent does not.
const LOOK_DEADLINE: Duration = Duration::from_millis(700);
/// An order is answered once it is recorded, which takes an fsync.
const ORDER_DEADLINE: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Clone)]
struct Handles {
    member: Arc<Member>,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Request>,
    http: reqwest::Client,
}

/// What the agent asks other agents' open ports with.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .no_proxy()
        // It asks over plain HTTP only, and the image may have no certificate authorities.
        .tls_certs_only([]);
    client.build().context("cannot make an HTTP client")
}

/// Binds both ports, then serves them in the background.
pub async fn serve(
    member: Arc<Member>,
    shared: Arc<Shared>,
    http: reqwest::Client,
    orders: mpsc::Sender<Request>,
) -> anyhow::Result<Servers> {
    let context = Handles {
        member: Arc::clone(&member),
        shared: Arc::clone(&shared),
        orders,
        http,
    };
    let probe_routes = Router::new()
        .route(PATH_LIVE, get(async || "ok"))
        .route("/readyz", get(readyz))
        .route(PATH_ANSWERS, get(answers))
        .with_state(context.clone());
    let closed_routes = Router::new()
        .route(PATH_REPORT, get(report))
        .route(PATH_LOOK, get(look))
        .route(PATH_FOUND, post(found))
        .route(PATH_CLONE, post(clone))
        .route(PATH_NEW_LIFE, post(new_life))
        .route(PATH_EMPTY, post(empty))
        .with_state(context.clone());

    let heard = Arc::clone(&shared);
    let closed_routes = only_with_token(closed_routes, member.args.credentials.clone(), move || heard.hear());
    let agents_routes = Router::new().route(PATH_CONFIRM, get(confirm)).with_state(context);
    let agents_routes = only_with_token(agents_routes, member.args.credentials.clone(), || {});
    let closed_routes = closed_routes.merge(agents_routes);
    let ports = Ports {
        listen: member.args.listen,
        open: member.args.probe_port,
        closed: member.args.port,
        tls: &member.args.tls,
    };
    ports::serve(ports, probe_routes, closed_routes).await
}

/// What is asked for beyond an answer.
#[derive(serde::Deserialize)]
struct Wanted {
    /// It has to take writes: to serve reads is not enough.
    #[serde(default)]
    writes: bool,
}

/// Ready: a real query was answered in time, and the member takes writes, or is to serve reads. Never depends on its neighbours.
async fn readyz(State(context): State<Handles>, Query(wanted): Query<Wanted>) -> Response {
    let reads = || !wanted.writes && context.shared.terms().is_some_and(|terms| terms.reads);
    let not_ready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match context.shared.phase() {
        Phase::Running => {}
        phase => return not_ready(format!("mysqld is not running: {phase:?}\n")),
    }
    match context.shared.sql.probe(PROBE_DEADLINE).await {
        Err(error) => not_ready(format!("mysqld does not answer: {error}\n")),
        Ok(state) if state.offline => not_ready("mysqld is in offline_mode\n".into()),
        Ok(state) if state.is_fenced() && !reads() => not_ready("the member is fenced (super_read_only)\n".into()),
        Ok(_) => "ok\n".into_response(),
    }
}

/// Whether mysqld answers a query at all, fenced or not.
async fn answers(State(context): State<Handles>) -> Response {
    match context.shared.sql.probe(LOOK_DEADLINE).await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("mysqld does not answer: {error}\n"),
        )
            .into_response(),
    }
}

/// Whom to look at.
#[derive(serde::Deserialize)]
struct At {
    address: IpAddr,
}

/// A second pair of eyes for an operator that does not reach a member.
async fn look(State(context): State<Handles>, Query(at): Query<At>) -> Response {
    let url = format!(
        "http://{}{PATH_ANSWERS}",
        SocketAddr::new(at.address, context.member.args.probe_port)
    );
    let asked = context.http.get(url).timeout(LOOK_DEADLINE).send().await;
    let answered = asked.is_ok_and(|answer| answer.status().is_success());
    Json(Look { answered }).into_response()
}

/// Keeps the terms, if there are any: an operator of an earlier version has none.
async fn report(State(context): State<Handles>, uri: Uri) -> Response {
    if uri.query().is_some() {
        match Query::<Terms>::try_from_uri(&uri) {
            Ok(Query(terms)) => context.shared.set_terms(terms),
            Err(error) => warn!(%error, "the operator's terms cannot be read; the last ones stay"),
        }
    }
    match context.shared.report() {
        Some(report) => Json(report).into_response(),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent has not looked at its volume yet\n",
        )
            .into_response(),
    }
}

/// Whom another agent asks about.
#[derive(serde::Deserialize)]
struct Writer {
    writer: u8,
}

/// Another member's agent asks whether that is still the writer.
async fn confirm(State(context): State<Handles>, Query(asked): Query<Writer>) -> Response {
    match context.shared.lease().confirm(asked.writer, Instant::now()) {
        true => "ok\n".into_response(),
        false => (StatusCode::CONFLICT, "another member is the writer\n").into_response(),
    }
}

async fn found(State(context): State<Handles>, Json(order): Json<Order>) -> Response {
    pass(&context, order.server_uuid, Work::Found).await
}

async fn clone(State(context): State<Handles>, Json(order): Json<CloneOrder>) -> Response {
    // It becomes part of a statement, and the agent resolves no names.
    match order.donor_address.parse::<IpAddr>() {
        Ok(donor) => {
            pass(
                &context,
                order.server_uuid,
                Work::Clone {
                    donor: donor.to_string(),
                },
            )
            .await
        }
        Err(_) => (StatusCode::BAD_REQUEST, "donorAddress: it is an IP address\n").into_response(),
    }
}

async fn new_life(State(context): State<Handles>, Json(order): Json<Order>) -> Response {
    pass(&context, order.server_uuid, Work::NewLife).await
}

async fn empty(State(context): State<Handles>, Json(order): Json<EmptyOrder>) -> Response {
    let held_elsewhere = order.held_elsewhere;
    pass(&context, order.server_uuid, Work::Empty { held_elsewhere }).await
}

/// Hands an order to the loop that owns mysqld, and its answer to whoever ordered.
async fn pass(context: &Handles, server_uuid: String, order: Work) -> Response {
    let phase = context.shared.phase();
    if phase != Phase::Running {
        // The loop is busy; what is decided on an old observation must not wait and land late.
        return (
            StatusCode::CONFLICT,
            format!("mysqld is not running yet, or not any more: {phase:?}\n"),
        )
            .into_response();
    }
    let (answer, answered) = oneshot::channel();
    let sent = context.orders.try_send(Request {
        order,
        server_uuid,
        answer,
    });
    let verdict = match sent {
        Ok(()) => tokio::time::timeout(ORDER_DEADLINE, answered).await,
        Err(_) => return (StatusCode::SERVICE_UNAVAILABLE, "the agent is busy\n").into_response(),
    };
    match verdict {
        Ok(Ok(Ok(Accepted::Done))) => (StatusCode::OK, "done\n").into_response(),
        Ok(Ok(Ok(Accepted::UnderWay))) => (StatusCode::ACCEPTED, "under way\n").into_response(),
        Ok(Ok(Err(Refused::Conflict(why)))) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
        Ok(Ok(Err(Refused::Failed(why)))) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent did not answer; read the report\n",
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;
    use axum::http::Uri;
    use std::net::IpAddr;

    use super::{PATH_REPORT, Terms};
    use crate::api::IsolationPolicy;

    #[test]
    fn terms_are_read_as_they_are_said() {
        let lists = [vec![], vec!["10.0.0.1"], vec!["10.0.0.1", "fd00::7:1"]];
        for (members, writer) in lists.into_iter().zip([None, Some(0), Some(8)]) {
            let members: Vec<IpAddr> = members.iter().map(|address| address.parse().unwrap()).collect();
            let terms = Terms {
                version: 1,
                policy: IsolationPolicy::Fence,
                after_seconds: 3600,
                members: members.clone(),
                reads: writer == Some(8),
                writer,
                lease_seconds: writer.map_or(0, |_| 3),
                clock: writer.map(|writer| u64::from(writer) << 60),
                ring: members.into_iter().take(1).collect(),
            };
            let uri: Uri = format!("{PATH_REPORT}?{terms}").parse().unwrap();
            assert_eq!(Query::<Terms>::try_from_uri(&uri).unwrap().0, terms);
        }
        // Of an operator of before there were versions, and of one that is newer.
        for (query, version) in [
            ("policy=Fence&afterSeconds=1&members=", 0),
            ("version=7&policy=Freeze&afterSeconds=1&members=&moon=full", 7),
        ] {
            let uri: Uri = format!("{PATH_REPORT}?{query}").parse().unwrap();
            let terms = Query::<Terms>::try_from_uri(&uri).unwrap().0;
            assert_eq!((terms.version, terms.after_seconds), (version, 1));
            let known = query.contains("Fence");
            assert_eq!(terms.policy == IsolationPolicy::Fence, known);
        }
        let named: Uri = "/?policy=Fence&afterSeconds=1&members=demo-1".parse().unwrap();
        assert!(Query::<Terms>::try_from_uri(&named).is_err());
    }
}
