//! A healthy ring whose members are killed, alone, and then beside rings each of which has what took the whole operator down once.
//! `make bench-neighbours`; `HOSTILE_IMAGE` names the image of a server that answers nonsense.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;

use crate::conflicts::{apart, run_at};
use crate::support::node::shell;
use crate::support::ring::{Ring, is_serving, spec};
use crate::support::world::{World, alone};
use crate::support::writers::{At, Writers};
use crate::support::{eventually, kubectl, operator, sql};

/// Kills of a member in each half.
const KILLS: u8 = 5;
/// The most memory that an operator may have, in bytes.
const MEMORY: u64 = 256 << 20;

#[tokio::test]
#[ignore = "measures for a quarter of an hour: make bench-neighbours"]
async fn a_ring_heals_beside_others_as_it_does_alone() -> Result<()> {
    alone("neighbours", |world| async move {
        let spec = json!({"failureDetection": {"holdOutSeconds": 0}});
        let calm = Ring::ready(&world, "calm", 3, spec).await?;
        let writers = Writers::start(&calm, vec![At::Service]).await?;
        let before = heals(&calm).await?;
        let restarts = restarts().await?;

        let hung = hung(&world).await?;
        tokio::try_join!(
            procedure(&world),
            large_row(&world),
            many_intervals(&world),
            hostile(&world)
        )?;
        let beside = heals(&calm).await?;

        hung.signal_mysqld(1, "CONT").await?;
        let safe = writers.settle().await?;
        ensure!(self::restarts().await? == restarts, "an operator was started again");
        let memory = most_memory().await?;
        for name in ["hung", "procedure", "blob", "intervals", "hostile"] {
            eprintln!("{name}: {}", conditions(&world, name).await?);
        }
        let ratio = median(&beside).as_secs_f64() / median(&before).as_secs_f64();
        eprintln!(
            "{safe} acknowledged writes, all found; most memory of an operator: {} MiB",
            memory >> 20
        );
        println!("alone {before:.1?}\nbeside {beside:.1?}\nratio of the medians {ratio:.2}");
        ensure!(memory < MEMORY, "{memory} bytes");
        Ok(())
    })
    .await
}

/// From the kill of a member until the ring is whole again, for each in turn.
async fn heals(ring: &Ring) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for kill in 0..KILLS {
        let victim = kill % ring.members;
        let (pod, before) = (ring.member(victim), ring.pod(victim).await?.metadata.uid);
        let begun = Instant::now();
        kubectl(&[
            "delete",
            "pod",
            &pod,
            "-n",
            &ring.namespace,
            "--grace-period=0",
            "--force",
        ])
        .await?;
        eventually("another pod serves", || async {
            let pod = ring.pod(victim).await?;
            ensure!(pod.metadata.uid != before && is_serving(&pod), "not yet");
            Ok(())
        })
        .await?;
        ring.wait_ready().await?;
        times.push(begun.elapsed());
    }
    times.sort();
    Ok(times)
}

fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Its server stands still while a conflict is settled.
async fn hung(world: &World) -> Result<Ring> {
    let prefer = json!({"conflicts": {"policy": "Prefer", "prefer": [0]}});
    let ring = Ring::ready(world, "hung", 2, prefer).await?;
    run_at(&ring, 0, "CREATE TABLE app.t (id INT PRIMARY KEY, who INT)").await?;
    eventually("the table", || async { run_at(&ring, 1, "DELETE FROM app.t").await }).await?;
    apart(&ring, async |ring| {
        for ordinal in [0, 1] {
            for id in 0..20 {
                run_at(ring, ordinal, &format!("INSERT INTO app.t VALUES ({id}, {ordinal})")).await?;
            }
        }
        Ok(())
    })
    .await?;
    eventually("a conflict is being settled", || async {
        let free = ring.condition("ConflictFree").await?;
        ensure!(free.status == "False", "{free:?}");
        Ok(())
    })
    .await?;
    ring.signal_mysqld(1, "STOP").await?;
    Ok(ring)
}

/// A procedure of 60 MB, and a comparison.
async fn procedure(world: &World) -> Result<()> {
    let ring = Ring::ready(world, "procedure", 2, json!({})).await?;
    let mut app = ring.app(&ring.ip(0).await?).await?;
    let text = "x".repeat(60_000_000);
    sql::run_large(
        &mut app,
        &format!("CREATE PROCEDURE app.big() BEGIN SET @a = \"{text}\"; END"),
    )
    .await?;
    ring.patch(json!({"metadata": {"annotations": {"multimaster.dev/compare": "big"}}}))
        .await
}

/// Two members insert a row of 50 MB with the same key.
async fn large_row(world: &World) -> Result<()> {
    let ring = Ring::ready(world, "blob", 2, json!({"storage": {"size": "4Gi"}})).await?;
    run_at(&ring, 0, "CREATE TABLE app.t (id INT PRIMARY KEY, b LONGBLOB)").await?;
    eventually("the table", || async { run_at(&ring, 1, "DELETE FROM app.t").await }).await?;
    let insert = async |ordinal| {
        run_at(
            &ring,
            ordinal,
            &format!("INSERT INTO app.t VALUES (1, REPEAT('{ordinal}', 50000000))"),
        )
        .await
    };
    apart(&ring, async |_| tokio::try_join!(insert(0), insert(1)).map(drop)).await?;
    eventually("the conflict is told", || async {
        let free = ring.condition("ConflictFree").await?;
        ensure!(free.status == "False", "{free:?}");
        Ok(())
    })
    .await
}

/// gtid_purged has 300,000 intervals.
async fn many_intervals(world: &World) -> Result<()> {
    let ring = Ring::ready(world, "intervals", 2, json!({})).await?;
    let intervals: String = (0..300_000).map(|n| format!(":{}", 2 * n + 1)).collect();
    let purged = format!("SET GLOBAL gtid_purged = '+aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa{intervals}'");
    for ordinal in ring.ordinals() {
        sql::run_large(&mut ring.root(ordinal).await?, &purged).await?;
    }
    Ok(())
}

/// A server that answers nonsense.
async fn hostile(world: &World) -> Result<()> {
    let Ok(image) = std::env::var("HOSTILE_IMAGE") else {
        eprintln!("HOSTILE_IMAGE is not set: there is no hostile server");
        return Ok(());
    };
    let env = json!([{"name": "MODE", "value": "BOMB"}]);
    let template = json!({"spec": {"containers": [{"name": "mysql", "env": env}]}});
    let ring = Ring::apply(
        world,
        "hostile",
        spec(2, json!({"image": image, "podTemplate": template})),
    )
    .await?;
    eventually("its servers run", || async {
        for ordinal in ring.ordinals() {
            ring.ip(ordinal).await?;
        }
        Ok(())
    })
    .await
}

/// How often each of the operator's containers was started again.
async fn restarts() -> Result<Vec<(String, u32)>> {
    try_join_all(operator::pods().await?.into_iter().map(|pod| async {
        let restarts = operator::restarts(&pod).await?;
        Ok((pod, restarts))
    }))
    .await
}

/// The most memory that an operator had since it began, in bytes.
async fn most_memory() -> Result<u64> {
    let leader = operator::leader().await?;
    let of = async |path| kubectl(&["get", "pod", &leader, "-n", operator::NAMESPACE, "-o", path]).await;
    let (node, uid) = (
        of("jsonpath={.spec.nodeName}").await?,
        of("jsonpath={.metadata.uid}").await?,
    );
    let script = format!(
        r#"for p in /proc/[0-9]*; do
            tr _ - <"$p/cgroup" | grep -q {uid} && read -r name <"$p/comm" && [ "$name" = multimaster ] && awk '/VmHWM/ {{ print $2 }}' "$p/status"
        done 2>/dev/null; true"#
    );
    let said = shell(&node, &script).await?;
    Ok(said.trim().parse::<u64>().context(said.clone())? * 1024)
}

/// What a ring says of itself.
async fn conditions(world: &World, name: &str) -> Result<String> {
    let path = r#"jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}; {end}"#;
    kubectl(&[
        "get",
        "mmc",
        name,
        "-n",
        &world.namespace,
        "--ignore-not-found",
        "-o",
        path,
    ])
    .await
}
