//! A ring of three real servers, and passes of the operator over it that need no Kubernetes. Steps at members are carried out; steps on objects and
//! labels are not.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{Store, store};
use multimaster::api::MultiMasterCluster;
use multimaster::api::status::conditions;
use multimaster::decide::decide;
use multimaster::decide::observed::{ComparisonRun, Member, Observed, Pod, Probe};
use multimaster::decide::step::Step;
use multimaster::names;
use multimaster::operator::act::{ActError, Actor};
use multimaster::operator::members::Credentials;
use multimaster::operator::observe;
use multimaster::operator::shared::{Context, Stores};
use multimaster::resources::Settings;
use multimaster::wire::agent::PATH_FOUND;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::{Agent, CLUSTER_UID, Cell, MYSQL_PORT, eventually};

const PATIENCE: Duration = Duration::from_secs(180);

pub struct Ring {
    pub agents: Vec<Agent>,
    pub cluster: MultiMasterCluster,
    context: std::sync::Arc<Context>,
    credentials: Credentials,
    // Dropped last: it removes the folders that the agents are in.
    pub cell: Cell,
}

impl Ring {
    /// Three members that replicate in a circle, all open. `spec`: YAML in braces, beside members and storage.
    pub async fn new(number: u8, conflicts: &str) -> Option<Self> {
        let cell = Cell::new(number)?;
        let admin = format!("--mysql-admin-port={}", names::MYSQL_ADMIN_PORT);
        let mut agents: Vec<Agent> = (0..3).map(|ordinal| cell.start(ordinal, &[&admin])).collect();
        for agent in &mut agents {
            agent.admin_port = names::MYSQL_ADMIN_PORT;
            let uuid = agent.running().await.server_uuid.unwrap();
            assert_eq!(agent.post(PATH_FOUND, &crate::order(&uuid)).await.0, 200);
            agent.mark().await;
        }
        let cluster = format!(
            "{{apiVersion: multimaster.dev/v1alpha1, kind: MultiMasterCluster, \
             metadata: {{name: demo, namespace: test, uid: {CLUSTER_UID}, generation: 1, resourceVersion: '1'}}, \
             spec: {{members: 3, storage: {{size: 1Gi}}, conflicts: {conflicts}, replication: {{healing: Wait}}}}}}"
        );
        let credentials = Credentials::new(cell.passwords(), cell.authority().as_bytes().to_vec());
        let mut ring = Self {
            agents,
            cluster: serde_yaml_ng::from_str(&cluster).unwrap(),
            context: context(),
            credentials,
            cell,
        };
        for ordinal in 0..3 {
            ring.agents[ordinal].open(&ring.cell).await;
            ring.attach(ordinal, (ordinal + 2) % 3).await;
        }
        eventually("the ring is closed", async || {
            ring.pass().await.unwrap();
            ring.condition(conditions::RING_CLOSED).0 == "True"
        })
        .await;
        Some(ring)
    }

    pub async fn attach(&self, downstream: usize, upstream: usize) {
        let account = names::accounts::REPLICATION;
        self.run(
            downstream,
            &format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={MYSQL_PORT}, SOURCE_USER='{account}', SOURCE_PASSWORD='{}', \
                 SOURCE_SSL=1, SOURCE_AUTO_POSITION=1, SOURCE_HEARTBEAT_PERIOD=1, SOURCE_CONNECT_RETRY=1 FOR CHANNEL 'from-{upstream}'; \
                 START REPLICA FOR CHANNEL 'from-{upstream}'",
                self.agents[upstream].address,
                self.cell.password(account)
            ),
        )
        .await;
    }

    /// Statements at a member as root, in one session.
    pub async fn run(&self, ordinal: usize, statements: &str) {
        run(&mut self.agents[ordinal].root().await, statements).await;
    }

    /// One value at a member, as text.
    pub async fn value(&self, ordinal: usize, query: &str) -> String {
        self.agents[ordinal].value(query).await
    }

    /// One value at every member.
    pub async fn everywhere(&self, query: &str) -> Vec<String> {
        let mut values = Vec::new();
        for ordinal in 0..3 {
            values.push(self.value(ordinal, query).await);
        }
        values
    }

    /// All members have executed the same.
    pub async fn in_step(&self) {
        eventually("all members have executed the same", async || {
            let sets = self.everywhere("SELECT @@GLOBAL.gtid_executed").await;
            sets.iter().all(|set| *set == sets[0])
        })
        .await;
    }

    /// Writes at members 0 and 1. Neither member knows of the other's write, because no applier runs meanwhile.
    pub async fn apart(&self, at_0: &str, at_1: &str) {
        self.all_apart([at_0, at_1, ""]).await;
    }

    /// The same at all three members.
    pub async fn all_apart(&self, statements: [&str; 3]) {
        for ordinal in 0..3 {
            self.run(ordinal, "STOP REPLICA SQL_THREAD").await;
        }
        for ordinal in (0..3).rev() {
            self.run(ordinal, statements[ordinal]).await;
        }
        for ordinal in 0..3 {
            self.run(ordinal, "START REPLICA SQL_THREAD").await;
        }
    }

    pub async fn observe(&self) -> Observed {
        let mut members = Vec::new();
        for (ordinal, agent) in (0..).zip(&self.agents) {
            let pod = Pod {
                uid: format!("pod-{ordinal}"),
                ip: Some(agent.address.clone()),
                ready: true,
                running: true,
                serving: true,
                reads: true,
                ..Pod::default()
            };
            let report = agent.report().await;
            let mut client = self.client(ordinal, &pod).await;
            members.push(Member {
                ordinal,
                claim: Some(agent.address.clone()),
                outsider: None,
                pod_refusal: None,
                agent: report.map_or(Probe::Unreachable("no answer".into()), Probe::Reached),
                server: observe::members::server(&mut client).await,
                pod: Some(pod),
                witness_probes: Vec::new(),
                since_contact: SignedDuration::ZERO,
                since_confirmed: SignedDuration::ZERO,
                last_seen_fenced: false,
            });
        }
        Observed {
            cluster: self.cluster.clone(),
            update_revision: None,
            problems: Vec::new(),
            volumes: None,
            members,
            balancers: Vec::new(),
            balancer_refusal: None,
            comparison: ComparisonRun::Idle,
            conflicts_wait: false,
            status_waits: false,
            looked_late: false,
        }
    }

    async fn client(
        &self,
        ordinal: u8,
        pod: &Pod,
    ) -> tokio::sync::OwnedMutexGuard<multimaster::operator::members::MemberClient> {
        let host = names::member_host("demo", "test", ordinal);
        let ip = pod.ip.as_ref().unwrap().parse().unwrap();
        let clients = &self.context.members;
        clients.of(&pod.uid, ip, host, &self.credentials).await.unwrap()
    }

    /// Observes and decides. Returns the observation, and the step that changes a member.
    pub async fn decided(&mut self) -> (Observed, Option<Step>) {
        let observed = self.observe().await;
        let decision = decide(&observed, Timestamp::now());
        self.cluster.status = Some(decision.status);
        let step = decision.steps.into_iter().find(Step::is_risky);
        let observed = Observed {
            cluster: self.cluster.clone(),
            ..observed
        };
        (observed, step)
    }

    pub async fn act(&self, observed: &Observed, step: &Step) -> Result<(), ActError> {
        let actor = Actor {
            observed,
            context: &self.context,
            credentials: Some(&self.credentials),
        };
        actor.act(step).await.map(drop)
    }

    /// One pass: the step that it carried out, or why it could not.
    pub async fn pass(&mut self) -> Result<Option<Step>, (Step, ActError)> {
        let (observed, step) = self.decided().await;
        match step {
            Some(step) => match self.act(&observed, &step).await {
                Ok(()) => Ok(Some(step)),
                Err(error) => Err((step, error)),
            },
            None => Ok(None),
        }
    }

    /// Passes until a step is due for which this holds. That step is not carried out.
    pub async fn until_due(&mut self, what: &str, is_it: impl Fn(&Step) -> bool) -> (Observed, Step) {
        let end = Instant::now() + PATIENCE;
        loop {
            let (observed, step) = self.decided().await;
            match step {
                Some(step) if is_it(&step) => return (observed, step),
                Some(step) => {
                    // It may be refused; the next pass decides anew.
                    let _ = self.act(&observed, &step).await;
                }
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            assert!(Instant::now() < end, "not due: {what}; {}", self.message());
        }
    }

    /// Passes until this condition of the resource holds.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            // A step may fail, because something is under way; the next pass decides anew.
            let pass = self.pass().await;
            if !matches!(pass, Ok(Some(_))) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(Instant::now() < end, "not seen: {what}; {}; {pass:?}", self.message());
        }
    }

    /// Passes until a query has this value at a member.
    pub async fn until_value(&mut self, ordinal: usize, query: &str, value: &str) {
        let end = Instant::now() + PATIENCE;
        while self.value(ordinal, query).await != value {
            // As in `until`.
            let _ = self.pass().await;
            assert!(
                Instant::now() < end,
                "not {value} at {ordinal}: {query}; {}",
                self.message()
            );
        }
    }

    /// Passes until no conflict is open, and all members have executed the same.
    pub async fn until_settled(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            // The conditions may be from an earlier pass.
            self.cluster.status.as_mut().unwrap().conditions.clear();
            self.until("no conflict is open", Self::is_settled).await;
            // An applier may be about to meet the next one.
            let sets = self.everywhere("SELECT @@GLOBAL.gtid_executed").await;
            if sets.iter().all(|set| *set == sets[0]) {
                return;
            }
            assert!(Instant::now() < end, "not the same: {sets:?}");
        }
    }

    /// No conflict is open, and every link replicates.
    pub fn is_settled(&self) -> bool {
        let conditions = [conditions::CONFLICT_FREE, conditions::RING_CLOSED];
        conditions.iter().all(|type_| self.condition(type_).0 == "True")
    }

    /// Status and message.
    pub fn condition(&self, type_: &str) -> (String, String) {
        let status = self.cluster.status.as_ref().unwrap();
        let found = status.conditions.iter().find(|condition| condition.type_ == type_);
        found.map_or_else(Default::default, |it| (it.status.clone(), it.message.clone()))
    }

    pub fn message(&self) -> String {
        self.condition(conditions::CONFLICT_FREE).1
    }
}

pub async fn run(conn: &mut Conn, statements: &str) {
    for statement in statements.split(';').map(str::trim).filter(|it| !it.is_empty()) {
        let done = conn.query_drop(statement).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// A context without an API server: events are lost, and the passes continue.
fn context() -> std::sync::Arc<Context> {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let reporter = Reporter {
        controller: "test".into(),
        instance: None,
    };
    let settings = Settings {
        operator_image: String::new(),
        default_mysql_image: String::new(),
        default_haproxy_image: String::new(),
        log_format: "Text".into(),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let stores = Stores {
        pods: empty(),
        statefulsets: empty(),
        services: empty(),
        config_maps: empty(),
        deployments: empty(),
        budgets: empty(),
    };
    std::sync::Arc::new(Context::new(client, stores, settings, recorder, Default::default()))
}

fn empty<K>() -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    store().0
}
