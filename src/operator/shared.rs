//! What all passes share: clients, caches of the API server's objects, and the little that is remembered between passes.
//!
//! No decision needs anything of it to be right. All of it can be lost at any time: the next pass starts from what it observes.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::WriterDropped;
use kube::{Client, Resource};

use super::beside::Beside;
use super::compare::queue::Comparisons;
use super::guard::Pause;
use super::kubernetes::{API_DEADLINE, KubernetesError, ask};
use super::liveness::Liveness;
use super::members::{Credentials, MemberClients};
use super::observe::remembered::Explanation;
use super::telemetry::Metrics;
use super::writer_lease::{LastAnswer, WriterLease};
use crate::api::MultiMasterCluster;
use crate::api::reasons::EventReason;
use crate::decide::observed::Problem;
use crate::decide::report::fitted::fitted;
use crate::decide::serve::voters::LastConfirmations;
use crate::resources::Settings;
use crate::wire::lease::LeaseRenewal;

/// Events of one cluster that wait at once, the one that is being published included. A ring of nine members that all fail has fewer.
const MOST_EVENTS: usize = 100;
/// How long an operator that ends waits until its last events are published.
const LAST_EVENTS: Duration = Duration::from_millis(500);
/// Clusters whose objects are applied at the same time, and clusters whose events are published.
const AT_ONCE: usize = 8;
/// The most applies without effect that are remembered.
const MOST_IN_VAIN: usize = 10_000;

/// The most bytes of an event's text. The API server refuses longer ones. An action and a reason may have 128, and all reasons are shorter.
const MOST_OF_AN_EVENT: usize = 1024;

/// Caches of watched objects.
#[derive(Clone)]
pub struct Stores {
    /// Members' pods.
    pub pods: Store<Pod>,
    /// StatefulSets of clusters.
    pub statefulsets: Store<StatefulSet>,
    /// Services of clusters.
    pub services: Store<Service>,
    /// ConfigMaps of clusters.
    pub config_maps: Store<ConfigMap>,
    /// Deployments of clusters.
    pub deployments: Store<Deployment>,
    /// PodDisruptionBudgets of clusters.
    pub budgets: Store<PodDisruptionBudget>,
}

impl Stores {
    /// Waits for ever until every cache holds what the API server has.
    ///
    /// # Errors
    /// When a watch has ended.
    pub async fn delivered(&self) -> Result<(), WriterDropped> {
        let all = tokio::try_join!(
            self.pods.wait_until_ready(),
            self.statefulsets.wait_until_ready(),
            self.services.wait_until_ready(),
            self.config_maps.wait_until_ready(),
            self.deployments.wait_until_ready(),
            self.budgets.wait_until_ready(),
        );
        all.map(drop)
    }

    /// Waits until every cache holds what the API server has. A new leader with an empty cache would decide that all pods are gone.
    ///
    /// # Errors
    /// [`KubernetesError::Deadline`] when a watch does not deliver within [`API_DEADLINE`].
    pub async fn ready(&self) -> Result<(), KubernetesError> {
        match tokio::time::timeout(API_DEADLINE, self.delivered()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(KubernetesError::Deadline(
                "the watches of pods and other objects".into(),
            )),
        }
    }
}

/// What all passes share.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// Caches of watched objects.
    pub stores: Stores,
    /// Connections to members.
    pub members: MemberClients,
    /// Images and the like, from the command line.
    pub settings: Settings,
    recorder: Recorder,
    /// Events that are being published.
    events: Beside,
    /// Objects that are being applied: once at a time for each cluster.
    pub applies: Beside,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// What this process knows of its own tasks.
    pub liveness: Arc<Liveness>,
    /// Comparisons that are under way, and the line of clusters that wait for theirs.
    pub comparisons: Arc<Comparisons>,
    memory: Mutex<HashMap<String, Memory>>,
    in_vain: Mutex<HashSet<u64>>,
    /// A random number of this process.
    process: u64,
    /// Lease renewals that were sent.
    renewals: AtomicU64,
}

/// What the operator remembers of one cluster.
#[derive(Default, Clone)]
pub struct Memory {
    /// Namespace and name.
    pub named: Option<(String, String)>,
    /// Secrets as last read, and when.
    pub credentials: Option<(Instant, Credentials)>,
    /// The resourceVersion that the last status write replaced. A cache that still shows this version is old.
    pub replaced: Option<String>,
    /// The resourceVersion of the last status write.
    pub written: Option<String>,
    /// The last look at the sizes of the volumes.
    pub volumes: Option<VolumeSizes>,
    /// Ordinals of the members whose servers did not answer in the last pass.
    pub unanswered: Vec<u8>,
    /// Why the objects are not as desired.
    pub refused: Option<Refused>,
    /// It was told that a Secret may be pruned.
    pub pruning_is_told: bool,
    /// When this operator first observed the cluster.
    pub first_observed: Option<Instant>,
    /// The last answers of members' agents, by ordinal.
    pub answers: HashMap<u8, LastAnswer>,
    /// How the lease of the one writer is renewed between passes.
    pub writer_lease: Option<WriterLease>,
    /// What events last said of members whose pods are not there or do not run, by ordinal.
    pub explanations: HashMap<u8, Explanation>,
    /// UIDs of the claims of members' volumes, by ordinal, each with the pod that it was read for.
    pub claims: HashMap<u8, (String, String)>,
    /// The last passes were broken off.
    pub pause: Option<Pause>,
    /// The last passes were broken off in steps about conflicts.
    pub conflicts_pause: Option<Pause>,
    /// The last pass could not write its status.
    pub status_waits: bool,
    /// When it was last told that the status cannot be written.
    pub status_not_written: Option<Instant>,
    /// A step about a conflict is under way.
    pub in_conflict_step: bool,
    /// Ordinals of the members that took no writes when they were last seen, and were not opened since.
    pub fenced: HashSet<u8>,
    /// Since when every look of a pass was late.
    pub late_since: Option<Instant>,
    /// When the members' agents may last have confirmed another writer, by ordinal.
    pub last_confirmations: LastConfirmations,
}

/// Why an object was not applied.
#[derive(Clone)]
pub struct Refused {
    /// When the next attempt is due.
    pub again: Instant,
    /// What a condition says of it.
    pub problem: Problem,
}

/// A look at the sizes of the volumes.
#[derive(Clone)]
pub struct VolumeSizes {
    /// When.
    pub at: Instant,
    /// The size of the spec then.
    pub wanted: String,
    /// UIDs of the members' pods then. Another volume comes with another pod.
    pub pods: Vec<String>,
    /// Every volume had the size.
    pub settled: bool,
    /// Why one cannot have it.
    pub problem: Option<Problem>,
}

impl Context {
    /// A context without memory.
    pub fn new(
        client: Client,
        stores: Stores,
        settings: Settings,
        recorder: Recorder,
        (metrics, liveness): (Arc<Metrics>, Arc<Liveness>),
    ) -> Self {
        Self {
            client,
            stores,
            members: MemberClients::default(),
            settings,
            recorder,
            events: Beside::new("events", MOST_EVENTS, AT_ONCE),
            applies: Beside::new("objects", 1, AT_ONCE),
            metrics,
            liveness,
            comparisons: Arc::default(),
            memory: Mutex::default(),
            in_vain: Mutex::default(),
            process: RandomState::new().hash_one(std::process::id()),
            renewals: AtomicU64::default(),
        }
    }

    /// Publishes an event, beside the passes. Events are for people: if one cannot be published, that is logged.
    pub fn publish(
        &self,
        cluster: &MultiMasterCluster,
        type_: EventType,
        reason: EventReason,
        message: String,
        member: Option<String>,
    ) {
        // Kubernetes counts events of one reason together. The related pod keeps events about different members apart.
        let pod = |name| ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(name),
            namespace: cluster.metadata.namespace.clone(),
            ..ObjectReference::default()
        };
        let event = Event {
            type_,
            reason: reason.as_ref().into(),
            note: Some(fitted(message, MOST_OF_AN_EVENT)),
            action: reason.as_ref().into(),
            secondary: member.map(pod),
        };
        let subject = cluster.object_ref(&());
        let recorder = self.recorder.clone();
        let publishing = async move {
            if let Err(error) = ask("an event", recorder.publish(&event, &subject)).await {
                tracing::warn!(%error, reason = reason.as_ref(), "an event could not be published");
            }
        };
        if !self
            .events
            .begin(cluster.metadata.uid.as_deref().unwrap_or_default(), publishing)
        {
            tracing::warn!(
                reason = reason.as_ref(),
                "an event is left out: {MOST_EVENTS} of this cluster wait already"
            );
        }
    }

    /// Whether this same apply had no effect before.
    pub fn was_in_vain(&self, tried: &str) -> bool {
        self.in_vain
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&hash(tried))
    }

    /// Remembers an apply that had no effect.
    pub fn in_vain(&self, tried: &str) {
        let mut in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        // Each one that is forgotten costs one more apply.
        if in_vain.len() >= MOST_IN_VAIN {
            in_vain.clear();
        }
        in_vain.insert(hash(tried));
    }

    /// What is remembered of a cluster.
    pub fn recall(&self, uid: &str) -> Memory {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Forgets clusters whose resources are gone. `there`: the UIDs of all others.
    pub fn keep_only(&self, there: &HashSet<String>) {
        let gone: Vec<String> = self
            .lock()
            .keys()
            .filter(|uid| !there.contains(*uid))
            .cloned()
            .collect();
        gone.iter().for_each(|uid| self.forget(uid));
    }

    /// Changes what is remembered of a cluster.
    pub fn remember(&self, uid: &str, change: impl FnOnce(&mut Memory)) {
        change(self.lock().entry(uid.into()).or_default());
    }

    /// The last answer of a member's agent.
    pub fn last_answer(&self, uid: &str, ordinal: u8) -> Option<LastAnswer> {
        self.lock().get(uid)?.answers.get(&ordinal).cloned()
    }

    /// Notes an answer of a member's agent. Passes and the keeper ask agents at the same time, and neither undoes what the other knows: a lease that
    /// is renewed with a clock value ends before anybody believes it to have ended.
    pub fn answered(&self, uid: &str, ordinal: u8, answer: LastAnswer) {
        if let Some(memory) = self.lock().get_mut(uid) {
            let before = memory.answers.entry(ordinal).or_insert_with(|| answer.clone());
            *before = before.clone().and(answer);
        }
    }

    /// The renewal of a writer's lease that is due now, a quarter of the lease after the agent was last asked.
    pub fn due_renewal(&self, uid: &str, now: Instant) -> Option<WriterLease> {
        let mut memory = self.lock();
        let lease = memory.get_mut(uid)?.writer_lease.as_mut()?;
        let quarter = Duration::from_secs(lease.renewal.lease_seconds.into()) / 4;
        let is_due = now.saturating_duration_since(lease.asked) >= quarter;
        is_due.then(|| {
            lease.asked = now;
            // While the memory is locked: a pass that says something else is numbered after it.
            self.number(&mut lease.renewal);
            lease.clone()
        })
    }

    /// When this operator first observed a cluster: now, if it never has.
    pub fn first_observed(&self, uid: &str) -> Instant {
        let mut memory = self.lock();
        *memory
            .entry(uid.into())
            .or_default()
            .first_observed
            .get_or_insert_with(Instant::now)
    }

    /// Forgets a cluster.
    pub fn forget(&self, uid: &str) {
        self.comparisons.forget(uid);
        self.events.forget(uid);
        self.applies.forget(uid);
        if let Some((namespace, name)) = self.lock().remove(uid).and_then(|memory| memory.named) {
            self.metrics.forget(&namespace, &name);
        }
    }

    /// Ends what is under way beside the passes: another replica may lead soon.
    pub fn end(&self) {
        self.applies.end();
        self.comparisons.keep_only(|_| false);
    }

    /// Waits for a moment until events are published. What is left then is lost.
    pub async fn say_the_rest(&self) {
        if tokio::time::timeout(LAST_EVENTS, self.events.done()).await.is_err() {
            tracing::warn!("the operator ends, and its last events are not published");
        }
        self.events.end();
    }

    /// Numbers a lease renewal that is about to be sent.
    pub fn number(&self, renewal: &mut LeaseRenewal) {
        (renewal.operator, renewal.number) = (self.process, self.renewals.fetch_add(1, Ordering::Relaxed));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Memory>> {
        // After a panic while the lock was held the data is still usable.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
