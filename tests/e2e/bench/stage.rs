//! What is measured: three sets of servers, the paths to them, and the pods of the tools.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use multimaster::names::{self, keys};
use serde_json::{Value, json};

use crate::balancer::balance;
use crate::support::ring::{DATABASE, Ring};
use crate::support::world::World;
use crate::support::{eventually, kube_context, kubectl, operator, run, sql};

use super::manifests::{self, BUFFER_POOL, Images};

/// Schemas for sysbench, one for each of its processes: members that all take writes must not be given the same rows.
pub const SCHEMAS: u8 = 4;
/// HAProxy's pods learn of a change within this time.
const SETTLE: Duration = Duration::from_secs(3);

/// A way from a client to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    Alone,
    Pen,
    Service,
    HaProxy,
    HaProxyFast,
}

impl Path {
    pub fn title(self) -> &'static str {
        match self {
            Self::Alone => "one server",
            Self::Pen => "two masters, PEN",
            Self::Service => "ring of 3, Service",
            Self::HaProxy => "ring of 3, HAProxy",
            Self::HaProxyFast => "ring of 3, HAProxy 200 ms",
        }
    }

    /// The pod of the shop that uses it.
    pub fn web(self) -> &'static str {
        match self {
            Self::Alone => "web-alone",
            Self::Pen => "web-pen",
            Self::Service | Self::HaProxy | Self::HaProxyFast => "web-ring",
        }
    }
}

pub struct Stage {
    pub world: World,
    /// One server.
    pub alone: Ring,
    /// Two masters made by hand. It is no ring of the operator, but pods, Services and passwords have the same names.
    pub pair: Ring,
    pub ring: Ring,
}

impl Stage {
    /// Everything is there and was reached.
    pub async fn set(world: &World) -> Result<Self> {
        let images = Images {
            mysql: image("mysql").await?,
            bench: image("bench").await?,
            applications: image("applications").await?,
        };
        // PEN and the clients are where the operator leads: neither may be on the node that is paused.
        let leader = operator::leader().await?;
        let node = node_of(operator::NAMESPACE, &leader).await?;
        eprintln!("PEN, the shop and the tools are on {node}, with the operator {leader}");
        let by_hand = |name: &str, members| Ring {
            client: world.client.clone(),
            namespace: world.namespace.clone(),
            name: name.into(),
            members,
        };
        let (alone, pair) = (by_hand("alone", 1), by_hand("pair", 2));
        let password = format!("{:08x}{:08x}", getrandom::u32()?, getrandom::u32()?);
        let mut objects = manifests::servers("alone", 1, &images.mysql, &password, &node);
        objects.extend(manifests::servers("pair", 2, &images.mysql, &password, &node));
        objects.extend([manifests::tools(&images.bench, &node), manifests::shop()]);
        apply(world, &objects).await?;
        let own = json!({
            "mysql": {"config": {"innodb_buffer_pool_size": BUFFER_POOL}},
            // Otherwise the second outage of a member within five minutes would wait for the end of its being held out.
            "failureDetection": {"holdOutSeconds": 0},
        });
        let ring = Ring::ready(world, "ring", 3, own).await?;
        let stage = Self {
            world: world.clone(),
            alone,
            pair,
            ring,
        };
        for servers in [&stage.alone, &stage.pair] {
            eventually(&format!("the servers of {}", servers.name), || servers.roots()).await?;
        }
        replicate(&stage.pair).await?;
        let pair: Vec<String> = stage
            .pair
            .ordinals()
            .map(|ordinal| stage.pair.member(ordinal))
            .collect();
        let mut objects = manifests::pen(&images.bench, &node, &pair);
        for (path, host, servers) in [
            (Path::Alone, "alone-0", &stage.alone),
            (Path::Pen, "pen", &stage.pair),
            (Path::Service, "ring", &stage.ring),
        ] {
            prepare(servers).await?;
            let password = servers.password(keys::APP).await?;
            objects.push(manifests::web(path.web(), &images.applications, &node, host, &password));
        }
        apply(world, &objects).await?;
        kubectl(&[
            "wait",
            "-n",
            &world.namespace,
            "--for=condition=Ready",
            "pods",
            "--all",
            "--timeout=180s",
        ])
        .await?;
        for path in [Path::Alone, Path::Pen, Path::Service] {
            eventually("the table of the shop", || {
                stage.exec(path.web(), &["php", "/srv/shop/schema.php"], "")
            })
            .await?;
            settled(stage.servers(path)).await?;
        }
        Ok(stage)
    }

    pub fn servers(&self, path: Path) -> &Ring {
        match path {
            Path::Alone => &self.alone,
            Path::Pen => &self.pair,
            Path::Service | Path::HaProxy | Path::HaProxyFast => &self.ring,
        }
    }

    /// Opens a path. The three to the ring are one address, and take turns. Answers the address.
    pub async fn open(&self, path: Path) -> Result<String> {
        let balancer = match path {
            Path::Alone => return self.address("alone-0").await,
            Path::Pen => return self.address("pen").await,
            Path::Service => json!({"type": "Service"}),
            Path::HaProxy => json!({"type": "HAProxy"}),
            Path::HaProxyFast => json!({"type": "HAProxy", "checkMilliseconds": 200}),
        };
        balance(&self.ring, balancer).await?;
        tokio::time::sleep(SETTLE).await;
        let ip = self.ring.service_ip().await?;
        eventually("new connections reach every member", || async {
            let reached = self.ring.reached(&ip).await?;
            ensure!(reached.len() == 3, "{reached:?}");
            Ok(())
        })
        .await?;
        Ok(ip)
    }

    async fn address(&self, service: &str) -> Result<String> {
        let path = "jsonpath={.spec.clusterIP}";
        kubectl(&["get", "service", service, "-n", &self.world.namespace, "-o", path]).await
    }

    /// Address of a pod.
    pub async fn pod_ip(&self, pod: &str) -> Result<String> {
        let path = "jsonpath={.status.podIP}";
        kubectl(&["get", "pod", pod, "-n", &self.world.namespace, "-o", path]).await
    }

    /// Runs a command in a pod; what it printed.
    pub async fn exec(&self, pod: &str, command: &[&str], input: &str) -> Result<String> {
        let context = kube_context()?;
        let begin = [
            "--context",
            &context,
            "-n",
            &self.world.namespace,
            "exec",
            "-i",
            pod,
            "--",
        ];
        run("kubectl", &[&begin, command].concat(), input).await
    }
}

/// The name of an image that this host has chosen.
async fn image(which: &str) -> Result<String> {
    let name = run("hack/images.sh", &["print", which], "").await?;
    Ok(name.trim().to_owned())
}

pub async fn node_of(namespace: &str, pod: &str) -> Result<String> {
    kubectl(&["get", "pod", pod, "-n", namespace, "-o", "jsonpath={.spec.nodeName}"]).await
}

async fn apply(world: &World, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let context = kube_context()?;
    let apply = ["--context", &context, "apply", "-n", &world.namespace, "-f", "-"];
    run("kubectl", &apply, &list).await.map(drop)
}

/// Each of two masters replicates from the other.
async fn replicate(pair: &Ring) -> Result<()> {
    let password = pair.password(keys::ROOT).await?;
    for ordinal in pair.ordinals() {
        let mut root = pair.root(ordinal).await?;
        let source = pair.member(1 - ordinal);
        let change = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{source}', SOURCE_USER = 'replication', SOURCE_PASSWORD = '{password}', \
             SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 5"
        );
        sql::run(&mut root, &change).await?;
        sql::run(&mut root, "START REPLICA").await?;
    }
    replicates(pair).await
}

/// Waits until both directions of a pair run.
async fn replicates(pair: &Ring) -> Result<()> {
    let running =
        "SELECT (SELECT COUNT(*) FROM performance_schema.replication_connection_status WHERE SERVICE_STATE = 'ON')
        + (SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE SERVICE_STATE = 'ON')";
    eventually("the pair replicates both ways", || async {
        for mut root in pair.roots().await? {
            let threads: u8 = sql::value(&mut root, running).await?;
            ensure!(threads == 2, "{threads} of 2 threads run");
        }
        Ok(())
    })
    .await
}

/// Waits until the servers are as they were before an outage.
pub async fn whole(servers: &Ring) -> Result<()> {
    match servers.name.as_str() {
        "pair" => replicates(servers).await,
        "ring" => servers.wait_ready().await,
        _ => Ok(()),
    }
}

/// Waits until all servers have executed the same transactions. Nobody may write meanwhile.
pub async fn settled(servers: &Ring) -> Result<()> {
    eventually(&format!("all servers of {} have the same", servers.name), || async {
        let mut sets = BTreeSet::new();
        for mut root in servers.roots().await? {
            let set: String = sql::value(&mut root, "SELECT @@GLOBAL.gtid_executed").await?;
            sets.insert(set);
        }
        ensure!(sets.len() == 1, "{sets:#?}");
        Ok(())
    })
    .await
}

/// Databases, users and tables of all parts, written at one server.
async fn prepare(servers: &Ring) -> Result<()> {
    let password = servers.password(keys::APP).await?;
    let mut statements = Vec::new();
    for (database, user) in [(DATABASE.to_owned(), DATABASE), ("shop".to_owned(), "shop")]
        .into_iter()
        .chain((0..SCHEMAS).map(|schema| (format!("sb{schema}"), "shop")))
    {
        statements.extend([
            format!("CREATE DATABASE IF NOT EXISTS {database}"),
            format!("CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY '{password}'"),
            format!("GRANT ALL ON {database}.* TO {user}@'%'"),
        ]);
    }
    statements.extend([
        "CREATE TABLE app.attempts (id BIGINT PRIMARY KEY, server VARCHAR(60) NOT NULL)".to_owned(),
        "CREATE TABLE app.delays (id INT PRIMARY KEY, changes INT NOT NULL)".to_owned(),
    ]);
    let mut root = servers.root(0).await?;
    for statement in statements {
        sql::run(&mut root, &statement)
            .await
            .with_context(|| statement.clone())?;
    }
    settled(servers).await
}

/// Version of HAProxy, as it says itself.
pub async fn haproxy_version(stage: &Stage) -> Result<String> {
    let deployment = format!("deployment/{}", names::balancer(&stage.ring.name));
    let said = stage.exec(&deployment, &["haproxy", "-v"], "").await?;
    let version = said.split_whitespace().nth(2).context("no version")?;
    Ok(version.to_owned())
}
