//! HAProxy remembers as many clients as it can: a new one is served and remembered, and those who were not seen for longest are forgotten.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use multimaster::balancer::config::{self, MEMBERS};
use multimaster::names;
use serde_json::json;

use crate::support::ring::Ring;
use crate::support::world::in_namespace;
use crate::support::{eventually, kube_context, run, sql};

/// So many of the first and of the last clients are looked at: HAProxy makes room for up to a hundred at once.
const SOME: u32 = 1000;
/// Commands in a line: HAProxy takes 15 kB, and none of these is longer than 40 bytes.
const COMMANDS: usize = 300;

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn a_new_client_is_remembered_where_no_more_can_be() -> Result<()> {
    in_namespace("full", |world| async move {
        let sticky = json!({"balancer": {"type": "HAProxy", "algorithm": "RoundRobin", "sticky": true}});
        let ring = Ring::ready(&world, "demo", 2, sticky).await?;
        let pods: Vec<_> = ring.balancers().await?.iter().map(ResourceExt::name_any).collect();
        let [pod, _] = pods.as_slice() else {
            bail!("{} HAProxy pods", pods.len());
        };

        let places = memory(&ring, pod).await?.places;
        let refused = of_each(&ring, pod, "set", 0..places).await?;
        ensure!(refused.is_empty(), "{refused}");
        let full = Memory {
            places,
            taken: places,
            servers: Vec::new(),
        };
        // The other one is told by its peer.
        eventually("both pods are full", || async {
            let memories = memories(&ring, &pods).await?;
            ensure!(memories.iter().all(|memory| *memory == full), "{memories:?}");
            Ok(())
        })
        .await?;

        let service = ring.service_ip().await?;
        let mut conn = ring.app(&service).await?;
        ensure!(ring.is_through_haproxy(&mut conn).await?, "straight to a member");
        sql::run(&mut conn, "CREATE TABLE app.t (number INT PRIMARY KEY)").await?;
        sql::run(&mut conn, "INSERT INTO app.t VALUES (7)").await?;
        let numbers: Vec<u32> = sql::rows(&mut conn, "SELECT number FROM app.t").await?;
        ensure!(numbers == [7], "{numbers:?}");

        let member: String = sql::value(&mut conn, "SELECT @@hostname").await?;
        let ordinal = ring.ordinals().find(|ordinal| ring.member(*ordinal) == member);
        let servers = vec![config::server(ordinal.context("no member")?)];
        eventually("both pods remember the new client", || async {
            let memories = memories(&ring, &pods).await?;
            ensure!(memories.iter().all(|memory| memory.servers == servers), "{memories:?}");
            Ok(())
        })
        .await?;
        let reached = ring.reached(&service).await?;
        ensure!(reached == BTreeSet::from([member]), "{reached:?}");

        for pod in &pods {
            let memory = memory(&ring, pod).await?;
            ensure!(memory.servers == servers, "{pod}: {memory:?}");
            ensure!((places - SOME..=places).contains(&memory.taken), "{pod}: {memory:?}");
            let first = known(&ring, pod, 0..SOME).await?;
            let last = known(&ring, pod, places - SOME..places).await?;
            ensure!(
                first < SOME && last == SOME,
                "{pod} knows {first} of the first and {last} of the last {SOME}"
            );
        }
        Ok(())
    })
    .await
}

/// What a pod remembers.
#[derive(Debug, PartialEq)]
struct Memory {
    /// For so many clients it has a place.
    places: u32,
    /// So many it remembers.
    taken: u32,
    /// The servers of those who were served. Whom this test has put there never was.
    servers: Vec<String>,
}

async fn memory(ring: &Ring, pod: &str) -> Result<Memory> {
    let said = tell(ring, pod, &format!("@@1 show table {MEMBERS} data.server_id gt 0\n")).await?;
    let number = |name: &str| -> Result<u32> {
        let value = said.split_whitespace().find_map(|word| word.strip_prefix(name));
        let value = value.with_context(|| format!("no {name} in {said}"))?;
        Ok(value.trim_end_matches(',').parse()?)
    };
    let servers = said
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("server_key="));
    Ok(Memory {
        places: number("size:")?,
        taken: number("used:")?,
        servers: servers.map(str::to_owned).collect(),
    })
}

async fn memories(ring: &Ring, pods: &[String]) -> Result<Vec<Memory>> {
    let mut memories = Vec::new();
    for pod in pods {
        memories.push(memory(ring, pod).await?);
    }
    Ok(memories)
}

/// The servers of the clients that each pod remembers.
pub async fn remembered(ring: &Ring, pods: &[String]) -> Result<Vec<Vec<String>>> {
    let memories = memories(ring, pods).await?;
    Ok(memories.into_iter().map(|memory| memory.servers).collect())
}

/// How many of these clients a pod remembers. Of others it says nothing.
async fn known(ring: &Ring, pod: &str, clients: Range<u32>) -> Result<u32> {
    let said = of_each(ring, pod, "show", clients).await?;
    Ok(said.matches(" key=").count().try_into()?)
}

/// Shows or sets each of these clients; what HAProxy says.
async fn of_each(ring: &Ring, pod: &str, verb: &str, clients: Range<u32>) -> Result<String> {
    let commands: Vec<_> = clients
        .map(|number| {
            // Addresses for documentation: nobody has them.
            let client = Ipv6Addr::from((0x2001_0db8_u128 << 96) + u128::from(number));
            format!("{verb} table {MEMBERS} key {client}")
        })
        .collect();
    let lines: String = commands
        .chunks(COMMANDS)
        .map(|some| format!("@@1 {}\n", some.join(";")))
        .collect();
    tell(ring, pod, &lines).await
}

/// Tells HAProxy in a pod these lines, each in a connection of its own; what it says, without empty lines. After `@@1` the worker takes the whole
/// line, after `@1` it would take the first command.
async fn tell(ring: &Ring, pod: &str, lines: &str) -> Result<String> {
    let script = format!(
        r#"my $haproxy = IO::Socket::UNIX->new("{}/master.sock") or die "no HAProxy: $!";
            print $haproxy $_; shutdown $haproxy, 1; print grep /\S/, <$haproxy>"#,
        names::paths::RUN
    );
    let context = kube_context()?;
    let exec = ["--context", &context, "exec", "-i", "-n", &ring.namespace, pod, "--"];
    // What every Debian has.
    let perl = ["perl", "-MIO::Socket::UNIX", "-ne", &script];
    run("kubectl", &[&exec[..], &perl].concat(), lines).await
}
