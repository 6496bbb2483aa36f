//! The next steps: everything harmless that is due, and at most one risky step.

use jiff::Timestamp;

use crate::api::Positioning;
use crate::api::reasons::Reason;
use crate::names::ANNOTATION_FENCE;
use crate::wire::agent::Phase;

use super::comparison;
use super::conflicts;
use super::findings::{Data, Findings};
use super::observed::{Member, Problem, Server};
use super::ring::behind;
use super::ring::founding::found;
use super::ring::health::{Health, is_blind};
use super::ring::leftover::left_over;
use super::ring::links::LinkNeed;
use super::ring::ownership;
use super::ring::rebuild::rebuild;
use super::ring::recorded;
use super::roles::Roles;
use super::serve::balance;
use super::serve::drain::has_finished;
use super::serve::opening;
use super::serve::reads;
use super::serve::restart;
use super::step::{Action, ClusterAction, PodAction, Setting, Step};
use super::view::View;

/// The steps of one pass, for the ring and the epoch that the status of this pass carries.
pub fn steps(view: &View, now: Timestamp) -> Vec<Step> {
    let (observed, findings) = (view.observed, &view.findings);
    if observed.cluster.spec.paused == Some(true) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    // What the API server refused may be accepted later, and a copied Secret is made anew once it is gone; everything else waits for a person.
    let is_no_obstacle = |problem: &Problem| {
        matches!(
            problem.reason,
            Reason::ApplyFailed | Reason::CopiedSecret | Reason::ObjectNotOurs
        )
    };
    if observed.problems.iter().all(is_no_obstacle) {
        steps.push(Step::Cluster(ClusterAction::Apply));
    }
    if is_blind(observed) {
        return steps;
    }
    let unreadable = recorded::unreadable_fields(observed).is_some();
    let labels: Vec<Step> = observed
        .members
        .iter()
        .filter(|member| !unreadable && should_serve(view, member))
        .filter_map(serve)
        .chain(withdrawals(view))
        .collect();
    let served = served(view, &labels);
    steps.extend(labels);
    if unreadable {
        steps.extend(balance::steps(findings, &served));
        // Nothing in status says otherwise.
        steps.extend(restore(view, Setting::ReplicaExecMode).or_else(|| restore(view, Setting::SuperReadOnly)));
        return steps;
    }
    steps.extend(reads::steps(view));
    steps.extend(balance::steps(findings, &served));
    match risky(view, now) {
        Some(step) => steps.push(step),
        // While something is changed members are not compared, nor are writes stopped.
        None if view.next_restart.is_some() || view.observed.epoch() == 0 => {}
        None => steps.extend(at_leisure(view, now)),
    }
    steps
}

/// What nothing waits for: it may fail while members are behind.
fn at_leisure(view: &View, now: Timestamp) -> Option<Step> {
    let may_settle = !view.observed.conflicts_wait;
    let unless_they_wait = |step: Option<Step>| step.filter(|_| may_settle);
    unless_they_wait(conflicts::examined_again(view.observed))
        .or_else(|| unless_they_wait(conflicts::settled(view.roles(), &view.sides)))
        .or_else(|| comparison::step(view, now))
        .or_else(|| unless_they_wait(conflicts::awaited(view.roles(), &view.sides)))
}

/// The one risky step that is due first.
fn risky(view: &View, now: Timestamp) -> Option<Step> {
    let findings = &view.findings;
    if view.observed.epoch() == 0 {
        return found(view.observed)
            .or_else(|| ownership::fence(view.observed))
            .or_else(|| ownership::adopt(view.observed))
            .or_else(|| restart::replace(findings))
            .or_else(|| ownership::mark_next(view.observed));
    }
    // Before an applier is started, and before anything else that may take its time: while this is wrong, conflicts are overwritten.
    restore(view, Setting::ReplicaExecMode)
        .or_else(|| fence(view.roles(), now))
        .or_else(|| ownership::fence(view.observed))
        .or_else(|| restore(view, Setting::SuperReadOnly))
        .or_else(|| new_life(findings))
        .or_else(|| link(findings))
        .or_else(|| behind(findings))
        .or_else(|| findings.with_data().find_map(|data| left_over(findings, data)))
        .or_else(|| open(view))
        .or_else(|| conflicts::next(view.roles(), &view.sides).filter(|_| !view.observed.conflicts_wait))
        .or_else(|| ownership::adopt(view.observed))
        .or_else(|| ownership::mark_empty(view.observed))
        // A clone takes long and may be refused again and again; nothing waits for it.
        .or_else(|| rebuild(findings))
        .or_else(|| create_database(view))
        .or_else(|| restart::replace(findings))
        .or_else(|| restart::restart(findings, now).filter(|_| !view.observed.status_waits))
        .or_else(|| ownership::mark_next(view.observed))
}

/// It takes part, and it is not another one that takes the writes.
fn may_be_open(roles: &Roles, ordinal: u8) -> bool {
    roles.may_take_writes(ordinal) && roles.takes_part(ordinal)
}

fn should_serve(view: &View, member: &Member) -> bool {
    let open = member.with_data().is_some_and(|(server, _)| !server.super_read_only);
    let ordinal = member.ordinal;
    open && !member.has_label() && may_be_open(view.roles(), ordinal) && !view.is_next_restart(ordinal)
}

fn serve(member: &Member) -> Option<Step> {
    let pod = member.pod.as_ref().filter(|pod| !pod.terminating)?;
    Some(Step::pod(member.ordinal, &pod.uid, PodAction::Serve))
}

/// The members that have the label after these steps.
fn served(view: &View, labels: &[Step]) -> Vec<u8> {
    let mut served: Vec<u8> = view
        .observed
        .members
        .iter()
        .filter(|member| member.has_label())
        .map(|member| member.ordinal)
        .collect();
    for step in labels {
        match (step.ordinal(), step.on_pod()) {
            (Some(ordinal), Some(PodAction::Withdraw { .. })) => served.retain(|other| *other != ordinal),
            (Some(ordinal), Some(PodAction::Serve)) => served.push(ordinal),
            _ => {}
        }
    }
    served
}

/// Labels that must go. A fact (fenced, ending, mysqld down) is enough; a failed probe needs a second witness and another member that serves.
fn withdrawals(view: &View) -> Vec<Step> {
    let labelled = || view.observed.members.iter().filter(|member| member.has_label());
    let why = |member: &Member| {
        let (roles, ordinal) = (view.roles(), member.ordinal);
        let because = |why: &str| Some(why.to_owned());
        match &view.findings.member(ordinal)?.health {
            _ if member.outsider.is_some() => because("its volume is not this cluster's"),
            _ if roles.is_bypassed(ordinal) => because("it is not in the ring"),
            _ if roles.is_leaving(ordinal) => because("it leaves the ring"),
            _ if roles.is_reader(ordinal) => because("another member is the writer"),
            _ if roles.is_ordered_fenced(ordinal) => Some(format!("the annotation {ANNOTATION_FENCE} names it")),
            _ if view.is_next_restart(ordinal) => because("it is to be restarted"),
            Health::Reached if member.server().is_some_and(|server| server.super_read_only) => because("it is fenced"),
            Health::Starting(why) | Health::NoPod(why) => because(why),
            Health::Failed(why) => {
                let another = labelled().any(|other| {
                    other.ordinal != ordinal && other.server().is_some_and(|server| !server.super_read_only)
                });
                another.then(|| why.clone())
            }
            Health::Reached | Health::Alive(_) | Health::Suspect(_) => None,
        }
    };
    labelled()
        .filter_map(|member| {
            let pod = member.pod.as_ref()?;
            let why = why(member)?;
            Some(Step::pod(member.ordinal, &pod.uid, PodAction::Withdraw { why }))
        })
        .collect()
}

/// Members that are fenced, hold data and belong to this cluster.
fn returning<'f, 'a>(findings: &'f Findings<'a>) -> impl Iterator<Item = &'f Data<'a>> {
    findings.with_data().filter(|data| data.server.super_read_only)
}

/// Contact with a member that still, or again, takes writes and is bypassed, or not the one writer; one that a person wants fenced; or one that
/// is to leave and has no clients any more.
fn fence(roles: &Roles, now: Timestamp) -> Option<Step> {
    let due = |member: &&Member| {
        roles.is_bypassed(member.ordinal)
            || roles.is_reader(member.ordinal)
            || roles.is_ordered_fenced(member.ordinal)
            || roles.is_leaving(member.ordinal) && has_finished(roles.observed, member, now)
    };
    let members = roles.observed.members.iter();
    members
        .filter(due)
        // CLONE needs super_read_only off; the agent keeps clients out by read_only. What a newer agent does may need that, too.
        .filter(|member| !member.is_cloning() && !member.is_of_a_newer_agent())
        .filter_map(|member| Some((member, member.server()?)))
        .find(|(_, server)| !server.super_read_only)
        .map(|(member, server)| Step::member(member.ordinal, &server.uuid, Action::Fence))
}

/// A setting that a conflict step has changed and not changed back, because it ended early: none is under way while members are looked at.
fn restore(view: &View, setting: Setting) -> Option<Step> {
    let is_left = |member: &Member, server: &Server| match setting {
        Setting::ReplicaExecMode => server.idempotent,
        // CLONE needs it off; the agent says that it clones before it turns it off.
        Setting::SuperReadOnly => {
            server.half_fenced && member.report().is_some_and(|report| report.phase == Phase::Running)
        }
    };
    view.observed.members.iter().find_map(|member| {
        let server = member.server().filter(|server| is_left(member, server))?;
        Some(Step::member(member.ordinal, &server.uuid, Action::Restore { setting }))
    })
}

fn new_life(findings: &Findings) -> Option<Step> {
    returning(findings).find_map(|data| {
        let lost = data.lineage.lost.clone().ok().filter(|lost| !lost.is_empty())?;
        Some(Step::member(
            data.ordinal(),
            &data.server.uuid,
            Action::NewLife { lost },
        ))
    })
}

fn link(findings: &Findings) -> Option<Step> {
    // By file and offset a channel starts behind what its own disk has lost: that has to be known first.
    let positioned = findings.observed.cluster.spec.replication.positioning == Positioning::FilePosition;
    let unchecked = |data: &Data| positioned && data.server.super_read_only && data.lineage.lost.is_err();
    let mut checked = findings.with_data().filter(|data| !unchecked(data));
    // How a new channel finds its place is not known.
    let is_known = findings.observed.cluster.spec.knows_positioning();
    let may = |step: &&Step| is_known || !matches!(step.on_member(), Some(Action::Attach { .. }));
    checked.find_map(|data| match &data.need {
        LinkNeed::Step(step) | LinkNeed::Interrupted(Some(step)) => Some(step).filter(may).cloned(),
        LinkNeed::Nothing | LinkNeed::Patience | LinkNeed::Interrupted(None) => None,
        LinkNeed::Purged(_) | LinkNeed::Conflict => None,
    })
}

fn behind(findings: &Findings) -> Option<Step> {
    if !findings.observed.cluster.spec.knows_positioning() {
        return None;
    }
    let is_staying = |data: &&Data| !findings.roles.is_leaving(data.ordinal());
    let mut staying = findings.with_data().filter(is_staying);
    staying.find_map(|data| match &data.need {
        LinkNeed::Purged(missing) => behind::way_out(findings, data, missing).ok(),
        _ => None,
    })
}

fn open(view: &View) -> Option<Step> {
    returning(&view.findings).find_map(|data| {
        let (ordinal, lineage) = (data.ordinal(), &data.lineage);
        // A conflict does not keep a member closed.
        let linked = !matches!(data.need, LinkNeed::Step(_) | LinkNeed::Purged(_));
        let stays = data.member.pod.as_ref().is_some_and(|pod| !pod.terminating) && !view.is_next_restart(ordinal);
        let may = may_be_open(view.roles(), ordinal) && opening::may_open(&view.findings, data).is_ok();
        let whole = lineage.has_lost_nothing() && lineage.has_caught_up;
        (may && linked && stays && whole).then(|| Step::member(ordinal, &data.server.uuid, Action::Open))
    })
}

fn create_database(view: &View) -> Option<Step> {
    let observed = view.observed;
    let wanted =
        observed.cluster.spec.database.is_some() && observed.cluster.spec.unknown.is_empty() && !observed.status_waits;
    let created = observed
        .cluster
        .status
        .as_ref()
        .is_some_and(|status| status.database_created);
    if !wanted || created || !view.ring_is_whole {
        return None;
    }
    let ordinal = view.roles().writer.unwrap_or(0);
    let (server, _) = observed.member(ordinal)?.with_data()?;
    Some(Step::member(ordinal, &server.uuid, Action::CreateDatabase))
}
