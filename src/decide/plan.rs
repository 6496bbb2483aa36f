//! The next steps: everything harmless that is due, and at most one risky step.

use jiff::Timestamp;

use crate::api::Positioning;
use crate::api::status::reasons;
use crate::mysql::gtid::GtidSet;
use crate::names::ANNOTATION_FENCE;
use crate::wire::agent::Phase;

use super::comparison;
use super::conflicts;
use super::observed::{Member, Observed, Server};
use super::report::states::ring_is_whole;
use super::ring::behind;
use super::ring::founding::found;
use super::ring::health::{Health, is_blind};
use super::ring::leftover;
use super::ring::lineage::{has_caught_up, has_lost_nothing, is_foreign, lost};
use super::ring::links::{self, LinkNeed};
use super::ring::rebuild::rebuild;
use super::ring::recorded;
use super::serve::balance;
use super::serve::drain::has_said_goodbye;
use super::serve::fencing;
use super::serve::opening::{self, takes_part};
use super::serve::reads;
use super::serve::restart::{self, is_next, replace};
use super::step::{Setting, Step};

/// The steps of one pass, for the ring and the epoch that the status of this pass carries.
pub fn steps(observed: &Observed, now: Timestamp) -> Vec<Step> {
    if observed.cluster.spec.paused == Some(true) {
        return Vec::new();
    }
    let mut steps = Vec::new();
    // What the API server refused may be accepted later; everything else waits for a person.
    if observed
        .problems
        .iter()
        .all(|problem| problem.reason == reasons::APPLY_FAILED)
    {
        steps.push(Step::Apply);
    }
    if is_blind(observed) {
        return steps;
    }
    let unreadable = recorded::unreadable_fields(observed).is_some();
    let labels: Vec<Step> = observed
        .members
        .iter()
        .filter(|member| !unreadable && should_serve(observed, member))
        .filter_map(serve)
        .chain(withdrawals(observed))
        .collect();
    let served = served(observed, &labels);
    steps.extend(labels);
    if unreadable {
        steps.extend(balance::steps(observed, &served));
        // Nothing in status says otherwise.
        steps.extend(restore(observed, Setting::ReplicaExecMode).or_else(|| restore(observed, Setting::SuperReadOnly)));
        return steps;
    }
    steps.extend(reads::steps(observed));
    steps.extend(balance::steps(observed, &served));
    let risky = if observed.epoch() == 0 {
        found(observed).or_else(|| replace(observed))
    } else {
        // Before an applier is started, and before anything else that may take its time: while this is wrong, conflicts are overwritten.
        restore(observed, Setting::ReplicaExecMode)
            .or_else(|| fence(observed, now))
            .or_else(|| restore(observed, Setting::SuperReadOnly))
            .or_else(|| new_life(observed))
            .or_else(|| link(observed))
            .or_else(|| behind(observed))
            .or_else(|| left_over(observed))
            .or_else(|| open(observed))
            .or_else(|| conflicts::next(observed))
            // A clone takes long and may be refused again and again; nobody waits for it.
            .or_else(|| rebuild(observed))
            .or_else(|| create_database(observed))
            .or_else(|| replace(observed))
            .or_else(|| restart::restart(observed, now))
    };
    match risky {
        Some(step) => steps.push(step),
        // While something is changed nobody compares, nor are writes stopped.
        None if restart::next(observed).is_some() => {}
        None => steps.extend(comparison::step(observed, now).or_else(|| conflicts::awaited(observed))),
    }
    steps
}

/// It takes part, and it is not another one that takes the writes.
fn may_be_open(observed: &Observed, member: &Member) -> bool {
    observed.is_writer(member.ordinal) && takes_part(observed, member)
}

fn should_serve(observed: &Observed, member: &Member) -> bool {
    let open = member.with_data().is_some_and(|(server, _)| !server.super_read_only);
    open && !member.has_label() && may_be_open(observed, member) && !is_next(observed, member)
}

fn serve(member: &Member) -> Option<Step> {
    let pod = member.pod.as_ref().filter(|pod| !pod.terminating)?;
    Some(Step::Serve {
        ordinal: member.ordinal,
        pod_uid: pod.uid.clone(),
    })
}

/// The members that have the label after these steps.
fn served(observed: &Observed, labels: &[Step]) -> Vec<u8> {
    let kept = observed.members.iter().filter(|member| {
        let withdrawn = |step: &Step| matches!(step, Step::Withdraw { ordinal, .. } if *ordinal == member.ordinal);
        let labelled = |step: &Step| matches!(step, Step::Serve { ordinal, .. } if *ordinal == member.ordinal);
        member.has_label() && !labels.iter().any(withdrawn) || labels.iter().any(labelled)
    });
    kept.map(|member| member.ordinal).collect()
}

/// Labels that must go. A fact (fenced, ending, mysqld down) is enough; a failed probe needs a second witness and another member that serves.
fn withdrawals(observed: &Observed) -> Vec<Step> {
    let labelled = || observed.members.iter().filter(|member| member.has_label());
    let withdraw = |member: &Member, why: String| {
        member.pod.as_ref().map(|pod| Step::Withdraw {
            ordinal: member.ordinal,
            pod_uid: pod.uid.clone(),
            why,
        })
    };
    labelled()
        .filter_map(|member| match Health::of(member, observed) {
            _ if observed.is_bypassed(member.ordinal) => withdraw(member, "it is not in the ring".into()),
            _ if observed.is_leaving(member) => withdraw(member, "it leaves the ring".into()),
            _ if observed.is_reader(member.ordinal) => withdraw(member, "another member is the writer".into()),
            _ if fencing::is_ordered(observed, member.ordinal) => {
                withdraw(member, format!("the annotation {ANNOTATION_FENCE} names it"))
            }
            _ if is_next(observed, member) => withdraw(member, "it is to be restarted".into()),
            Health::Reached if member.server().is_some_and(|server| server.super_read_only) => {
                withdraw(member, "it is fenced".into())
            }
            Health::Starting(why) | Health::NoPod(why) => withdraw(member, why),
            Health::Failed(why) => {
                let another = labelled().any(|other| {
                    other.ordinal != member.ordinal && other.server().is_some_and(|server| !server.super_read_only)
                });
                another.then(|| withdraw(member, why)).flatten()
            }
            Health::Reached | Health::Alive(_) | Health::Suspect(_) => None,
        })
        .collect()
}

/// Members that are fenced, hold data and belong to this cluster.
fn returning(observed: &Observed) -> impl Iterator<Item = (&Member, &Server)> {
    observed.members.iter().filter_map(|member| {
        let (server, _) = member.with_data()?;
        (server.super_read_only && !is_foreign(observed, member)).then_some((member, server))
    })
}

/// Contact with a member that still, or again, takes writes and is bypassed, or not the one writer; one that a person wants fenced; or one that
/// is to leave and has no clients any more.
fn fence(observed: &Observed, now: Timestamp) -> Option<Step> {
    let due = |member: &&Member| {
        observed.is_bypassed(member.ordinal)
            || observed.is_reader(member.ordinal)
            || fencing::is_ordered(observed, member.ordinal)
            || observed.is_leaving(member) && has_said_goodbye(observed, member, now)
    };
    observed
        .members
        .iter()
        .filter(due)
        // CLONE needs super_read_only off; the agent keeps clients out by read_only. What a newer agent does may need that, too.
        .filter(|member| !member.is_cloning() && !member.is_of_a_newer_agent())
        .filter_map(|member| Some((member, member.server()?)))
        .find(|(_, server)| !server.super_read_only)
        .map(|(member, server)| Step::Fence {
            ordinal: member.ordinal,
            server_uuid: server.uuid.clone(),
        })
}

/// A setting that a conflict step has changed and not changed back, because it ended early: none is under way while members are looked at.
fn restore(observed: &Observed, setting: Setting) -> Option<Step> {
    let is_left = |member: &Member, server: &Server| match setting {
        Setting::ReplicaExecMode => server.idempotent,
        // CLONE needs it off; the agent says that it clones before it turns it off.
        Setting::SuperReadOnly => {
            server.half_fenced && member.report().is_some_and(|report| report.phase == Phase::Running)
        }
    };
    observed.members.iter().find_map(|member| {
        let server = member.server().filter(|server| is_left(member, server))?;
        Some(Step::Restore {
            ordinal: member.ordinal,
            server_uuid: server.uuid.clone(),
            setting,
        })
    })
}

fn new_life(observed: &Observed) -> Option<Step> {
    returning(observed).find_map(|(member, server)| {
        let lost: GtidSet = lost(observed, member.ordinal, server).ok()?;
        (!lost.is_empty()).then(|| Step::NewLife {
            ordinal: member.ordinal,
            server_uuid: server.uuid.clone(),
            lost,
        })
    })
}

fn link(observed: &Observed) -> Option<Step> {
    // By file and offset a channel starts behind what its own disk has lost: that has to be known first.
    let positioned = observed.cluster.spec.replication.positioning == Positioning::FilePosition;
    let unchecked = |member: &Member, server: &Server| {
        positioned && server.super_read_only && lost(observed, member.ordinal, server).is_err()
    };
    let checked = joined(observed).filter(|(member, server)| !unchecked(member, server));
    let mut needs = checked.map(|(member, server)| links::need(observed, member.ordinal, server));
    needs.find_map(|need| match need {
        LinkNeed::Step(step) => Some(step),
        LinkNeed::Nothing | LinkNeed::Patience | LinkNeed::Purged(_) | LinkNeed::Conflict => None,
    })
}

/// Members that hold data of this cluster.
fn joined(observed: &Observed) -> impl Iterator<Item = (&Member, &Server)> {
    let joined = observed.members.iter().filter(|member| !is_foreign(observed, member));
    joined.filter_map(|member| Some((member, member.with_data()?.0)))
}

fn behind(observed: &Observed) -> Option<Step> {
    let staying = joined(observed).filter(|(member, _)| !observed.is_leaving(member));
    let mut steps = staying.filter_map(|(member, server)| match links::need(observed, member.ordinal, server) {
        LinkNeed::Purged(missing) => behind::way_out(observed, member, server, &missing).ok(),
        _ => None,
    });
    steps.next()
}

fn left_over(observed: &Observed) -> Option<Step> {
    joined(observed).find_map(|(member, server)| leftover::left_over(observed, member, server))
}

fn open(observed: &Observed) -> Option<Step> {
    returning(observed).find_map(|(member, server)| {
        let linked = !matches!(
            links::need(observed, member.ordinal, server),
            LinkNeed::Step(_) | LinkNeed::Purged(_)
        );
        let stays = member.pod.as_ref().is_some_and(|pod| !pod.terminating) && !is_next(observed, member);
        let may = may_be_open(observed, member) && opening::may_open(observed, member, server).is_ok();
        let whole = || has_lost_nothing(observed, member.ordinal, server) && has_caught_up(observed, member, server);
        (may && linked && stays && whole()).then(|| Step::Open {
            ordinal: member.ordinal,
            server_uuid: server.uuid.clone(),
        })
    })
}

fn create_database(observed: &Observed) -> Option<Step> {
    let wanted = observed.cluster.spec.database.is_some();
    let created = observed
        .cluster
        .status
        .as_ref()
        .is_some_and(|status| status.database_created);
    if !wanted || created || !ring_is_whole(observed) {
        return None;
    }
    let ordinal = observed.writer().unwrap_or(0);
    let (server, _) = observed.member(ordinal)?.with_data()?;
    Some(Step::CreateDatabase {
        ordinal,
        server_uuid: server.uuid.clone(),
    })
}
