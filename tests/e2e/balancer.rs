//! HAProxy comes and goes under a client that writes, leaves a frozen member, lets nobody wait for ever, and remembers who served whom.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use anyhow::{Context, Result, bail, ensure};
use multimaster::names;
use mysql_async::Conn;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::operator;
use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::writers::{At, Writers};
use crate::support::{INTERVAL, eventually, http_get, kubectl, sql};

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn haproxy_comes_leaves_a_frozen_member_and_goes() -> Result<()> {
    in_namespace("balancer", |world| async move {
        // Two are frozen in turn, and it may be the same one: the second time it would be held out.
        let detection = json!({"failureDetection": {"holdOutSeconds": 0}});
        let ring = Ring::ready(&world, "demo", 3, detection).await?;
        let service = ring.service_ip().await?;
        let writers = Writers::start(&ring, vec![At::Service]).await?;
        writers.go_on(&[At::Service]).await?;

        // Without HAProxy's pods the members stay behind the Service.
        ring.patch(json!({"spec": {"balancer": {"type": "HAProxy", "image": "no-such-image:of-haproxy"}}}))
            .await?;
        ring.wait_refused(
            "BalancerNotServing",
            &["spec.balancer.image", "no-such-image:of-haproxy"],
        )
        .await?;
        ensure!(
            writers.failures() == 0,
            "an image that is not there cost {} writes",
            writers.failures()
        );
        let (members_only, haproxy) = (
            json!({"type": "Service"}),
            json!({"type": "HAProxy", "checkMilliseconds": 200}),
        );
        costs_no_write(&ring, &writers, &members_only, &haproxy).await?;
        let members = eventually("all members through HAProxy", || async {
            let mut members = BTreeSet::new();
            for _ in 0..12 {
                let mut conn = ring.app(&service).await?;
                ensure!(ring.is_through_haproxy(&mut conn).await?, "straight to a member");
                members.insert(member(&mut conn).await?);
            }
            ensure!(members.len() == 3, "{members:?}");
            Ok(members)
        })
        .await?;

        let mut held = ring.app(&service).await?;
        let frozen = member(&mut held).await?;
        let others = members.iter().filter(|name| **name != frozen).cloned().collect();
        let left = async || eventually("the frozen member is left", || reached(&ring, &service, &others)).await;
        frozen_and_cut(&ring, &mut held, left).await?;
        let token = reader(&ring).await?;
        drop(held);
        eventually("the history tells of it", || told(&ring, &token, &frozen)).await?;
        asked_wrongly(&ring, &token).await?;

        balance(
            &ring,
            json!({"type": "HAProxy", "maxConnections": 4, "timeouts": {"queueSeconds": 1}}),
        )
        .await?;
        eventually("nobody waits for ever", || only_so_many(&ring, &service)).await?;

        let (by_turns, by_source) = (
            json!({"type": "HAProxy"}),
            json!({"type": "HAProxy", "algorithm": "Source"}),
        );
        balance(&ring, by_turns.clone()).await?;
        writers.go_on(&[At::Service]).await?;
        costs_no_write(&ring, &writers, &by_turns, &by_source).await?;
        let mut held = ring.app(&service).await?;
        let pod = sql::client(&mut held).await?;
        costs_no_write(&ring, &writers, &by_source, &members_only).await?;
        eventually("members without HAProxy", || async {
            let mut conn = ring.app(&service).await?;
            ensure!(!ring.is_through_haproxy(&mut conn).await?, "through HAProxy");
            Ok(())
        })
        .await?;
        eventually("HAProxy takes nothing new", || async {
            let connected = TcpStream::connect((pod.as_str(), names::MYSQL_PORT)).await;
            ensure!(connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
            Ok(())
        })
        .await?;
        writers.go_on(&[At::Service]).await?;
        // A session goes on through the change, for as long as its member does.
        frozen_and_cut(&ring, &mut held, async || Ok(())).await?;
        drop(held);
        for pod in operator::pods().await? {
            let (status, said) = operator::history(&pod, &ring, &token, "").await?;
            ensure!(status == 404 && said.contains("kube-proxy"), "{pod}: {status} {said}");
        }
        eventually("HAProxy is gone", || async {
            let left = kubectl(&["get", "deployment,pdb", "-n", &ring.namespace, "-o", "name"]).await?;
            ensure!(!left.contains("balancer"), "{left}");
            Ok(())
        })
        .await?;
        writers.settle().await.map(drop)
    })
    .await
}

/// Freezes the member of a session, which must be closed; a Service would leave it open: no answer, for as long as the client waits. Looks at
/// something else, too, before the member thaws, and waits until all are there again.
async fn frozen_and_cut(ring: &Ring, held: &mut Conn, look: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let frozen = member(held).await?;
    let ordinal = frozen.rsplit('-').next().context("no ordinal")?.parse()?;
    ring.signal_mysqld(ordinal, "STOP").await?;
    let mut cut = sql::rows::<u64>(held, "SELECT 1").await;
    for _ in 0..20 {
        // A signal takes a moment: the server may answer once more.
        if cut.is_ok() {
            tokio::time::sleep(INTERVAL).await;
            cut = sql::rows(held, "SELECT 1").await;
        }
    }
    let looked = look().await;
    ring.signal_mysqld(ordinal, "CONT").await?;
    looked?;
    let cut = cut.map_or_else(|error| format!("{error:#}"), |_| "it answers".into());
    ensure!(
        !cut.contains("no answer") && cut != "it answers",
        "the session with {frozen} was not closed: {cut}"
    );
    ring.wait_ready().await
}

/// Changes who balances, which costs no write. On a busy machine a member may fail its checks meanwhile, which does cost writes: HAProxy counts
/// that, and the change is made once more.
async fn costs_no_write(ring: &Ring, writers: &Writers, from: &Value, to: &Value) -> Result<()> {
    for _ in 0..3 {
        let (failures, before) = (writers.failures(), down(ring).await?);
        balance(ring, to.clone()).await?;
        writers.go_on(&[At::Service]).await?;
        let cost = writers.failures() - failures;
        let after = down(ring).await?;
        if cost == 0 {
            return Ok(());
        }
        eprintln!(
            "from {from} to {to}: {cost} failed writes; members were down {before} times before and {after} after"
        );
        // HAProxy counts anew after a reload.
        ensure!(
            after > 0 && after != before,
            "the change from {from} to {to} cost {cost} writes"
        );
        balance(ring, from.clone()).await?;
        writers.go_on(&[At::Service]).await?;
    }
    bail!("members failed their checks during each of three changes to {to}")
}

/// How often a member failed its checks, by the counters of all HAProxy pods.
async fn down(ring: &Ring) -> Result<u64> {
    let mut times = 0;
    for pod in ring.balancers().await? {
        let Some(ip) = pod.status.and_then(|status| status.pod_ip) else {
            continue;
        };
        // One that starts or ends gives no answer.
        let Ok((200, metrics)) = http_get(
            &format!("http://{ip}:{}/metrics", names::BALANCER_STATISTICS_PORT),
            None,
        )
        .await
        else {
            continue;
        };
        let counters = metrics
            .lines()
            .filter(|line| line.starts_with("haproxy_server_check_up_down_total{"));
        for counter in counters {
            let (_, value) = counter.rsplit_once(' ').context("no value")?;
            times += value.parse::<f64>().context("no number")? as u64;
        }
    }
    Ok(times)
}

/// Changes who balances, and waits until it is so. What was set before is gone.
pub async fn balance(ring: &Ring, balancer: Value) -> Result<()> {
    let mut merged = json!({"image": null, "algorithm": null, "sticky": null, "maxConnections": null, "checkMilliseconds": null, "timeouts": null});
    let all = merged.as_object_mut().context("no object")?;
    all.extend(balancer.as_object().context("no object")?.clone());
    ring.patch(json!({"spec": {"balancer": merged}})).await?;
    eventually("the Service leads where it is to", || async {
        let status = ring.get().await?.status.unwrap_or_default().balancer;
        ensure!(json!(status.type_) == balancer["type"], "{status:?}");
        Ok(())
    })
    .await?;
    ring.wait_ready().await
}

async fn member(conn: &mut Conn) -> Result<String> {
    sql::value(conn, "SELECT @@hostname").await
}

/// Many new connections, of which each must come about, reach exactly these members.
async fn reached(ring: &Ring, service: &str, members: &BTreeSet<String>) -> Result<()> {
    let reached = ring.reached(service).await?;
    ensure!(reached == *members, "{reached:?}");
    Ok(())
}

/// A token for somebody who may read histories in this namespace, and nothing else.
async fn reader(ring: &Ring) -> Result<String> {
    let namespace = &ring.namespace;
    let account = format!("--serviceaccount={namespace}:reader");
    let rule = ["--verb=get", "--resource=multimasterclusters.multimaster.dev/history"];
    kubectl(&["create", "serviceaccount", "reader", "-n", namespace]).await?;
    let token = kubectl(&["create", "token", "reader", "-n", namespace, "--audience", names::GROUP]).await?;
    for pod in operator::pods().await? {
        let (status, said) = operator::history(&pod, ring, token.trim(), "").await?;
        ensure!(
            status == 403 && said.contains(":reader"),
            "without a role: {status} {said}"
        );
    }
    kubectl(&[&["create", "role", "reader", "-n", namespace][..], &rule].concat()).await?;
    kubectl(&[
        "create",
        "rolebinding",
        "reader",
        "-n",
        namespace,
        "--role=reader",
        &account,
    ])
    .await?;
    Ok(token.trim().to_owned())
}

/// Every replica of the operator, leader or not, has a client that the member served, and the member's failure and recovery.
async fn told(ring: &Ring, token: &str, member: &str) -> Result<()> {
    for pod in operator::pods().await? {
        let (status, said) = operator::history(&pod, ring, token, "").await?;
        ensure!(status == 200, "{pod}: {status} {said}");
        let history: Value = serde_json::from_str(&said)?;
        let of = |table: &str| {
            history[table]
                .as_array()
                .cloned()
                .with_context(|| format!("no {table}"))
        };
        ensure!(of("pods")?.len() == 2 && of("missing")?.is_empty(), "{said}");

        let has_all = |of: &Value| {
            let numbers = ["durationMilliseconds", "bytesReceived", "bytesSent"];
            of["server"] == member && numbers.iter().all(|number| of[*number].as_u64() > Some(0))
        };
        let connections = of("connections")?;
        let served = connections.iter().find(|connection| has_all(connection));
        let client = &served.with_context(|| format!("{member} served nobody: {connections:?}"))?["client"];
        ensure!(of("clients")?.iter().any(|row| row["client"] == *client), "no {client}");

        for balancer in of("pods")? {
            let timeline = of("timeline")?;
            let seen = timeline
                .iter()
                .filter(|at| at["server"] == member && at["pod"] == balancer["pod"]);
            let states: Vec<_> = seen.filter_map(|point| point["state"].as_str()).collect();
            let down = states.iter().position(|state| *state == "DOWN");
            let (before, after) = states.split_at(down.with_context(|| format!("never DOWN: {states:?}"))?);
            ensure!(
                before.contains(&"UP") && after.contains(&"UP"),
                "{balancer}: {states:?}"
            );
        }
        let all_up = |row: &Value| {
            row["states"]
                .as_object()
                .is_some_and(|pods| pods.values().all(|state| state == "UP"))
        };
        let servers = of("servers")?;
        ensure!(servers.len() == 3 && servers.iter().all(all_up), "{servers:?}");
    }
    Ok(())
}

/// Who asks for what is not there, or with a token that is for something else, is told so.
async fn asked_wrongly(ring: &Ring, token: &str) -> Result<()> {
    let other = Ring {
        name: "other".into(),
        ..ring.clone()
    };
    let for_the_api_server = kubectl(&["create", "token", "reader", "-n", &ring.namespace]).await?;
    for pod in operator::pods().await? {
        for (ring, token, query, status, words) in [
            (&other, token, "", 404, "no MultiMasterCluster \"other\""),
            (ring, token, "?since=yesterday", 400, "since: "),
            (ring, token, "?limit=none", 400, "limit: "),
            (ring, "", "", 401, "kubectl create token"),
            (ring, for_the_api_server.trim(), "", 401, "kubectl create token"),
        ] {
            let (answered, said) = operator::history(&pod, ring, token, query).await?;
            ensure!(answered == status && said.contains(words), "{query}: {answered} {said}");
        }
    }
    Ok(())
}

/// Of ten clients at the same time some are served, four at most, the writer among them, and each of the others is told so.
async fn only_so_many(ring: &Ring, service: &str) -> Result<()> {
    let clients = futures::future::join_all((0..10).map(|_| ring.app(service))).await;
    let served = clients.iter().filter(|client| client.is_ok()).count();
    let timed_out = |error: &anyhow::Error| format!("{error:#}").contains("timed out");
    if let Some(Err(error)) = clients.iter().find(|client| client.as_ref().is_err_and(timed_out)) {
        bail!("a client waited in vain: {error:#}");
    }
    ensure!((1..=4).contains(&served), "{served} of 10 were served");
    Ok(())
}
