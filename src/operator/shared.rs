//! What all passes share: clients, caches of the API server's objects, and the little that is remembered between passes.
//!
//! No decision needs anything of it to be right. All of it can be lost at any time: the next pass starts from what it observes.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::Store;
use kube::{Client, Resource};

use super::compare::Comparisons;
use super::guard::Pause;
use super::kubernetes::{API_DEADLINE, KubernetesError};
use super::members::{Credentials, MemberClients};
use super::telemetry::Metrics;
use crate::api::MultiMasterCluster;
use crate::api::reasons::EventReason;
use crate::decide::observed::Problem;
use crate::decide::report::fitted::fitted;
use crate::resources::Settings;

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
    /// Waits until every cache holds what the API server has. A new leader with an empty cache would decide that all pods are gone.
    ///
    /// # Errors
    /// [`KubernetesError::Deadline`] when a watch does not deliver within [`API_DEADLINE`].
    pub async fn ready(&self) -> Result<(), KubernetesError> {
        let all = async {
            tokio::try_join!(
                self.pods.wait_until_ready(),
                self.statefulsets.wait_until_ready(),
                self.services.wait_until_ready(),
                self.config_maps.wait_until_ready(),
                self.deployments.wait_until_ready(),
                self.budgets.wait_until_ready(),
            )
        };
        match tokio::time::timeout(API_DEADLINE, all).await {
            Ok(Ok(_)) => Ok(()),
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
    /// Publisher of events.
    pub recorder: Recorder,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// The comparison that is under way.
    pub comparisons: Arc<Comparisons>,
    memory: Mutex<HashMap<String, Memory>>,
    in_vain: Mutex<HashSet<u64>>,
}

/// What the operator remembers of one cluster.
#[derive(Default, Clone)]
pub struct Memory {
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
    /// Why the API server refused an object, and when.
    pub refused: Option<(Instant, String)>,
    /// When this operator first observed the cluster.
    pub first_observed: Option<Instant>,
    /// The last answers of members' agents, by ordinal.
    pub answers: HashMap<u8, LastAnswer>,
    /// What events last said of members whose pods are not there or do not run, by ordinal.
    pub explanations: HashMap<u8, Explanation>,
    /// UIDs of the claims of members' volumes, by ordinal, each with the pod that it was read for.
    pub claims: HashMap<u8, (String, String)>,
    /// The last passes were broken off.
    pub pause: Option<Pause>,
    /// The last passes were broken off in steps about conflicts.
    pub conflicts_pause: Option<Pause>,
    /// A step about a conflict is under way.
    pub in_conflict_step: bool,
    /// Ordinals of the members that took no writes when they were last seen, and were not opened since.
    pub fenced: HashSet<u8>,
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

/// What events said of a member.
#[derive(Clone)]
pub struct Explanation {
    /// When they were read.
    pub at: Instant,
    /// The selector of the events.
    pub of: String,
    /// The one that says why.
    pub why: Option<String>,
}

/// The last answer of an agent.
#[derive(Clone)]
pub struct LastAnswer {
    /// The agent's pod.
    pub pod_uid: String,
    /// When the answer had arrived.
    pub at: Instant,
    /// The agent's own clock in the answer. It was read before `at`.
    pub clock: u64,
}

impl Context {
    /// A context without memory.
    pub fn new(client: Client, stores: Stores, settings: Settings, recorder: Recorder, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            stores,
            members: MemberClients::default(),
            settings,
            recorder,
            metrics,
            comparisons: Arc::default(),
            memory: Mutex::default(),
            in_vain: Mutex::default(),
        }
    }

    /// Publishes an event. Events are for people: if one cannot be published, that is logged and the pass continues.
    pub async fn publish(
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
        let publishing = self.recorder.publish(&event, &subject);
        match tokio::time::timeout(API_DEADLINE, publishing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, reason = reason.as_ref(), "an event could not be published"),
            Err(_) => tracing::warn!(reason = reason.as_ref(), "an event could not be published in time"),
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

    /// Changes what is remembered of a cluster.
    pub fn remember(&self, uid: &str, change: impl FnOnce(&mut Memory)) {
        change(self.lock().entry(uid.into()).or_default());
    }

    /// The last answer of a member's agent.
    pub fn last_answer(&self, uid: &str, ordinal: u8) -> Option<LastAnswer> {
        self.lock().get(uid)?.answers.get(&ordinal).cloned()
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
        self.lock().remove(uid);
        self.comparisons.forget(uid);
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
