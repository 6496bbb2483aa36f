//! Which guarantees a client has, by who takes writes and by who balances: each is shown here, or its absence. docs/consistency.md has the table.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use multimaster::balancer::config;
use mysql_async::Conn;
use serde_json::json;
use tokio::time::timeout;

use crate::single_writer::writer;
use crate::sticky::remembered;
use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::{PATIENCE, eventually, sql};

/// Two tables, so that one can be locked and not the other.
const TABLES: [&str; 2] = ["a", "b"];
/// How many a test writes in a row.
const WRITES: u32 = 50;
/// SQLSTATE of `wait_for_executed_gtid_set` when it has waited in vain.
const LATE: &str = "HYT00";

pub async fn where_all_write(ring: &Ring) -> Result<()> {
    create_tables(ring, 0).await?;
    let service = ring.service_ip().await?;

    // No read your writes, no monotonic reads: another connection leads to a member that has not applied it.
    let held = hold(ring, 1, "a").await?;
    let written = write(ring, 0, "a", 1).await?;
    eventually("a connection that does not see what an earlier one saw", || async {
        let earlier = has(&mut ring.app(&service).await?, "a", 1).await?;
        let later = has(&mut ring.app(&service).await?, "a", 1).await?;
        ensure!((earlier, later) == (true, false), "{earlier}, then {later}");
        Ok(())
    })
    .await?;
    // No causal order for such a client: it has read at member 0 and answers at member 1.
    write(ring, 1, "b", 1).await?;
    ensure!(at(ring, 1, 1).await? == (false, true), "{:?}", at(ring, 1, 1).await?);
    waiting_gives_it(ring, 1, held, "a", &written).await?;

    // No total order: each of two members shows its own write first.
    let (held_by_0, held_by_1) = (hold(ring, 0, "b").await?, hold(ring, 1, "a").await?);
    write(ring, 0, "a", 2).await?;
    write(ring, 1, "b", 2).await?;
    ensure!(at(ring, 0, 2).await? == (true, false), "{:?}", at(ring, 0, 2).await?);
    ensure!(at(ring, 1, 2).await? == (false, true), "{:?}", at(ring, 1, 2).await?);
    release(held_by_0).await?;
    release(held_by_1).await?;
    everywhere(ring, 2).await?;

    // But what a member had when it took a write is at no other member seen after it, also where the write could be applied at once.
    let held = hold(ring, 2, "a").await?;
    write(ring, 0, "a", 3).await?;
    eventually("member 1 shows the first", || async {
        ensure!(at(ring, 1, 3).await? == (true, false));
        Ok(())
    })
    .await?;
    write(ring, 1, "b", 3).await?;
    eventually("member 2 could show the second", || async {
        let waiting = "SELECT COUNT(*) FROM performance_schema.processlist WHERE STATE = 'Waiting for preceding transaction to commit'";
        let waiting: u32 = sql::value(&mut ring.root(2).await?, waiting).await?;
        ensure!(waiting > 0, "no applier waits with it");
        Ok(())
    })
    .await?;
    ensure!(at(ring, 2, 3).await? == (false, false), "{:?}", at(ring, 2, 3).await?);
    release(held).await?;
    everywhere(ring, 3).await
}

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn one_writer_gives_one_order_and_its_readers_are_behind() -> Result<()> {
    in_namespace("order", |world| async move {
        let more = json!({"writes": "SingleWriter", "balancer": {"type": "HAProxy"}});
        let ring = Ring::ready(&world, "demo", 3, more).await?;
        let first = writer(&ring).await?;
        create_tables(&ring, first).await?;
        one_order(&ring, first, 1).await?;

        ring.patch(json!({"spec": {"balancer": {"type": "Service"}}})).await?;
        let service = ring.service_ip().await?;
        eventually("the writer without HAProxy", || async {
            let mut conn = ring.app(&service).await?;
            ensure!(!ring.is_through_haproxy(&mut conn).await?, "through HAProxy");
            Ok(())
        })
        .await?;
        ensure!(writer(&ring).await? == first, "the writer has moved");
        one_order(&ring, first, 101).await?;

        // At the address for reads a client waits for what it wrote.
        let reads = ring.reads_ip().await?;
        let behind = (first + 1) % ring.members;
        let held = hold(&ring, behind, "a").await?;
        let written = write(&ring, first, "a", 1).await?;
        eventually("a reader that does not have it", || async {
            ensure!(!has(&mut ring.app(&reads).await?, "a", 1).await?, "it has");
            Ok(())
        })
        .await?;
        waiting_gives_it(&ring, behind, held, "a", &written).await
    })
    .await
}

/// Whoever writes at the one address reads it there, through whatever connection, while no reader has any of it; and when the readers catch up
/// they show no write without all before it.
async fn one_order(ring: &Ring, writer: u8, from: u32) -> Result<()> {
    let service = ring.service_ip().await?;
    let (mut held, mut readers) = (Vec::new(), Vec::new());
    for reader in ring.ordinals().filter(|ordinal| *ordinal != writer) {
        held.push(hold(ring, reader, "b").await?);
        readers.push(ring.app(&ring.ip(reader).await?).await?);
    }
    for number in from..from + WRITES {
        insert(&mut ring.app(&service).await?, "b", number).await?;
        ensure!(
            has(&mut ring.app(&service).await?, "b", number).await?,
            "{number} is not there"
        );
    }
    for reader in &mut readers {
        let (_, count) = last_and_count(reader, from).await?;
        ensure!(count == 0, "a reader whose applier is held up has {count} writes");
    }
    for held in held {
        release(held).await?;
    }
    for reader in &mut readers {
        timeout(PATIENCE, catch_up(reader, from))
            .await
            .context("a reader does not catch up")??;
    }
    Ok(())
}

/// Looks as often as it can until all are there.
async fn catch_up(reader: &mut Conn, from: u32) -> Result<()> {
    loop {
        let (last, count) = last_and_count(reader, from).await?;
        ensure!(
            count == 0 || last + 1 - from == count,
            "{count} writes, and the last is {last}, from {from} on"
        );
        if count == WRITES {
            return Ok(());
        }
    }
}

async fn last_and_count(reader: &mut Conn, from: u32) -> Result<(u32, u32)> {
    let query = format!("SELECT COALESCE(MAX(number), 0), COUNT(*) FROM app.b WHERE number >= {from}");
    let rows = sql::rows(reader, &query).await?;
    rows.into_iter().next().context("no row")
}

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_sticky_client_reads_its_writes_and_stays_where_it_went() -> Result<()> {
    in_namespace("sticky", |world| async move {
        let in_turns = json!({"balancer": {"type": "HAProxy", "algorithm": "RoundRobin"}});
        let ring = Ring::ready(&world, "demo", 3, in_turns).await?;
        create_tables(&ring, 0).await?;
        let service = ring.service_ip().await?;

        let shares = eventually("all members in turns", || async {
            let shares = shares(&ring, &service, 300).await?;
            let (fewest, most) = (shares.values().min(), shares.values().max());
            let (fewest, most) = (*fewest.context("no member")?, *most.context("no member")?);
            ensure!(shares.len() == 3 && most * 100 <= fewest * 105, "{shares:?}");
            Ok(shares)
        })
        .await?;
        eprintln!("of 300 connections in turns: {shares:?}");

        ring.patch(json!({"spec": {"balancer": {"sticky": true}}})).await?;
        let first = eventually("one member for all connections", || one_that_sticks(&ring, &service)).await?;
        reads_its_writes(&ring, &service, 1).await?;
        ring.kill_mysqld(first).await?;
        let second = eventually("another member for all connections", || async {
            let second = one_that_sticks(&ring, &service).await?;
            ensure!(second != first, "still {first}");
            Ok(second)
        })
        .await?;
        ring.wait_ready().await?;
        eventually("all members serve", || async {
            for ordinal in ring.ordinals() {
                ensure!(ring.serves(ordinal).await?, "{ordinal} does not");
            }
            Ok(())
        })
        .await?;
        reads_its_writes(&ring, &service, 2).await?;
        let third = one_for_all(&ring, &service).await?;
        ensure!(third == second, "it went from {second} to {third}");

        // kube-proxy's way of the same.
        ring.patch(json!({"spec": {"balancer": {"type": "Service", "affinity": "ClientIP", "algorithm": null, "sticky": null}}}))
            .await?;
        eventually("one member for all connections, without HAProxy", || async {
            let mut conn = ring.app(&service).await?;
            ensure!(!ring.is_through_haproxy(&mut conn).await?, "through HAProxy");
            one_for_all(&ring, &service).await
        })
        .await?;
        reads_its_writes(&ring, &service, 3).await
    })
    .await
}

async fn create_tables(ring: &Ring, ordinal: u8) -> Result<()> {
    let mut conn = ring.app(&ring.ip(ordinal).await?).await?;
    for table in TABLES {
        sql::run(&mut conn, &format!("CREATE TABLE app.{table} (number INT PRIMARY KEY)")).await?;
    }
    eventually("the tables everywhere", || async {
        for ordinal in ring.ordinals() {
            at(ring, ordinal, 0).await?;
        }
        Ok(())
    })
    .await
}

async fn insert(conn: &mut Conn, table: &str, number: u32) -> Result<()> {
    Ok(sql::run(conn, &format!("INSERT INTO app.{table} VALUES ({number})")).await?)
}

async fn has(conn: &mut Conn, table: &str, number: u32) -> Result<bool> {
    sql::value(
        conn,
        &format!("SELECT COUNT(*) > 0 FROM app.{table} WHERE number = {number}"),
    )
    .await
}

/// Writes at a member; what to wait for elsewhere, as any client can learn it.
async fn write(ring: &Ring, ordinal: u8, table: &str, number: u32) -> Result<String> {
    let mut conn = ring.app(&ring.ip(ordinal).await?).await?;
    insert(&mut conn, table, number).await?;
    sql::value(&mut conn, "SELECT @@GLOBAL.gtid_executed").await
}

/// Whether a member shows the number in each table.
async fn at(ring: &Ring, ordinal: u8, number: u32) -> Result<(bool, bool)> {
    let mut conn = ring.app(&ring.ip(ordinal).await?).await?;
    Ok((has(&mut conn, "a", number).await?, has(&mut conn, "b", number).await?))
}

async fn everywhere(ring: &Ring, number: u32) -> Result<()> {
    eventually("both writes everywhere", || async {
        for ordinal in ring.ordinals() {
            ensure!(at(ring, ordinal, number).await? == (true, true), "not at {ordinal}");
        }
        Ok(())
    })
    .await
}

/// Nobody can write to the table at this member, its applier neither, until the lock is released.
async fn hold(ring: &Ring, ordinal: u8, table: &str) -> Result<Conn> {
    let mut holder = ring.root(ordinal).await?;
    sql::run(&mut holder, &format!("LOCK TABLES app.{table} READ")).await?;
    Ok(holder)
}

async fn release(mut holder: Conn) -> Result<()> {
    Ok(sql::run(&mut holder, "UNLOCK TABLES").await?)
}

/// At a member whose applier is held up the application's user waits in vain, and is told so; then the lock goes, and with the wait comes the write.
async fn waiting_gives_it(ring: &Ring, ordinal: u8, held: Conn, table: &str, written: &str) -> Result<()> {
    let mut conn = ring.app(&ring.ip(ordinal).await?).await?;
    match wait(&mut conn, written, 1).await {
        Err(mysql_async::Error::Server(error))
            if error.state == LATE && error.message.contains(&ring.member(ordinal)) => {}
        other => bail!("waited in vain, and was told {other:?}"),
    }
    release(held).await?;
    wait(&mut conn, written, 20).await?;
    ensure!(has(&mut conn, table, 1).await?, "waited, and it is not there");
    Ok(())
}

async fn wait(conn: &mut Conn, written: &str, seconds: u32) -> Result<(), mysql_async::Error> {
    let call = format!("CALL multimaster.wait_for_executed_gtid_set('{written}', {seconds})");
    sql::run(conn, &call).await
}

/// How many of so many new connections each member got.
async fn shares(ring: &Ring, service: &str, connections: u32) -> Result<BTreeMap<String, u32>> {
    let mut shares = BTreeMap::new();
    for _ in 0..connections {
        let member: String = sql::value(&mut ring.app(service).await?, "SELECT @@hostname").await?;
        *shares.entry(member).or_default() += 1;
    }
    Ok(shares)
}

/// The one member that many new connections all lead to.
async fn one_for_all(ring: &Ring, service: &str) -> Result<u8> {
    let shares = shares(ring, service, 20).await?;
    ensure!(shares.len() == 1, "{shares:?}");
    let member = shares.keys().next().and_then(|name| name.rsplit('-').next());
    Ok(member.context("no ordinal")?.parse()?)
}

/// As [`one_for_all`], and each HAProxy pod remembers that member. A pod that was busy, or out of the Service, could send its first connection
/// elsewhere.
async fn one_that_sticks(ring: &Ring, service: &str) -> Result<u8> {
    let member = one_for_all(ring, service).await?;
    let pods: Vec<_> = ring.balancers().await?.iter().map(ResourceExt::name_any).collect();
    for (pod, servers) in pods.iter().zip(remembered(ring, &pods).await?) {
        ensure!(
            servers == [config::server(member)],
            "{pod} remembers {servers:?}, and all went to {member}"
        );
    }
    Ok(member)
}

/// Also where the other members surely do not have them yet: their appliers are held up.
async fn reads_its_writes(ring: &Ring, service: &str, number: u32) -> Result<()> {
    let own = one_for_all(ring, service).await?;
    let mut holders = Vec::new();
    for other in ring.ordinals().filter(|ordinal| *ordinal != own) {
        holders.push(hold(ring, other, "a").await?);
    }
    insert(&mut ring.app(service).await?, "a", number).await?;
    for _ in 0..20 {
        ensure!(
            has(&mut ring.app(service).await?, "a", number).await?,
            "a connection does not see {number}"
        );
    }
    for holder in holders {
        release(holder).await?;
    }
    Ok(())
}
