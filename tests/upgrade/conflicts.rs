//! Records of conflicts that an earlier version has written into the members themselves.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use multimaster::api::status::conditions;
use multimaster::decide::conflicts::{Record, Sides, Stage};
use multimaster::decide::decide;
use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Action, Step};
use multimaster::names::{self, ANNOTATION_SETTLE};

use crate::VERSIONS;
use crate::fixture::condition;
use crate::kept::ring;

#[test]
fn records_are_read_in_every_stage() {
    for version in VERSIONS {
        let records = ring(version, "conflicts").records("on-the-way.json");
        let stages: BTreeSet<String> = records.iter().map(|record| format!("{:?}", record.stage)).collect();
        let all = ["Identical", "Settled", "Settling", "Taken", "Waiting"].map(ToOwned::to_owned);
        assert_eq!(stages, BTreeSet::from(all), "{version}");
        for record in &records {
            whole(record);
        }
    }
}

/// What follows from each field.
fn whole(record: &Record) {
    assert_eq!(record.observer.len(), 36);
    for row in &record.rows {
        // A person types it into an annotation, perhaps after the upgrade.
        assert_eq!(row.id, row.key.id(), "{record:?}");
        assert!(row.mine.is_some() || row.theirs.is_some(), "{record:?}");
    }
    match record.stage {
        Stage::Identical => assert!(record.rows.is_empty() && record.winner.is_none(), "{record:?}"),
        Stage::Taken => assert!(record.winner.is_some() && record.kept.is_some(), "{record:?}"),
        Stage::Waiting | Stage::Settling | Stage::Settled => {}
    }
}

#[test]
fn a_conflict_that_waits_for_a_person_goes_on_waiting_and_is_settled_by_one() {
    for version in VERSIONS {
        let mut observed = ring(version, "conflicts").observed();
        let now = recorded(&observed) + SignedDuration::from_secs(1);
        let waiting: Vec<&Record> = Sides::of(&observed).open().collect();
        let ids: BTreeSet<String> = waiting
            .iter()
            .flat_map(|record| &record.rows)
            .map(|row| row.id.clone())
            .collect();
        assert!(!waiting.is_empty() && !ids.is_empty(), "{version}");
        let servers = observed.members.iter().filter_map(|member| member.server());
        let settled = servers
            .flat_map(|server| &server.conflicts)
            .filter(|record| record.stage == Stage::Settled);
        assert!(settled.count() > 0, "{version}");

        let decision = decide(&observed, now);
        let free = condition(&decision, conditions::CONFLICT_FREE);
        assert_eq!(free.status, "False");
        assert!(ids.iter().any(|id| free.message.contains(id)), "{}", free.message);
        let settles = |step: &Step| matches!(step.on_member(), Some(Action::Settle { .. }));
        assert!(!decision.steps.iter().any(settles), "{:?}", decision.steps);

        let winner = names::member(observed.name(), 1);
        let orders: Vec<String> = ids.iter().map(|id| format!("{id}={winner}")).collect();
        let annotations = observed.cluster.metadata.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_SETTLE.into(), orders.join(","));
        let decision = decide(&observed, now);
        let right = |step: &Step| matches!(step.on_member(), Some(Action::Settle { winner: Some(1), .. }));
        assert!(decision.steps.iter().any(right), "{:?}", decision.steps);
    }
}

fn recorded(observed: &Observed) -> jiff::Timestamp {
    let status = observed.cluster.status.as_ref().unwrap();
    status.recorded_at.as_ref().unwrap().0
}
