//! Reads one cluster from Kubernetes and from its members.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod as KubePod;
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::api::MultiMasterCluster;
use crate::api::reasons::Reason;
use crate::api::status::MultiMasterClusterStatus;
use crate::decide::observed::{Balancer, Member, Observed, Probe, Problem, WitnessProbe};
use crate::decide::serve::balance;
use crate::decide::serve::opening::note_fenced;
use crate::decide::serve::voters::note_confirmation;
use crate::mysql::io::connection::PROBE_DEADLINE;
use crate::names;
use crate::operator::kubernetes::KubernetesError;
use crate::operator::members::Credentials;
use crate::operator::observe::lateness::{noting_lateness, proves_nothing};
use crate::operator::shared::Context;
use crate::operator::writer_lease::{LastAnswer, WriterLease};
use crate::resources::labels;
use crate::resources::validate::{self, InvalidField, validate};
use crate::wire::lease::LeaseRenewal;

use super::pods::pod;
use super::{controllers, credentials, storage};

/// How long an HAProxy pod has for an answer if its failure is to be noticed soon. The operator asks twice, so that a pod that is late once stays.
const SOON: Duration = Duration::from_millis(300);

/// Everything that a decision about this cluster is based on.
///
/// # Errors
/// [`KubernetesError`] when the API server cannot be read. Members that cannot be reached are data.
pub async fn observe(
    cluster: &MultiMasterCluster,
    context: &Context,
) -> Result<(Observed, Option<Credentials>), KubernetesError> {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    let statefulset = find(&context.stores.statefulsets, &name, &namespace);
    // What a newer version allows may seem wrong.
    let is_newer = !cluster.spec.unknown.is_empty();
    let fields = validate(cluster).err().filter(|_| !is_newer).unwrap_or_default();
    let keeps_its_size = |field: &InvalidField| statefulset.is_some() && field.field == validate::STORAGE_SIZE;
    let (size, fields): (Vec<_>, Vec<_>) = fields.into_iter().partition(keeps_its_size);
    let mut problems: Vec<Problem> = fields.iter().map(invalid).collect();
    let volumes = storage::size_problem(cluster, size.first().map(invalid), context);
    let credentials = match credentials::remembered(cluster, context).await? {
        Ok(credentials) => credentials,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    if statefulset.is_none() {
        problems.extend(storage::storage_class_problem(cluster, context).await?);
    }
    let uid = cluster.uid().unwrap_or_default();
    problems.extend(context.recall(&uid).refused.map(|refused| refused.problem));
    let looks = async {
        tokio::join!(
            members(cluster, credentials.as_ref(), context),
            balancers(cluster, credentials.as_ref(), context)
        )
    };
    let ((mut members, balancers), late) = noting_lateness(looks).await;
    let mut looked_late = late;
    context.remember(&uid, |memory| {
        looked_late = proves_nothing(&mut memory.late_since, late, Instant::now())
    });
    controllers::explain(cluster, statefulset.as_deref(), &mut members, context).await;
    let update_revision = statefulset.as_deref().and_then(update_revision);
    let deployment = find(&context.stores.deployments, &names::balancer(&name), &namespace);
    Ok((
        Observed {
            cluster: cluster.clone(),
            update_revision,
            problems,
            volumes,
            members,
            balancer_refusal: deployment.as_deref().and_then(controllers::balancer_refusal),
            balancers,
            comparison: context.comparisons.of(&uid, Instant::now()),
            conflicts_wait: context
                .recall(&uid)
                .conflicts_pause
                .is_some_and(|pause| pause.left(cluster.metadata.generation, Instant::now()).is_some()),
            status_waits: context.recall(&uid).status_waits,
            looked_late,
        },
        credentials,
    ))
}

fn invalid(field: &InvalidField) -> Problem {
    Problem {
        reason: Reason::InvalidSpec,
        message: field.to_string(),
    }
}

/// An object in a cache.
pub fn find<K>(store: &Store<K>, name: &str, namespace: &str) -> Option<std::sync::Arc<K>>
where
    K: kube::runtime::reflector::Lookup<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(namespace))
}

/// The revision that pods should have. `None`: the StatefulSet controller has not seen the present template yet.
fn update_revision(statefulset: &StatefulSet) -> Option<String> {
    let status = statefulset.status.as_ref()?;
    (status.observed_generation == statefulset.metadata.generation)
        .then(|| status.update_revision.clone())
        .flatten()
}

/// All members at the same time. For a member that did not answer in the pass before, all agents are asked as witnesses at the same time, so that
/// a frozen or unreachable member does not make the observation older. Of a member that replicates from one that does not answer, the last
/// contacts are read again at the end.
async fn members(cluster: &MultiMasterCluster, credentials: Option<&Credentials>, context: &Context) -> Vec<Member> {
    let uid = cluster.uid().unwrap_or_default();
    let unanswered_before = context.recall(&uid).unanswered;
    // Before another member hears that it is the writer. What the keeper has sent until now gives the lease no later end than that of an answer which
    // this operator has got.
    let is_readable = |status: &&MultiMasterClusterStatus| status.unreadable().next().is_none();
    let writer = cluster.status.as_ref().filter(is_readable).and(cluster.writer());
    context.remember(&uid, |memory| {
        memory.writer_lease.take_if(|lease| Some(lease.ordinal) != writer);
    });
    let probes = cluster
        .ordinals()
        .map(|ordinal| member(cluster, ordinal, credentials, context));
    let witnesses = unanswered_before
        .iter()
        .map(|ordinal| ask_witnesses(cluster, *ordinal, credentials, context));
    let (mut members, witness_probes) = tokio::join!(join_all(probes), join_all(witnesses));
    for (ordinal, witness_probes) in unanswered_before.iter().zip(witness_probes) {
        if let Some(member) = members.get_mut(usize::from(*ordinal)) {
            member.witness_probes = witness_probes;
        }
    }
    let unanswered: Vec<u8> = members
        .iter()
        .filter(|member| matches!(member.server, Probe::Unreachable(_)))
        .map(|member| member.ordinal)
        .collect();
    let replicates_from_one = |member: &&mut Member| unanswered.iter().any(|ordinal| member.link(*ordinal).is_some());
    for witness in members.iter_mut().filter(replicates_from_one) {
        read_contacts_again(cluster, witness, credentials, context).await;
    }
    let now = SignedDuration::try_from(context.first_observed(&uid).elapsed()).unwrap_or(SignedDuration::MAX);
    context.remember(&uid, |memory| {
        memory.unanswered = unanswered;
        for member in &mut members {
            note_fenced(&mut memory.fenced, member);
            note_confirmation(&mut memory.last_confirmations, member, cluster.writer(), now);
        }
    });
    members
}

async fn read_contacts_again(
    cluster: &MultiMasterCluster,
    member: &mut Member,
    credentials: Option<&Credentials>,
    context: &Context,
) {
    let (ordinal, Probe::Reached(server)) = (member.ordinal, &mut member.server) else {
        return;
    };
    let (Some((pod_uid, ip)), Some(credentials)) = (address(cluster, ordinal, context), credentials) else {
        return;
    };
    let host = host(cluster, ordinal);
    if let Ok(mut client) = context.members.of(&pod_uid, ip, host, credentials).await {
        super::members::read_contacts_again(&mut client, server).await;
    }
}

/// Asks all agents, the member's own included, to probe a member.
async fn ask_witnesses(
    cluster: &MultiMasterCluster,
    ordinal: u8,
    credentials: Option<&Credentials>,
    context: &Context,
) -> Vec<WitnessProbe> {
    let (Some((_, address)), Some(credentials)) = (address(cluster, ordinal, context), credentials) else {
        return Vec::new();
    };
    let answers = cluster.ordinals().map(|by| async move {
        let (pod_uid, ip) = self::address(cluster, by, context)?;
        let agent = context
            .members
            .agent(&pod_uid, ip, host(cluster, by), credentials)
            .await
            .ok()?;
        super::members::ask_witness(by, &agent, address).await
    });
    join_all(answers).await.into_iter().flatten().collect()
}

fn host(cluster: &MultiMasterCluster, ordinal: u8) -> String {
    names::member_host(&cluster.name_any(), &cluster.namespace().unwrap_or_default(), ordinal)
}

/// UID and IP address of a member's pod.
fn address(cluster: &MultiMasterCluster, ordinal: u8, context: &Context) -> Option<(String, IpAddr)> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let pod = find(&context.stores.pods, &names::member(&name, ordinal), &namespace)?;
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some((pod.uid()?, ip))
}

async fn member(
    cluster: &MultiMasterCluster,
    ordinal: u8,
    credentials: Option<&Credentials>,
    context: &Context,
) -> Member {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let live = find(&context.stores.pods, &names::member(&name, ordinal), &namespace);
    let pod = live
        .as_deref()
        .map(|live| pod(live, names::MYSQL_CONTAINER, Timestamp::now()));
    let mut member = Member {
        ordinal,
        pod,
        claim: None,
        pod_refusal: None,
        outsider: None,
        agent: Probe::NoAddress,
        server: Probe::NoAddress,
        witness_probes: Vec::new(),
        since_contact: SignedDuration::ZERO,
        since_confirmed: SignedDuration::ZERO,
        last_seen_fenced: false,
    };
    let mut asked = Instant::now();
    let uid = cluster.uid().unwrap_or_default();
    let last_answer = context.last_answer(&uid, ordinal);
    let first_observed = context.first_observed(&uid);
    let since_answer = || {
        let since = last_answer.as_ref().map_or(first_observed, |answer| answer.at);
        SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX)
    };
    member.since_contact = since_answer();
    let address = member
        .pod
        .as_ref()
        .and_then(|pod| Some((pod.uid.clone(), pod.ip.as_ref()?.parse::<IpAddr>().ok()?)));
    let (Some((pod_uid, ip)), Some(credentials)) = (address, credentials) else {
        return member;
    };
    match context
        .members
        .of(&pod_uid, ip, host(cluster, ordinal), credentials)
        .await
    {
        Ok(mut client) => {
            let agent = client.agent().clone();
            let clock = last_answer
                .as_ref()
                .filter(|answer| answer.pod_uid == pod_uid)
                .map(|answer| answer.clock);
            let others = cluster.ordinals().filter(|other| *other != ordinal);
            let others: Vec<(u8, IpAddr)> = others
                .filter_map(|other| Some((other, self::address(cluster, other, context)?.1)))
                .collect();
            // The renewal would name a wrong writer, or a wrong ring.
            let unreadable = cluster
                .status
                .as_ref()
                .is_some_and(|status| status.unreadable().next().is_some())
                // Without one, an agent keeps the policy that it has. The writer needs one all the same.
                || cluster.spec.is_unknown("isolation.policy") && !cluster.has_single_writer();
            let mut renewal = (!unreadable).then(|| LeaseRenewal::of(cluster, ordinal, clock, &others));
            if let Some(renewal) = renewal.clone().filter(|renewal| renewal.writer == Some(ordinal)) {
                let lease = WriterLease {
                    ordinal,
                    pod_uid: pod_uid.clone(),
                    agent: agent.clone(),
                    renewal,
                    asked: Instant::now(),
                };
                context.remember(&uid, |memory| memory.writer_lease = Some(lease));
            }
            if let Some(renewal) = &mut renewal {
                context.number(renewal);
            }
            asked = Instant::now();
            (member.agent, member.server) = tokio::join!(
                super::members::agent(&agent, renewal.as_ref()),
                super::members::server(&mut client)
            );
        }
        Err(error) => {
            member.agent = Probe::Unreachable(error.to_string());
            member.server = Probe::Unreachable(error.to_string());
        }
    }
    if member.report().is_some_and(|report| report.volume.is_some()) {
        member.claim = storage::claim(cluster, ordinal, &pod_uid, context).await;
    }
    member.since_contact = match member.report().map(|report| report.clock) {
        Some(clock) => {
            let at = Instant::now();
            context.answered(
                &uid,
                ordinal,
                LastAnswer {
                    pod_uid,
                    asked,
                    at,
                    clock,
                },
            );
            SignedDuration::ZERO
        }
        None => since_answer(),
    };
    member
}

/// How long an HAProxy pod has for each answer.
fn deadlines(cluster: &MultiMasterCluster) -> &'static [Duration] {
    match balance::is_impatient(cluster) {
        true => &[SOON, SOON],
        false => &[PROBE_DEADLINE],
    }
}

/// HAProxy's pods, all at the same time; empty where HAProxy does not balance.
pub async fn balancers(
    cluster: &MultiMasterCluster,
    credentials: Option<&Credentials>,
    context: &Context,
) -> Vec<Balancer> {
    // Finding them goes through every pod of every cluster.
    if !cluster.spec.balancer.is_haproxy() {
        return Vec::new();
    }
    let (namespace, selector) = (cluster.namespace(), labels::balancer_selector(cluster));
    let mut pods = context.stores.pods.state();
    pods.retain(|pod| {
        let has = |(key, value): (&String, &String)| pod.labels().get(key) == Some(value);
        pod.namespace() == namespace && selector.iter().all(has)
    });
    pods.sort_by_key(|pod| pod.name_any());
    join_all(pods.iter().map(|live| balancer(cluster, live, credentials, context))).await
}

async fn balancer(
    cluster: &MultiMasterCluster,
    live: &KubePod,
    credentials: Option<&Credentials>,
    context: &Context,
) -> Balancer {
    let pod = pod(live, names::HAPROXY_CONTAINER, Timestamp::now());
    let address = pod
        .ip
        .as_ref()
        .and_then(|ip| ip.parse().ok())
        .filter(|_| pod.running && !pod.terminating);
    let host = names::service_host(&cluster.name_any(), &cluster.namespace().unwrap_or_default());
    let report = match (address, credentials) {
        (Some(ip), Some(credentials)) => match context.members.agent(&pod.uid, ip, host, credentials).await {
            Ok(agent) => super::members::balancer(&agent, deadlines(cluster)).await,
            Err(error) => Probe::Unreachable(error.to_string()),
        },
        _ => Probe::NoAddress,
    };
    Balancer {
        name: live.name_any(),
        pod,
        report,
    }
}
