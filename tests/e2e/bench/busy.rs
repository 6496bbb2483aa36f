//! A machine that is busy accuses nobody: three rings under load while forty processes spin for five minutes. `make bench-busy`.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use multimaster::api::status::MemberState;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::support::ring::Ring;
use crate::support::world::{World, alone};
use crate::support::writers::{At, Writers};
use crate::support::{kubectl, operator};

const SPINNERS: u8 = 40;
const BUSY: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(500);

/// Processes that spin, until this is dropped.
struct Spinners(Child);

impl Spinners {
    fn start() -> Result<Self> {
        let script = format!("for i in $(seq {SPINNERS}); do (while :; do :; done) & done; wait");
        Ok(Self(
            Command::new("bash").args(["-c", &script]).process_group(0).spawn()?,
        ))
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(Err(error)) = group.map(|group| kill_process_group(group, Signal::KILL)) {
            eprintln!("the spinning processes are not ended: {error}");
        }
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "keeps the machine busy for five minutes: make bench-busy"]
async fn nobody_is_accused_on_a_busy_machine() -> Result<()> {
    alone("busy", |world| async move {
        let both = json!({});
        let single = json!({"writes": "SingleWriter"});
        let (a, b, c) = tokio::try_join!(
            Ring::ready(&world, "all-a", 3, both.clone()),
            Ring::ready(&world, "all-b", 3, both),
            Ring::ready(&world, "single", 3, single),
        )?;
        let rings = [a, b, c];
        let leader = operator::leader().await?;
        let led_since = operator::led_since().await?;
        let restarts = operator::restarts(&leader).await?;
        let writers = try_join_all(rings.iter().map(|ring| Writers::start(ring, vec![At::Service]))).await?;
        let before = accusations(&leader).await?;
        let (mut endpoints, mut withdrawn, mut looks) = (BTreeMap::new(), 0, 0);

        let spinners = Spinners::start()?;
        let begun = Instant::now();
        while begun.elapsed() < BUSY {
            for ring in &rings {
                look(ring).await?;
                let now = ready_endpoints(&world, ring).await?;
                let before = endpoints.insert(ring.name.clone(), now).unwrap_or(now);
                withdrawn += before.saturating_sub(now);
            }
            looks += 1;
            tokio::time::sleep(LOOK).await;
        }
        let load = std::fs::read_to_string("/proc/loadavg")?;
        drop(spinners);

        let after = accusations(&leader).await?;
        println!(
            "load {load}{looks} looks at {} rings; endpoints that probes withdrew: {withdrawn}",
            rings.len()
        );
        println!("steps that take something from a member, before and after: {before:?}, {after:?}");
        ensure!(before == after, "a member was accused");
        ensure!(
            operator::leader().await? == leader && operator::led_since().await? == led_since,
            "the leader changed"
        );
        ensure!(
            operator::restarts(&leader).await? == restarts,
            "the leader was started again"
        );
        for (ring, writers) in rings.iter().zip(writers) {
            let refused = writers.refused();
            println!(
                "{}: {} writes failed, {refused} of them at a fenced member",
                ring.name,
                writers.failures()
            );
            ensure!(refused == 0, "a member was fenced");
            ring.wait_ready().await?;
            writers.settle().await?;
        }
        Ok(())
    })
    .await
}

/// No member is out of the ring, fenced or without its label.
async fn look(ring: &Ring) -> Result<()> {
    let cluster = ring.get().await?;
    let writer = cluster.writer();
    let status = cluster.status.context("no status")?;
    for (ordinal, member) in status.member_statuses.iter().enumerate() {
        ensure!(!member.bypassed, "{} is bypassed: {:?}", member.name, member.message);
        ensure!(
            member.state.serves() || member.state == MemberState::Suspect,
            "{member:?}"
        );
        let takes_writes = writer.is_none_or(|writer| usize::from(writer) == ordinal);
        ensure!(
            !takes_writes || member.writable != Some(false),
            "{} is fenced",
            member.name
        );
        let ordinal = u8::try_from(ordinal)?;
        ensure!(
            !takes_writes || ring.serves(ordinal).await?,
            "{} has no label",
            member.name
        );
    }
    Ok(())
}

/// How many endpoints of its Service are ready.
async fn ready_endpoints(world: &World, ring: &Ring) -> Result<usize> {
    let selector = format!("kubernetes.io/service-name={}", ring.name);
    let slices = kubectl(&[
        "get",
        "endpointslices",
        "-n",
        &world.namespace,
        "-l",
        &selector,
        "-o",
        "json",
    ])
    .await?;
    let slices: Value = serde_json::from_str(&slices)?;
    let endpoints = slices["items"].as_array().into_iter().flatten();
    let endpoints = endpoints.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    Ok(endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .count())
}

/// Steps of the operator that take something from a member.
async fn accusations(leader: &str) -> Result<BTreeMap<String, f64>> {
    let mut steps = operator::metric(leader, "multimaster_steps_total").await?;
    let accuse = ["Fence", "Withdraw", "WithdrawReads", "Detach", "StopReceiver"];
    steps.retain(|labels, _| accuse.iter().any(|step| labels.contains(&format!("\"{step}\""))));
    Ok(steps)
}
