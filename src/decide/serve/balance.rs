//! HAProxy's pods: the order that each of them gets, and which of them are in the Service.

use crate::api::balancer::BalancerType;
use crate::api::status::BalancerStatus;
use crate::api::{MAX_MEMBERS, MultiMasterCluster};
use crate::wire::balancer::{Order, Peer, Settings, Slot, State, VERSION};

use super::drain;
use crate::decide::findings::{Finding, Findings};
use crate::decide::observed::{Balancer, Observed, Probe};
use crate::decide::ring::health::Health;
use crate::decide::step::{BalancerAction, ClusterAction, Step};

/// Milliseconds between two checks where the spec does not say.
const CHECK_MILLISECONDS: u16 = 1000;

/// HAProxy is to notice a failure sooner than a pass would.
pub fn is_impatient(cluster: &MultiMasterCluster) -> bool {
    let balancer = &cluster.spec.balancer;
    let often = |every| every < CHECK_MILLISECONDS;
    balancer.is_haproxy() && balancer.check_milliseconds.is_some_and(often)
}

/// Orders that differ from what HAProxy does, and labels of its pods that are to come or to go. `served`: the members that have the serving
/// label once the steps before these are carried out.
pub fn steps(findings: &Findings, served: &[u8]) -> Vec<Step> {
    let observed = findings.observed;
    if !observed.cluster.spec.balancer.is_haproxy() {
        return Vec::new();
    }
    let order = order(findings, served);
    let staying = || observed.balancers.iter().filter(|balancer| !balancer.pod.terminating);
    let differs = |balancer: &&Balancer| {
        balancer
            .report
            .reached()
            .is_some_and(|report| !report.order.as_ref().is_some_and(|followed| followed.means(&order)))
    };
    let pods: Vec<String> = staying()
        .filter(differs)
        .map(|balancer| balancer.name.clone())
        .collect();
    let mut steps = Vec::new();
    if !pods.is_empty() {
        steps.push(Step::Cluster(ClusterAction::Balance {
            pods,
            order: Box::new(order.clone()),
        }));
    }
    steps.extend(
        staying()
            .filter(|balancer| balances(balancer) && !balancer.pod.serving)
            .map(|balancer| Step::Balancer {
                pod: balancer.name.clone(),
                pod_uid: balancer.pod.uid.clone(),
                action: BalancerAction::Serve,
            }),
    );
    if !observed.looked_late {
        steps.extend(withdrawals(&observed.balancers));
    }
    steps
}

/// Its HAProxy follows an order, and its pod is Ready: before that the label would lead no client to it.
fn balances(balancer: &Balancer) -> bool {
    let follows = balancer.report.reached().is_some_and(|report| report.order.is_some());
    follows && balancer.pod.ready
}

/// Pods that end or do not answer leave the Service as soon as another one serves: nothing is lost but new connections, which the
/// other takes.
pub fn withdrawals(balancers: &[Balancer]) -> impl Iterator<Item = Step> {
    balancers.iter().filter_map(|balancer| withdraw(balancers, balancer))
}

fn withdraw(balancers: &[Balancer], balancer: &Balancer) -> Option<Step> {
    if !balancer.pod.serving {
        return None;
    }
    let why = match &balancer.report {
        _ if balancer.pod.terminating => "its pod is being deleted".to_owned(),
        Probe::Reached(_) => return None,
        Probe::NoAddress => "its pod does not run".to_owned(),
        Probe::Alive(why) | Probe::Unreachable(why) => why.clone(),
    };
    let another = |other: &&Balancer| other.name != balancer.name && serves(other);
    balancers.iter().find(another)?;
    Some(Step::Balancer {
        pod: balancer.name.clone(),
        pod_uid: balancer.pod.uid.clone(),
        action: BalancerAction::Withdraw { why },
    })
}

fn serves(balancer: &Balancer) -> bool {
    balancer.pod.serving && !balancer.pod.terminating && balances(balancer)
}

/// What every HAProxy pod is to do.
fn order(findings: &Findings, served: &[u8]) -> Order {
    let observed = findings.observed;
    let balancer = &observed.cluster.spec.balancer;
    let mut peers: Vec<Peer> = observed
        .balancers
        .iter()
        .filter(|balancer| balancer.pod.running && !balancer.pod.terminating)
        .filter_map(|balancer| {
            Some(Peer {
                name: balancer.name.clone(),
                address: balancer.pod.ip.as_ref()?.parse().ok()?,
            })
        })
        .collect();
    peers.sort();
    let mut order = Order {
        version: VERSION,
        settings: Settings {
            algorithm: balancer.algorithm.unwrap_or_default(),
            sticky: balancer.sticky.unwrap_or(false),
            max_connections: balancer.share(),
            check_milliseconds: balancer.check_milliseconds.unwrap_or(CHECK_MILLISECONDS),
            timeouts: balancer.timeouts.unwrap_or_default(),
        },
        peers,
        slots: (0..MAX_MEMBERS)
            .map(|ordinal| slot(findings, ordinal, served))
            .collect(),
    };
    // What this version does not know stays as HAProxy has it.
    let mut followed = observed
        .balancers
        .iter()
        .filter_map(|it| it.report.reached()?.order.as_ref());
    if observed.cluster.spec.is_unknown("balancer")
        && let Some(followed) = followed.next()
    {
        order.settings.clone_from(&followed.settings);
        for (slot, followed) in order.slots.iter_mut().zip(&followed.slots) {
            (slot.weight, slot.max_connections) = (followed.weight, followed.max_connections);
        }
    }
    // Only sticky pods exchange what they remember of clients; without sticky clients no pod is reloaded because of a new one.
    if !order.settings.sticky {
        order.peers.clear();
    }
    order
}

fn slot(findings: &Findings, ordinal: u8, served: &[u8]) -> Slot {
    let observed = findings.observed;
    let balancer = &observed.cluster.spec.balancer;
    let finding = findings.member(ordinal);
    let pod = finding.and_then(|finding| finding.member.pod.as_ref());
    let address = pod.and_then(|pod| pod.ip.as_ref()?.parse().ok());
    let state = match (finding, address) {
        (Some(_), Some(_)) if served.contains(&ordinal) => State::Serve,
        (Some(finding), Some(_)) if may_finish(findings, finding) => State::Drain,
        _ => State::Out,
    };
    Slot {
        ordinal,
        address,
        state,
        weight: balancer.weight(ordinal),
        max_connections: balancer.member_share(ordinal),
    }
}

/// It takes nothing new, and the sessions that it has may end by themselves: it still takes writes, and no person wants it fenced.
fn may_finish(findings: &Findings, finding: &Finding) -> bool {
    let (roles, member) = (&findings.roles, finding.member);
    let open = match member.server() {
        Some(server) => !server.super_read_only,
        // It has no label any more that would stand for it. Looks that failed prove nothing, and HAProxy checks it, too.
        None => {
            let goes = roles.is_leaving(member.ordinal) || drain::is_draining(findings, member);
            goes && matches!(finding.health, Health::Suspect(_) | Health::Alive(_))
        }
    };
    open && !roles.is_bypassed(member.ordinal) && !roles.is_ordered_fenced(member.ordinal)
}

/// What stands behind the Service.
pub fn status(observed: &Observed, present: &BalancerStatus) -> BalancerStatus {
    let balancer = &observed.cluster.spec.balancer;
    if !balancer.is_haproxy() {
        return BalancerStatus::default();
    }
    let serving = observed.balancers.iter().filter(|balancer| serves(balancer)).count();
    let serving = u8::try_from(serving).unwrap_or(u8::MAX);
    let type_ = match serving > 0 || present.is_haproxy() {
        true => BalancerType::HAProxy,
        false => BalancerType::Service,
    };
    let refusal = observed.balancers.iter().find_map(|balancer| {
        let problem = balancer.report.reached()?.problem.as_ref()?;
        Some(format!("{}: {problem}", balancer.name))
    });
    let too_few = || (serving < balancer.replicas()).then(|| message(observed, serving));
    BalancerStatus {
        type_,
        serving,
        message: refusal.or_else(too_few),
    }
}

fn message(observed: &Observed, serving: u8) -> String {
    let wanted = observed.cluster.spec.balancer.replicas();
    let problem = observed
        .balancers
        .iter()
        .find_map(|balancer| balancer.pod.problem.as_ref());
    let unreachable = observed.balancers.iter().find_map(|balancer| match &balancer.report {
        Probe::Unreachable(why) => Some(format!("{}: {why}", balancer.name)),
        _ => None,
    });
    let refusal = || {
        let why = observed.balancer_refusal.as_ref()?;
        Some(format!("Kubernetes cannot make the others: {why}"))
    };
    let why = problem.map(|problem| problem.message.clone()).or(unreachable);
    let why = why.or_else(refusal);
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("{serving} of {wanted} HAProxy pods serve{why}")
}
