//! What clients see when a server goes and when it comes back.
//!
//! A client opens a new connection every 50 ms, whatever became of the one before, and inserts a row. Another one holds a connection to the
//! server that goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use multimaster::names::keys;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::ring::Ring;
use crate::support::{docker, eventually, operator, sql};

use super::client::{Client, DEADLINE, EVERY, cells, span};
use super::report::Report;
use super::stage::{Path, Stage, node_of, whole};

/// How long what is frozen stays so.
const FROZEN: Duration = Duration::from_secs(20);
/// Of calm before the fault, and at the end.
const CALM: Duration = Duration::from_secs(3);
/// How long it is waited for that a path leads to a server again.
const PATIENCE: Duration = Duration::from_secs(90);

/// What befalls the server.
#[derive(Clone, Copy)]
enum Fault {
    Deleted,
    Killed,
    Frozen,
    NodePaused,
}

const FAULTS: [(&str, Fault); 4] = [
    ("pod deleted", Fault::Deleted),
    ("mysqld kill -9", Fault::Killed),
    ("mysqld frozen 20 s", Fault::Frozen),
    ("node paused 20 s", Fault::NodePaused),
];

pub async fn measure(stage: &Stage, report: &mut Report) -> Result<()> {
    let only = std::env::var("FAULT").unwrap_or_default();
    let mut acknowledged: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut rows: Vec<(&str, String)> = Vec::new();
    for path in [Path::Pen, Path::Service, Path::HaProxy, Path::HaProxyFast] {
        let servers = stage.servers(path);
        let safe = acknowledged.entry(servers.name.clone()).or_default();
        for (name, fault) in FAULTS
            .iter()
            .filter(|(name, _)| only.split(',').any(|only| name.contains(only)))
        {
            eprintln!("\n── {name}, {}", path.title());
            let row = suffer(stage, path, *fault, safe).await;
            let row = row.unwrap_or_else(|error| {
                format!(
                    "not measured: {} | | | | | | | | |",
                    format!("{error:#}").replace('\n', " ")
                )
            });
            eprintln!("| {name} | {} | {row} |", path.title());
            rows.push((name, format!("| {} | {row} |", path.title())));
        }
    }
    report.say(
        "## Outages\n\n\
         A new connection every 50 ms, each with an insert, and 1 s for both. Seconds. *Longest*: without a success; *first to last*: between \
         the first attempt that failed and the last one. *Stopped*: from the fault until mysqld answers again or goes on; *returns*: from \
         then until the path has led to it again, and 3 s. *Held*: when a connection that was open to the server was cut.\n\n\
         | fault | through | stopped: failed | longest | first to last | returns: failed | longest | first to last | used again after | held |\n\
         |---|---|---|---|---|---|---|---|---|---|",
    );
    for (name, _) in FAULTS {
        for (_, row) in rows.iter().filter(|(of, _)| *of == name) {
            report.say(&format!("| {name} {row}"));
        }
    }
    report.say("");
    for (name, safe) in acknowledged {
        let servers = if name == "pair" { &stage.pair } else { &stage.ring };
        let line = match kept(servers, &safe).await {
            Ok(()) => format!(
                "{name}: {} inserts were acknowledged, all are on every server.\n",
                safe.len()
            ),
            Err(error) => format!("**{name}: {error:#}**\n"),
        };
        report.say(&line);
    }
    Ok(())
}

/// One fault from calm to calm; the cells of its row.
async fn suffer(stage: &Stage, path: Path, fault: Fault, safe: &mut Vec<u64>) -> Result<String> {
    let servers = stage.servers(path);
    whole(servers).await?;
    let address = stage.open(path).await?;
    let password = servers.password(keys::APP).await?;
    let victim = victim(servers).await?;
    let name = servers.member(victim);
    let held = held(hold(servers, &address, &name).await?);
    let client = Client::start(address, password);
    tokio::time::sleep(CALM).await;

    let node = servers.node(victim).await?;
    let leader = node_of(operator::NAMESPACE, &operator::leader().await?).await?;
    let with_leader = matches!(fault, Fault::NodePaused) && leader == node;
    let begun = Instant::now();
    let came = strike(servers, fault, victim, &node).await;
    let (struck, back) = came?;
    let other = (victim + 1) % servers.members;
    let again: Result<Result<u64>, _> = timeout(
        PATIENCE,
        eventually("the path leads to it again", || async {
            let first = client.first_after(back);
            let query = format!("SELECT MIN(id) FROM app.attempts WHERE server = '{name}' AND id >= {first}");
            let id: Option<u64> = sql::value(&mut servers.root(other).await?, &query).await?;
            id.context("not yet")
        }),
    )
    .await;
    tokio::time::sleep(CALM).await;
    let end = Instant::now();
    let attempts = client.stop();
    safe.extend(
        attempts
            .iter()
            .filter(|attempt| attempt.error.is_none())
            .map(|attempt| attempt.id),
    );
    let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
    for error in attempts.iter().filter_map(|attempt| attempt.error.as_deref()) {
        *errors.entry(error).or_default() += 1;
    }
    eprintln!(
        "the strike took {:.2} s; {errors:#?}",
        struck.duration_since(begun).as_secs_f64()
    );
    let used = again
        .ok()
        .and_then(Result::ok)
        .and_then(|id| attempts.iter().find(|attempt| attempt.id == id));
    let used = used.map_or("not seen".to_owned(), |attempt| {
        format!("{:.1}", attempt.ended.saturating_duration_since(back).as_secs_f64())
    });
    let held = if held.is_finished() {
        format!(
            "cut after {:.1}",
            held.await?.saturating_duration_since(struck).as_secs_f64()
        )
    } else {
        held.abort();
        "lives on".to_owned()
    };
    whole(servers).await?;
    let note = if with_leader { " (the operator led there)" } else { "" };
    let [stopped, returns] = [(begun, back), (back, end)].map(|(from, to)| cells(&span(&attempts, from, to)));
    Ok(format!("{stopped} | {returns} | {used} | {held}{note}"))
}

/// Lets it happen. When it had happened, and when the server was there again.
async fn strike(servers: &Ring, fault: Fault, victim: u8, node: &str) -> Result<(Instant, Instant)> {
    let begun = Instant::now();
    match fault {
        Fault::Frozen => {
            servers.signal_mysqld(victim, "STOP").await?;
            let struck = Instant::now();
            tokio::time::sleep(FROZEN).await;
            let back = Instant::now();
            servers.signal_mysqld(victim, "CONT").await?;
            return Ok((struck, back));
        }
        Fault::NodePaused => {
            docker(&["pause", node]).await?;
            let struck = Instant::now();
            tokio::time::sleep(FROZEN).await;
            let back = Instant::now();
            docker(&["unpause", node]).await?;
            return Ok((struck, back));
        }
        Fault::Deleted => servers.delete_pod(victim).await?,
        Fault::Killed => servers.kill_mysqld(victim).await?,
    }
    let struck = Instant::now();
    let uptime = "SELECT VARIABLE_VALUE + 0 FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'";
    loop {
        // It is not asked by `eventually`, which would look too seldom.
        let look = async {
            let uptime: f64 = sql::value(&mut servers.root(victim).await?, uptime).await?;
            ensure!(uptime < begun.elapsed().as_secs_f64(), "still the one from before");
            Ok::<_, anyhow::Error>(Instant::now())
        };
        match timeout(DEADLINE, look).await {
            Ok(Ok(back)) => return Ok((struck, back)),
            _ => ensure!(begun.elapsed() < PATIENCE, "the server does not come back"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// A server that is not on the node of PEN and of the operator: the last of a pair, the last such member of a ring.
async fn victim(servers: &Ring) -> Result<u8> {
    let leader = node_of(operator::NAMESPACE, &operator::leader().await?).await?;
    for ordinal in servers.ordinals().rev() {
        if servers.node(ordinal).await? != leader {
            return Ok(ordinal);
        }
    }
    anyhow::bail!("every server is where the operator leads")
}

/// A connection through the path to this server.
async fn hold(servers: &Ring, address: &str, name: &str) -> Result<Conn> {
    let what = format!("a connection to {name}");
    let look = eventually(&what, || async {
        let mut conn = servers.app(address).await?;
        let host: String = sql::value(&mut conn, "SELECT @@hostname").await?;
        ensure!(host == name, "{host}");
        Ok(conn)
    });
    timeout(PATIENCE, look)
        .await
        .with_context(|| format!("the path does not lead to {name}"))?
}

/// Keeps a connection busy; when it was cut.
fn held(mut conn: Conn) -> JoinHandle<Instant> {
    tokio::spawn(async move {
        // A server that ends it lets the statement end first, as if nothing were wrong.
        while conn.query_drop("SELECT SLEEP(300)").await.is_ok() {}
        Instant::now()
    })
}

/// Every acknowledged insert is on every server.
async fn kept(servers: &Ring, safe: &[u64]) -> Result<()> {
    eventually("every acknowledged insert is everywhere", || async {
        for mut root in servers.roots().await? {
            let ids: Vec<u64> = sql::rows(&mut root, "SELECT id FROM app.attempts ORDER BY id").await?;
            let missing: Vec<_> = safe.iter().filter(|id| ids.binary_search(id).is_err()).collect();
            ensure!(
                missing.is_empty(),
                "{} of {} acknowledged inserts are missing: {missing:?}",
                missing.len(),
                safe.len()
            );
        }
        Ok(())
    })
    .await
}
