//! The agent's two ports. Open port: probes over HTTP. Closed port: report and orders over TLS, with the bearer token of the Secret.

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
    CloneOrder, EmptyOrder, MarkOrder, Order, PATH_ANSWERS, PATH_CLONE, PATH_EMPTY, PATH_FOUND, PATH_LIVE, PATH_MARK,
    PATH_NEW_LIFE, PATH_REPORT, PATH_WITNESS, Phase, WitnessAnswer,
};
use crate::wire::io::ports::{self, Ports, Servers, only_with_token, with_long_orders};
use crate::wire::lease::{Confirm, LeaseRenewal, PATH_CONFIRM};

/// Deadline of a readiness probe. It is below the kubelet's timeout of one second, so that the agent answers, and says why.
const PROBE_DEADLINE: Duration = Duration::from_millis(900);
/// Deadline of a witness probe. It is shorter than the operator's, so that the operator gets the answer "no answer" and not none from this agent.
const WITNESS_DEADLINE: Duration = Duration::from_millis(700);
/// A deadline that is noticed so much later was noticed by an agent that had no processor.
const WITNESS_LATE: Duration = Duration::from_millis(150);
/// Deadline of an order. It is answered once it is recorded, which takes an fsync.
const ORDER_DEADLINE: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Clone)]
struct Handles {
    member: Arc<Member>,
    shared: Arc<Shared>,
    orders: mpsc::Sender<Request>,
    http: reqwest::Client,
}

/// The client for other agents' open ports.
///
/// # Errors
/// When the TLS library cannot be set up.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .no_proxy()
        // It uses plain HTTP only, and the image may have no certificate authorities.
        .tls_certs_only([]);
    client.build().context("cannot make an HTTP client")
}

/// Binds both ports, then serves them in the background.
///
/// # Errors
/// When a port is taken, or the certificate or its key cannot be used.
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
        .route(PATH_WITNESS, get(witness))
        .route(PATH_FOUND, post(found))
        .route(PATH_CLONE, post(clone))
        .route(PATH_NEW_LIFE, post(new_life))
        .route(PATH_EMPTY, post(empty))
        .route(PATH_MARK, post(mark))
        .with_state(context.clone());

    let contact = Arc::clone(&shared);
    let closed_routes = with_long_orders(closed_routes);
    let closed_routes = only_with_token(closed_routes, member.args.credentials.clone(), move || {
        contact.note_contact()
    });
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

/// Query of a readiness probe.
#[derive(serde::Deserialize)]
struct ReadinessQuery {
    /// The member must take writes; serving reads is not enough.
    #[serde(default)]
    writes: bool,
}

/// Ready: mysqld answered a query in time, and the member takes writes, or is to serve reads. Other members do not matter.
async fn readyz(State(context): State<Handles>, Query(query): Query<ReadinessQuery>) -> Response {
    let reads = || !query.writes && context.shared.renewal().is_some_and(|renewal| renewal.reads);
    let not_ready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match context.shared.phase() {
        Phase::Running => {}
        phase => return not_ready(format!("mysqld is not running: {phase:?}\n")),
    }
    match context.shared.sql.recent_probe(PROBE_DEADLINE).await {
        Err(error) => not_ready(format!("mysqld does not answer: {error}\n")),
        Ok(state) if state.offline => not_ready("mysqld is in offline_mode\n".into()),
        Ok(state) if state.is_fenced() && !reads() => not_ready("the member is fenced (super_read_only)\n".into()),
        Ok(_) => "ok\n".into_response(),
    }
}

/// Whether mysqld answers a query at all, fenced or not.
async fn answers(State(context): State<Handles>) -> Response {
    match context.shared.sql.recent_probe(WITNESS_DEADLINE).await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("mysqld does not answer: {error}\n"),
        )
            .into_response(),
    }
}

/// Query of a request for a witness probe: the pod to probe.
#[derive(serde::Deserialize)]
struct WitnessQuery {
    address: IpAddr,
}

/// Probes another member for an operator that does not reach it.
async fn witness(State(context): State<Handles>, Query(query): Query<WitnessQuery>) -> Response {
    let url = format!(
        "http://{}{PATH_ANSWERS}",
        SocketAddr::new(query.address, context.member.args.probe_port)
    );
    let begun = Instant::now();
    let asked = context.http.get(url).timeout(WITNESS_DEADLINE).send().await;
    let answered = asked.is_ok_and(|answer| answer.status().is_success());
    if !answered && begun.elapsed() > WITNESS_DEADLINE + WITNESS_LATE {
        // This agent was late itself, so it proves nothing.
        return (StatusCode::SERVICE_UNAVAILABLE, "this agent had no processor\n").into_response();
    }
    Json(WitnessAnswer { answered }).into_response()
}

/// Keeps the lease renewal, if there is one: an operator of an earlier version sends none.
async fn report(State(context): State<Handles>, uri: Uri) -> Response {
    if uri.query().is_some() {
        match Query::<LeaseRenewal>::try_from_uri(&uri) {
            Ok(Query(renewal)) => context.shared.set_renewal(renewal),
            Err(error) => warn!(%error, "the operator's lease renewal cannot be read; the one before stays"),
        }
    }
    match context.shared.report() {
        Some(report) => Json(report).into_response(),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent has not read its volume yet\n",
        )
            .into_response(),
    }
}

/// Answers another member's agent whether that member is still the writer.
async fn confirm(State(context): State<Handles>, Query(question): Query<Confirm>) -> Response {
    match context.shared.lease().confirm(question, Instant::now()) {
        true => "ok\n".into_response(),
        false => (StatusCode::CONFLICT, "another member is the writer\n").into_response(),
    }
}

async fn found(State(context): State<Handles>, Json(order): Json<Order>) -> Response {
    pass(&context, order.server_uuid, Work::Found).await
}

async fn clone(State(context): State<Handles>, Json(order): Json<CloneOrder>) -> Response {
    // The address becomes part of a statement, and the agent resolves no names.
    match order.donor_address.parse::<IpAddr>() {
        Ok(donor) => {
            let args = &context.member.args;
            let port = match order.donor_has_place {
                true => args.mysql_admin_port,
                false => args.mysql_port,
            };
            let work = Work::Clone {
                donor: donor.to_string(),
                port,
                donor_uuid: order.donor_uuid,
            };
            pass(&context, order.server_uuid, work).await
        }
        Err(_) => (StatusCode::BAD_REQUEST, "donorAddress: must be an IP address\n").into_response(),
    }
}

async fn new_life(State(context): State<Handles>, Json(order): Json<Order>) -> Response {
    pass(&context, order.server_uuid, Work::NewLife).await
}

async fn mark(State(context): State<Handles>, Json(order): Json<MarkOrder>) -> Response {
    let MarkOrder { mark, new_life, .. } = order;
    pass(&context, order.server_uuid, Work::Mark { mark, new_life }).await
}

async fn empty(State(context): State<Handles>, Json(order): Json<EmptyOrder>) -> Response {
    let held_elsewhere = order.held_elsewhere;
    pass(&context, order.server_uuid, Work::Empty { held_elsewhere }).await
}

/// Passes an order to the loop that owns mysqld, and the loop's answer back to the client.
async fn pass(context: &Handles, server_uuid: String, order: Work) -> Response {
    let phase = context.shared.phase();
    if phase != Phase::Running {
        // The loop is busy. An order from an old observation must not wait here and be carried out late.
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

    use super::{Confirm, LeaseRenewal, PATH_REPORT};
    use crate::api::IsolationPolicy;
    use crate::wire::lease::PATH_CONFIRM;
    use crate::wire::lease::Voter;

    #[test]
    fn a_question_of_another_agent_is_read_as_it_was_written() {
        for (voter, knowing) in [(None, false), (Some(2), false), (Some(8), true)] {
            let question = Confirm {
                writer: 1,
                voter,
                knowing,
            };
            let uri: Uri = question.path().parse().unwrap();
            assert_eq!(uri.path(), PATH_CONFIRM);
            assert_eq!(Query::<Confirm>::try_from_uri(&uri).unwrap().0, question);
        }
    }

    #[test]
    fn a_lease_renewal_is_read_as_it_was_written() {
        let lists = [vec![], vec!["10.0.0.1"], vec!["10.0.0.1", "fd00::7:1"]];
        for (members, writer) in lists.into_iter().zip([None, Some(0), Some(8)]) {
            let members: Vec<IpAddr> = members.iter().map(|address| address.parse().unwrap()).collect();
            let renewal = LeaseRenewal {
                operator: 0,
                number: 0,
                version: 1,
                policy: IsolationPolicy::Fence,
                after_seconds: 3600,
                members: members.clone(),
                reads: writer == Some(8),
                writer,
                lease_seconds: writer.map_or(0, |_| 3),
                clock: writer.map(|writer| u64::from(writer) << 60),
                voters: (0..)
                    .zip(&members)
                    .map(|(ordinal, address)| Voter {
                        ordinal,
                        address: (ordinal > 0).then_some(*address),
                    })
                    .collect(),
                knowing: members.len() != 2,
                ring: members.into_iter().take(1).collect(),
            };
            let uri: Uri = format!("{PATH_REPORT}?{renewal}").parse().unwrap();
            assert_eq!(Query::<LeaseRenewal>::try_from_uri(&uri).unwrap().0, renewal);
        }
        // From an operator older than the versions, and from a newer one.
        for (query, version) in [
            ("policy=Fence&afterSeconds=1&members=", 0),
            ("version=7&policy=Freeze&afterSeconds=1&members=&moon=full", 7),
        ] {
            let uri: Uri = format!("{PATH_REPORT}?{query}").parse().unwrap();
            let renewal = Query::<LeaseRenewal>::try_from_uri(&uri).unwrap().0;
            assert_eq!((renewal.version, renewal.after_seconds), (version, 1));
            let known = query.contains("Fence");
            assert_eq!(renewal.policy == IsolationPolicy::Fence, known);
        }
        let named: Uri = "/?policy=Fence&afterSeconds=1&members=demo-1".parse().unwrap();
        assert!(Query::<LeaseRenewal>::try_from_uri(&named).is_err());
    }
}
