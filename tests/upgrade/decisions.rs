//! What this version decides where an earlier one has stopped: from its status, its agents' reports and its servers.

use jiff::{SignedDuration, Timestamp};
use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, MultiMasterClusterStatus, conditions};
use multimaster::decide::observed::{Observed, Probe};
use multimaster::decide::step::{Action, ClusterAction, PodAction, StartAt, Step};
use multimaster::decide::{Decision, decide};
use multimaster::mysql::gtid::GtidSet;
use multimaster::wire::agent::Origin;

use crate::VERSIONS;
use crate::fixture::{condition, fence, member_status, pod, report, server};
use crate::kept::{ring, rings};

fn status(observed: &Observed) -> &MultiMasterClusterStatus {
    observed.cluster.status.as_ref().unwrap()
}

/// This long after the earlier operator's last look.
fn after(observed: &Observed, seconds: i64) -> Timestamp {
    let recorded = status(observed).recorded_at.as_ref().unwrap().0;
    recorded + SignedDuration::from_secs(seconds)
}

/// The steps that touch a member.
fn touches(decision: &Decision) -> Vec<&Step> {
    let steps = decision.steps.iter();
    steps.filter(|step| step.ordinal().is_some()).collect()
}

/// The first look of an operator that has just taken over: whatever the ring is doing goes on, and nobody notices.
#[test]
fn a_ring_goes_on_as_it_was() {
    for version in VERSIONS {
        for ring in rings(version) {
            let observed = ring.observed();
            let (before, now) = (status(&observed), after(&observed, 1));
            let decision = decide(&observed, now);
            assert_eq!(touches(&decision), Vec::<&Step>::new(), "{}", ring.name);
            let next = &decision.status;
            assert_eq!(
                (
                    next.epoch,
                    &next.ring,
                    &next.writer,
                    next.database_created,
                    next.conflicts
                ),
                (
                    before.epoch,
                    &before.ring,
                    &before.writer,
                    before.database_created,
                    before.conflicts
                ),
                "{}",
                ring.name
            );
            assert_eq!(
                (&next.balancer, &next.comparison),
                (&before.balancer, &before.comparison),
                "{}",
                ring.name
            );
            assert!(before.epoch > 0 && before.member_statuses.len() == 3, "{}", ring.name);
            for (next, before) in next.member_statuses.iter().zip(&before.member_statuses) {
                assert_eq!(
                    (
                        &next.name,
                        next.state,
                        &next.since,
                        &next.server_uuid,
                        next.server_id,
                        &next.former_server_uuids
                    ),
                    (
                        &before.name,
                        before.state,
                        &before.since,
                        &before.server_uuid,
                        before.server_id,
                        &before.former_server_uuids
                    ),
                    "{}",
                    ring.name
                );
                assert_eq!(
                    (
                        next.bypassed,
                        &next.bypassed_at,
                        &next.held_out_until,
                        &next.absent_since,
                        &next.catch_up_to
                    ),
                    (
                        before.bypassed,
                        &before.bypassed_at,
                        &before.held_out_until,
                        &before.absent_since,
                        &before.catch_up_to
                    ),
                    "{}: {}",
                    ring.name,
                    next.name
                );
                let recorded: GtidSet = before.gtid_executed.parse().unwrap();
                assert!(
                    next.gtid_executed.parse::<GtidSet>().unwrap().contains(&recorded),
                    "{}",
                    ring.name
                );
            }
            for before in &before.conditions {
                let next = condition(&decision, &before.type_);
                assert_eq!(
                    (&next.status, &next.reason, &next.last_transition_time),
                    (&before.status, &before.reason, &before.last_transition_time),
                    "{}: {}",
                    ring.name,
                    before.type_
                );
            }
        }
    }
}

/// Every server was restarted meanwhile: each is opened or follows as before, and none is made anew.
#[test]
fn a_ring_that_was_restarted_comes_back_as_it_was() {
    for version in VERSIONS {
        for case in ["serving", "compared", "single-writer", "file-position"] {
            let mut observed = ring(version, case).observed();
            let uuids = |observed: &Observed| -> Vec<_> {
                let statuses = status(observed).member_statuses.iter();
                statuses.map(|member| member.server_uuid.clone()).collect()
            };
            let (states, lives) = (states(&observed), uuids(&observed));
            for ordinal in 0..3 {
                fence(&mut observed, ordinal);
            }
            for pass in 1..30 {
                let decision = decide(&observed, after(&observed, pass));
                observed.cluster.status = Some(decision.status);
                for step in decision.steps {
                    carry_out(&mut observed, &step, case);
                }
            }
            assert_eq!(
                (self::states(&observed), uuids(&observed)),
                (states, lives),
                "{version}/{case}"
            );
        }
    }
}

fn states(observed: &Observed) -> Vec<MemberState> {
    status(observed)
        .member_statuses
        .iter()
        .map(|member| member.state)
        .collect()
}

fn carry_out(observed: &mut Observed, step: &Step, case: &str) {
    match step {
        Step::Cluster(ClusterAction::Apply) | Step::Cluster(ClusterAction::Balance { .. }) => {}
        Step::Member {
            ordinal,
            action: Action::Open,
            ..
        } => {
            server(observed, *ordinal).super_read_only = false;
            pod(observed, *ordinal).ready = true;
        }
        Step::Pod {
            ordinal,
            action: PodAction::Serve,
            ..
        } => pod(observed, *ordinal).serving = true,
        Step::Pod {
            ordinal,
            action: PodAction::ServeReads,
            ..
        } => pod(observed, *ordinal).reads = true,
        step => panic!("{case}: {step:?} has no place here"),
    }
}

#[test]
fn a_member_that_is_away_is_known_to_be() {
    for version in VERSIONS {
        let observed = ring(version, "away").observed();
        let member = &status(&observed).member_statuses[1];
        assert!(
            member.bypassed && member.absent_since.is_some() && member.bypassed_at.is_some(),
            "{member:?}"
        );
        assert!(member.held_out_until.is_some(), "{member:?}");
        assert_eq!(status(&observed).ring, "0→2→0");
    }
}

#[test]
fn a_member_that_is_held_out_comes_back_when_its_time_has_come() {
    for version in VERSIONS {
        let observed = ring(version, "held-out").observed();
        let member = &status(&observed).member_statuses[1];
        let until = member.held_out_until.as_ref().unwrap().0;
        assert!(member.bypassed, "{member:?}");
        let early = decide(&observed, until - SignedDuration::from_secs(1));
        assert!(member_status(&early, 1).bypassed);
        let late = decide(&observed, until + SignedDuration::from_secs(1));
        assert!(!member_status(&late, 1).bypassed, "{:?}", member_status(&late, 1));
        assert_eq!(late.status.epoch, status(&observed).epoch + 1);
        // Unless it lacks what it has to catch up with, which its upstream has.
        let target: GtidSet = member.catch_up_to.as_ref().unwrap().parse().unwrap();
        let mut behind = observed.clone();
        server(&mut behind, 1).executed = GtidSet::default();
        let own = server(&mut behind, 1).uuid.clone();
        server(&mut behind, 1).executed = target.only(&own);
        let late = decide(&behind, until + SignedDuration::from_secs(1));
        assert!(member_status(&late, 1).bypassed, "{:?}", member_status(&late, 1));
    }
}

/// What only status remembers of a disk that went back in time.
#[test]
fn what_a_member_had_executed_is_held_against_its_disk() {
    for version in VERSIONS {
        let mut observed = ring(version, "serving").observed();
        fence(&mut observed, 2);
        let uuid = server(&mut observed, 2).uuid.clone();
        let own = server(&mut observed, 2).executed.only(&uuid);
        assert!(!own.is_empty(), "it has written nothing");
        for ordinal in 0..3 {
            let server = server(&mut observed, ordinal);
            server.executed = server.executed.difference(&own);
            server.channels[0].retrieved = server.channels[0].retrieved.difference(&own);
        }
        let decision = decide(&observed, after(&observed, 1));
        let steps = touches(&decision);
        let new_life = steps
            .iter()
            .any(|step| matches!(step, Step::Member { ordinal: 2, action: Action::NewLife { lost }, .. } if own.contains(lost)));
        assert!(new_life, "{steps:?}");
    }
}

/// Its volume remembers nothing, and the ring has what its ordinal has written before.
#[test]
fn earlier_lives_of_a_member_are_known() {
    for version in VERSIONS {
        let mut observed = ring(version, "serving").observed();
        let former = status(&observed).member_statuses[1].former_server_uuids.clone();
        // The one that it was founded with, and the empty one that became a copy.
        assert!(!former.is_empty(), "it is no copy");
        fence(&mut observed, 1);
        report(&mut observed, 1).former_server_uuids.clear();
        let written = former.iter().fold(GtidSet::default(), |all, uuid| {
            all.union(&server(&mut observed, 0).executed.only(uuid))
        });
        assert!(!written.is_empty(), "it has written nothing in an earlier life");
        let server = server(&mut observed, 1);
        server.executed = server.executed.difference(&written);
        let decision = decide(&observed, after(&observed, 1));
        let opens = |step: &&&Step| matches!(step.on_member(), Some(Action::Open));
        assert_eq!(
            touches(&decision).iter().filter(opens).count(),
            0,
            "{:?}",
            decision.steps
        );
        assert_eq!(member_status(&decision, 1).former_server_uuids, former);
    }
}

#[test]
fn somebody_elses_volume_is_told_from_a_members() {
    for version in VERSIONS {
        let mut observed = ring(version, "serving").observed();
        fence(&mut observed, 2);
        let other = "99999999-0000-0000-0000-000000000000";
        let server = server(&mut observed, 2);
        server.uuid = other.into();
        server.executed = format!("{other}:1-5").parse().unwrap();
        report(&mut observed, 2).server_uuid = Some(other.into());
        let decision = decide(&observed, after(&observed, 1));
        assert_eq!(member_status(&decision, 2).state, MemberState::Quarantined);
    }
}

#[test]
fn a_ring_that_was_founded_is_not_founded_again() {
    for version in VERSIONS {
        let mut observed = ring(version, "serving").observed();
        for ordinal in 0..3 {
            fence(&mut observed, ordinal);
            report(&mut observed, ordinal).origin = Origin::Empty;
            let server = server(&mut observed, ordinal);
            server.executed = GtidSet::default();
            server.channels.clear();
        }
        let decision = decide(&observed, after(&observed, 1));
        let founds = |step: &&&Step| matches!(step.on_member(), Some(Action::Found | Action::Open));
        assert_eq!(
            touches(&decision).iter().filter(founds).count(),
            0,
            "{:?}",
            decision.steps
        );
        assert_eq!(
            condition(&decision, conditions::READY).reason,
            Reason::DataLost.as_ref()
        );
    }
}

#[test]
fn a_link_begins_at_the_place_that_was_recorded() {
    for version in VERSIONS {
        let mut observed = ring(version, "file-position").observed();
        fence(&mut observed, 1);
        server(&mut observed, 1).channels.clear();
        let link = status(&observed).member_statuses[1].links[0].clone();
        let recorded = link.position.unwrap();
        let start = StartAt::Position {
            file: recorded.file,
            offset: recorded.offset,
        };
        let decision = decide(&observed, after(&observed, 1));
        let steps = touches(&decision);
        let attaches = |step: &&Step| matches!(step, Step::Member { ordinal: 1, action: Action::Attach { upstream: 0, start: at }, .. } if *at == start);
        assert!(
            steps.iter().copied().any(|step| attaches(&step)),
            "{steps:?}, not from {start}"
        );
    }
}

#[test]
fn the_writer_is_known_and_no_other_is_opened() {
    for version in VERSIONS {
        let mut observed = ring(version, "single-writer").observed();
        let writer = status(&observed).writer.clone().unwrap();
        assert!(!writer.why.is_empty());
        let ordinal = observed.cluster.writer().unwrap();
        // It does not answer this operator for a moment.
        observed.members[usize::from(ordinal)].server = Probe::Unreachable("no answer".into());
        let decision = decide(&observed, after(&observed, 1));
        assert_eq!(decision.status.writer, Some(writer));
        let opens = |step: &&&Step| {
            matches!(
                step,
                Step::Member {
                    action: Action::Open,
                    ..
                } | Step::Pod {
                    action: PodAction::Serve,
                    ..
                }
            )
        };
        assert_eq!(
            touches(&decision).iter().filter(opens).count(),
            0,
            "{:?}",
            decision.steps
        );
    }
}

#[test]
fn what_was_compared_is_not_compared_again() {
    for version in VERSIONS {
        let mut observed = ring(version, "compared").observed();
        let comparison = status(&observed).comparison.clone().unwrap();
        assert!(
            comparison.differing > 0 && !comparison.differences.is_empty(),
            "{comparison:?}"
        );
        let compares = |observed: &Observed| {
            let decision = decide(observed, after(observed, 1));
            decision
                .steps
                .iter()
                .any(|step| matches!(step, Step::Cluster(ClusterAction::Compare { .. })))
        };
        assert!(!compares(&observed));
        let decision = decide(&observed, after(&observed, 1));
        let converged = condition(&decision, conditions::CONVERGED);
        assert_eq!(
            (converged.status.as_str(), converged.reason.as_str()),
            ("False", Reason::Diverged.as_ref())
        );
        assert!(
            converged.message.contains(&comparison.differences[0].object),
            "{}",
            converged.message
        );
        let later = comparison.started_at.unwrap().0 + SignedDuration::from_hours(25);
        let decision = decide(&observed, later);
        assert!(
            decision
                .steps
                .iter()
                .any(|step| matches!(step, Step::Cluster(ClusterAction::Compare { .. }))),
            "{:?}",
            decision.steps
        );
        observed.cluster.status.as_mut().unwrap().comparison = None;
        assert!(compares(&observed), "the annotation asks for nothing");
    }
}

#[test]
fn a_member_that_drains_has_the_rest_of_its_time() {
    for version in VERSIONS {
        let mut observed = ring(version, "draining").observed();
        server(&mut observed, 2).client_sessions = 1;
        let member = &status(&observed).member_statuses[2];
        assert_eq!(member.state, MemberState::Draining);
        let since = member.since.as_ref().unwrap().0;
        let restarts = |seconds: i64| {
            let decision = decide(&observed, since + SignedDuration::from_secs(seconds));
            decision.steps.iter().any(|step| {
                matches!(
                    step,
                    Step::Pod {
                        ordinal: 2,
                        action: PodAction::Restart { .. },
                        ..
                    }
                )
            })
        };
        assert!(!restarts(29) && restarts(31));
    }
}

#[test]
fn a_first_database_is_created_once() {
    for version in VERSIONS {
        let mut observed = ring(version, "serving").observed();
        let creates = |observed: &Observed| {
            let decision = decide(observed, after(observed, 1));
            decision
                .steps
                .iter()
                .any(|step| matches!(step.on_member(), Some(Action::CreateDatabase)))
        };
        assert!(!creates(&observed));
        observed.cluster.status.as_mut().unwrap().database_created = false;
        assert!(creates(&observed), "nothing asks for it");
    }
}

#[test]
fn haproxy_pods_that_do_what_is_wanted_get_no_order() {
    for version in VERSIONS {
        let mut observed = ring(version, "single-writer").observed();
        assert_eq!(observed.balancers.len(), 2);
        let balances = |observed: &Observed| {
            let decision = decide(observed, after(observed, 1));
            let is_order = |step: &Step| matches!(step, Step::Cluster(ClusterAction::Balance { .. }));
            decision.steps.iter().any(is_order)
        };
        assert!(!balances(&observed), "{version}");
        let balancer = &mut observed.cluster.spec.balancer;
        balancer.check_milliseconds = Some(500);
        assert!(balances(&observed), "{version}");
    }
}
