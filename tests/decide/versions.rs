//! Versions side by side: what cannot be read is never taken for nothing, and what is not known stays as it is.

use multimaster::api::MultiMasterCluster;
use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, MemberStatus, conditions};
use multimaster::decide::decide;
use multimaster::decide::observed::{Observed, Probe};
use multimaster::decide::step::{Action, PodAction, Step};
use multimaster::wire::agent::{Origin, Phase as AgentPhase};

use crate::fixture::{
    at, condition, executed, fence, gtid, link, lose, member_status, pod, report, server, settle, steps, unreachable,
    uuid, whole,
};

/// As somebody's hand, or a version to come, might leave it.
const NONSENSE: &str = "10000000-0000-0000-0000-000000000000:1-10:~";

fn recorded(observed: &mut Observed, ordinal: u8) -> &mut MemberStatus {
    &mut observed.cluster.status.as_mut().unwrap().member_statuses[usize::from(ordinal)]
}

/// Member 1 is back on a disk of an hour ago. Only the record of this member in status knew what it lacks.
fn back_in_time(record: u8) -> Observed {
    let mut observed = whole();
    fence(&mut observed, 1);
    let older = gtid(&format!("{}:1-10,{}:1-4,{}:1-10", uuid(0), uuid(1), uuid(2)));
    for ordinal in 0..3 {
        server(&mut observed, ordinal).executed = older.clone();
        recorded(&mut observed, ordinal).gtid_executed = older.to_string();
    }
    recorded(&mut observed, record).gtid_executed = NONSENSE.into();
    if record != 1 {
        unreachable(&mut observed, record);
        pod(&mut observed, record).ready = false;
    }
    observed
}

#[test]
fn nobody_is_opened_while_a_record_of_what_was_executed_cannot_be_read() {
    for record in [1, 2] {
        let mut observed = back_in_time(record);
        let decision = settle(&mut observed, 60);
        let about_1 = |step: &&&Step| step.ordinal() == Some(1);
        assert_eq!(steps(&decision).iter().find(about_1), None, "{record}");
        let member = member_status(&decision, 1);
        let message = member.message.as_deref().unwrap_or_default();
        assert_eq!(member.state, MemberState::Returning, "{record}: {message}");
        let field = format!("status.memberStatuses[{record}].gtidExecuted of demo-{record}");
        assert!(message.contains(&field), "{message}");
        let progressing = condition(&decision, conditions::PROGRESSING);
        assert_eq!(
            (progressing.status.as_str(), progressing.reason.as_str()),
            ("False", Reason::StatusUnreadable.as_ref())
        );
        assert!(progressing.message.contains(&field), "{}", progressing.message);
        // It is for a person to correct.
        assert_eq!(member_status(&decision, record).gtid_executed, NONSENSE);

        let lost = gtid(&format!("{}:1-10", uuid(1)));
        recorded(&mut observed, record).gtid_executed = lost.to_string();
        let decision = decide(&observed, at(61));
        let expected = gtid(&format!("{}:5-10", uuid(1)));
        assert!(
            matches!(&steps(&decision)[..], [.., Step::Member { ordinal: 1, action: Action::NewLife { lost }, .. }] if *lost == expected),
            "{record}: {:?}",
            decision.steps
        );
    }
}

#[test]
fn a_bypassed_member_is_not_taken_back_while_its_record_cannot_be_read() {
    let mut observed = whole();
    fence(&mut observed, 1);
    recorded(&mut observed, 1).bypassed = true;
    link(&mut observed, 2).name = "from-0".into();
    let back = decide(&observed, at(60));
    assert!(!member_status(&back, 1).bypassed);
    recorded(&mut observed, 1).gtid_executed = NONSENSE.into();
    let decision = decide(&observed, at(60));
    assert!(member_status(&decision, 1).bypassed);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
}

#[test]
fn an_open_member_is_recorded_anew() {
    let mut observed = whole();
    recorded(&mut observed, 1).gtid_executed = NONSENSE.into();
    let decision = settle(&mut observed, 60);
    assert_eq!(member_status(&decision, 1).gtid_executed, executed().to_string());
    assert_eq!(condition(&decision, conditions::READY).status, "True");
    assert_eq!(
        condition(&decision, conditions::PROGRESSING).reason,
        Reason::Stable.as_ref()
    );
}

#[test]
fn what_a_suspect_member_had_is_waited_for_although_its_record_cannot_be_read() {
    let mut observed = whole();
    fence(&mut observed, 1);
    let ahead = gtid(&format!("{}:1-20,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    server(&mut observed, 0).executed = ahead;
    settle(&mut observed, 60);
    unreachable(&mut observed, 0);
    recorded(&mut observed, 0).gtid_executed = NONSENSE.into();
    let decision = decide(&observed, at(61));
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
}

#[test]
fn a_target_that_cannot_be_read_is_set_anew() {
    let mut observed = whole();
    fence(&mut observed, 1);
    let ahead = gtid(&format!("{}:1-20,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)));
    server(&mut observed, 0).executed = ahead.clone();
    recorded(&mut observed, 1).catch_up_to = Some(NONSENSE.into());
    let decision = settle(&mut observed, 60);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(member_status(&decision, 1).catch_up_to, Some(ahead.to_string()));
}

#[test]
fn a_target_that_cannot_be_read_is_waited_for_where_nobody_can_name_another() {
    let mut observed = whole();
    fence(&mut observed, 1);
    recorded(&mut observed, 1).catch_up_to = Some(NONSENSE.into());
    observed.members[0].pod = None;
    observed.members[0].server = Probe::NoAddress;
    observed.members[0].agent = Probe::NoAddress;
    let decision = settle(&mut observed, 60);
    let opens = |step: &&&Step| matches!(step.on_member(), Some(Action::Open));
    assert_eq!(steps(&decision).iter().find(opens), None);
    let member = member_status(&decision, 1);
    assert_eq!(member.catch_up_to.as_deref(), Some(NONSENSE));
    let message = member.message.as_deref().unwrap_or_default();
    assert!(
        message.contains("status.memberStatuses[1].catchUpTo of demo-1"),
        "{message}"
    );
}

/// A reader has been checked before it served.
#[test]
fn a_reader_goes_on_and_does_not_become_the_writer() {
    let mut observed = whole();
    observed.cluster.spec.writes = multimaster::api::Writes::SingleWriter;
    for ordinal in [1, 2] {
        server(&mut observed, ordinal).super_read_only = true;
        pod(&mut observed, ordinal).serving = false;
    }
    settle(&mut observed, 30);
    recorded(&mut observed, 1).gtid_executed = NONSENSE.into();
    let decision = settle(&mut observed, 31);
    assert_eq!(member_status(&decision, 1).state, MemberState::Reading);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let reads = |step: &Step| matches!(step.on_pod(), Some(PodAction::WithdrawReads { .. }));
    assert!(!decision.steps.iter().any(reads), "{:?}", decision.steps);
    // Its writer goes down.
    observed.members[0].server = Probe::Unreachable("refused".into());
    report(&mut observed, 0).phase = AgentPhase::Starting;
    let decision = settle(&mut observed, 32);
    assert_eq!(decision.status.writer.unwrap().name, "demo-0");
}

/// The resource as the API server has it, with another value somewhere in its status.
fn with_status(mut observed: Observed, field: &str, value: serde_json::Value) -> Observed {
    let mut resource = serde_json::to_value(&observed.cluster).unwrap();
    *resource["status"].pointer_mut(field).unwrap() = value;
    observed.cluster = serde_json::from_value(resource).unwrap();
    observed
}

/// A pass writes what it decided, and the next one reads that.
fn written(observed: &mut Observed, seconds: i64) -> multimaster::decide::Decision {
    let decision = decide(observed, at(seconds));
    let mut cluster = observed.cluster.clone();
    cluster.status = Some(decision.status.clone());
    let text = serde_json::to_string(&cluster).unwrap();
    observed.cluster = serde_json::from_str::<MultiMasterCluster>(&text).unwrap();
    decision
}

#[test]
fn while_a_field_of_status_cannot_be_read_nothing_is_changed_that_rests_on_it() {
    let single = |mut observed: Observed| {
        observed.cluster.spec.writes = multimaster::api::Writes::SingleWriter;
        for ordinal in [1, 2] {
            fence(&mut observed, ordinal);
        }
        settle(&mut observed, 30);
        observed
    };
    for (field, value, named) in [
        ("/epoch", "one".into(), "status.epoch:"),
        ("/writer/name", 1.into(), "status.writer:"),
        ("/memberStatuses", 3.into(), "status.memberStatuses:"),
        ("/memberStatuses/1", "demo-1".into(), "status.memberStatuses:"),
        (
            "/memberStatuses/1/name",
            1.into(),
            "status.memberStatuses[1].name, status.memberStatuses:",
        ),
        (
            "/memberStatuses/1/serverUUID",
            1.into(),
            "status.memberStatuses[1].serverUUID:",
        ),
        (
            "/memberStatuses/1/gtidExecuted",
            serde_json::json!({}),
            "status.memberStatuses[1].gtidExecuted:",
        ),
    ] {
        // Member 1 is back, empty and fenced; member 0 was frozen; the template is another one.
        let mut observed = single(whole());
        report(&mut observed, 1).origin = Origin::Empty;
        unreachable(&mut observed, 0);
        pod(&mut observed, 0).ready = false;
        observed.update_revision = Some("b".into());
        let mut observed = with_status(observed, field, value);
        let first = written(&mut observed, 60);
        let ready = condition(&first, conditions::READY);
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", Reason::StatusUnreadable.as_ref()),
            "{field}"
        );
        assert!(ready.message.contains(named), "{field}: {}", ready.message);
        for seconds in 61..80 {
            let before = observed.cluster.status.clone();
            let decision = written(&mut observed, seconds);
            assert_eq!(decision.steps, [], "{field}");
            assert_eq!(Some(decision.status), before, "{field}: there is nothing to write");
        }
    }
}

/// What is wrong with the status of a ring does not keep a member that fails in the Service.
#[test]
fn a_failed_member_leaves_the_service_whatever_cannot_be_read() {
    let mut observed = with_status(whole(), "/epoch", "one".into());
    assert_eq!(decide(&observed, at(60)).steps, []);
    unreachable(&mut observed, 1);
    pod(&mut observed, 1).ready = false;
    link(&mut observed, 2).seconds_since_contact = Some(3);
    let decision = decide(&observed, at(61));
    assert!(
        matches!(
            decision.steps[..],
            [Step::Pod {
                ordinal: 1,
                action: PodAction::Withdraw { .. },
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );
}

#[test]
fn what_is_seen_anew_is_written_anew_and_unknown_fields_stay() {
    let mut observed = whole();
    for (field, value) in [
        ("/phase", "Hibernating".into()),
        ("/memberStatuses/1/state", "Upgrading".into()),
        ("/conditions/0/status", 1.into()),
    ] {
        observed = with_status(observed, field, value);
    }
    let mut resource = serde_json::to_value(&observed.cluster).unwrap();
    let status = &mut resource["status"];
    status["backup"] = serde_json::json!({"last": "today"});
    status["memberStatuses"][2]["agentVersion"] = 7.into();
    let mut theirs = status["conditions"][1].clone();
    theirs["type"] = "BackedUp".into();
    theirs["age"] = 3.into();
    status["conditions"].as_array_mut().unwrap().insert(0, theirs.clone());
    observed.cluster = serde_json::from_value(resource).unwrap();

    let first = written(&mut observed, 60);
    assert_eq!(condition(&first, conditions::READY).status, "True");
    assert_eq!(member_status(&first, 1).state, MemberState::Serving);
    let status = serde_json::to_value(&observed.cluster).unwrap()["status"].take();
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["memberStatuses"][1]["state"], "Serving");
    assert_eq!(status["memberStatuses"][2]["agentVersion"], 7);
    assert_eq!(status["backup"]["last"], "today");
    assert!(status["conditions"].as_array().unwrap().contains(&theirs));
    for seconds in 61..80 {
        let before = observed.cluster.status.clone();
        assert_eq!(Some(written(&mut observed, seconds).status), before);
    }
}

/// The agent is newer: it may be doing anything.
#[test]
fn a_member_whose_agent_says_what_is_not_known_is_left_alone() {
    type Riddle = fn(&mut multimaster::wire::agent::Report);
    let riddles: [Riddle; 2] = [
        |report| report.phase = AgentPhase::Unknown,
        |report| report.origin = Origin::Unknown,
    ];
    for riddle in riddles {
        // It goes on with what it did.
        let mut observed = whole();
        riddle(report(&mut observed, 1));
        for seconds in [60, 70, 80] {
            let decision = settle(&mut observed, seconds);
            assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
            assert!(!member_status(&decision, 1).bypassed);
        }
        // Fenced and bypassed it is neither opened nor taken back, wherever it stands; open and bypassed it is not fenced.
        for fenced in [true, false] {
            let mut observed = whole();
            riddle(report(&mut observed, 1));
            recorded(&mut observed, 1).bypassed = true;
            link(&mut observed, 2).name = "from-0".into();
            pod(&mut observed, 1).serving = false;
            server(&mut observed, 1).super_read_only = fenced;
            let decision = settle(&mut observed, 60);
            assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
            assert!(member_status(&decision, 1).bypassed);
        }
        // With nothing on its disk as far as can be seen it is not cloned, nor is it anybody's donor.
        let mut observed = whole();
        fence(&mut observed, 1);
        riddle(report(&mut observed, 1));
        server(&mut observed, 1).executed = gtid("");
        server(&mut observed, 1).channels.clear();
        let decision = settle(&mut observed, 60);
        assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
        let message = member_status(&decision, 1).message.clone().unwrap_or_default();
        assert!(message.contains("its agent is newer"), "{message}");
    }
    // mysqld does not answer, and perhaps is not to.
    let mut observed = whole();
    observed.members[1].server = Probe::Unreachable("refused".into());
    report(&mut observed, 1).phase = AgentPhase::Unknown;
    pod(&mut observed, 1).ready = false;
    let decision = settle(&mut observed, 60);
    assert_eq!(member_status(&decision, 1).state, MemberState::Suspect);
    for seconds in [66, 80] {
        let decision = settle(&mut observed, seconds);
        assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
        assert!(!member_status(&decision, 1).bypassed);
    }
}

#[test]
fn a_new_ring_is_not_founded_around_an_agent_that_says_what_is_not_known() {
    let mut observed = crate::fixture::new();
    report(&mut observed, 2).origin = Origin::Unknown;
    let decision = settle(&mut observed, 60);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(decision.status.epoch, 0);
}

/// As they are on the wire, from before there were versions and from versions to come.
#[test]
fn reports_of_all_versions_are_read() {
    use multimaster::wire::agent::Report;
    let first = serde_json::json!({
        "ordinal": 1, "origin": "Founded", "serverId": 18, "serverUuid": "u", "formerServerUuids": [], "phase": {"phase": "Running"},
        "lastCloneError": null
    });
    let read = |report: &serde_json::Value| serde_json::from_value::<Report>(report.clone()).unwrap();
    assert_eq!((read(&first).version, read(&first).is_understood()), (0, true));
    let mut newer = first.clone();
    newer["version"] = 9.into();
    newer["moon"] = serde_json::json!({"full": true});
    newer["phase"] = serde_json::json!({"phase": "Running", "since": 1});
    assert_eq!((read(&newer).version, read(&newer).is_understood()), (9, true));
    newer["phase"] = serde_json::json!({"phase": "Upgrading", "from": {"a": [1]}});
    assert_eq!(read(&newer).phase, AgentPhase::Unknown);
    newer["origin"] = "Restored".into();
    assert_eq!(read(&newer).origin, Origin::Unknown);
}

/// An HAProxy pod of before there were versions does what it is told and says it without a version.
#[test]
fn an_order_is_not_given_again_and_again_to_an_older_pod() {
    use multimaster::wire::balancer::Order;
    let order = serde_json::json!({
        "version": 1, "settings": {"algorithm": "RoundRobin", "sticky": false, "maxConnections": 10, "checkMilliseconds": 1000,
            "timeouts": multimaster::api::balancer::Timeouts::default()},
        "peers": [], "slots": [{"ordinal": 0, "address": "10.0.0.1", "state": "Serve", "weight": 100, "maxConnections": null}]
    });
    let read = |order: &serde_json::Value| serde_json::from_value::<Order>(order.clone()).unwrap();
    let mut older = order.clone();
    older.as_object_mut().unwrap().remove("version");
    assert_eq!(read(&older).version, 0);
    assert!(read(&older).means(&read(&order)) && read(&order).means(&read(&older)));
    older["slots"][0]["state"] = "Out".into();
    assert!(!read(&older).means(&read(&order)));
}

/// A ring whose spec a newer version has written.
fn newer(spec: serde_json::Value) -> Observed {
    let mut observed = whole();
    let mut all = serde_json::to_value(&observed.cluster).unwrap();
    all["spec"]
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    observed.cluster = serde_json::from_value::<MultiMasterCluster>(all).unwrap().as_recorded();
    observed
}

#[test]
fn a_ring_whose_spec_is_newer_is_healed_as_recorded_and_nothing_else_is_changed() {
    let mut observed = newer(serde_json::json!({"backup": {"every": "1h"}, "maxLagSeconds": "none"}));
    observed.update_revision = Some("b".into());
    let decision = settle(&mut observed, 60);
    assert_eq!(decision.steps, []);
    for type_ in [conditions::READY, conditions::PROGRESSING] {
        let said = condition(&decision, type_);
        assert_eq!(said.reason, Reason::NewerSpec.as_ref(), "{type_}");
        assert!(
            said.message.starts_with("spec.backup, spec.maxLagSeconds: "),
            "{}",
            said.message
        );
    }
    assert_eq!(condition(&decision, conditions::READY).status, "Unknown");
    assert_eq!(condition(&decision, conditions::AVAILABLE).status, "True");

    lose(&mut observed, 1);
    settle(&mut observed, 61);
    let healed = decide(&observed, at(66));
    assert!(member_status(&healed, 1).bypassed);
    assert!(
        healed
            .steps
            .iter()
            .any(|step| matches!(step.on_member(), Some(Action::Attach { .. }))),
        "{:?}",
        healed.steps
    );
}

#[test]
fn how_it_heals_is_not_guessed() {
    for replication in [
        serde_json::json!({"healing": "Sometimes"}),
        serde_json::json!({"positioning": "Clock"}),
    ] {
        let mut observed = newer(serde_json::json!({"replication": replication}));
        lose(&mut observed, 1);
        settle(&mut observed, 60);
        assert!(!member_status(&settle(&mut observed, 600), 1).bypassed);
    }
    // A field that is new changes nothing about that.
    let mut observed = newer(serde_json::json!({"replication": {"compression": "zstd"}}));
    lose(&mut observed, 1);
    settle(&mut observed, 60);
    assert!(member_status(&settle(&mut observed, 600), 1).bypassed);
}

/// A member that joins needs a new channel behind it.
#[test]
fn while_positioning_is_not_known_no_channel_is_created_and_nobody_joins() {
    for (replication, is_known) in [
        (serde_json::json!({"positioning": "Clock"}), false),
        (serde_json::json!({"compression": 1}), true),
    ] {
        let mut observed = newer(serde_json::json!({"replication": replication}));
        fence(&mut observed, 1);
        recorded(&mut observed, 1).bypassed = true;
        link(&mut observed, 2).name = "from-0".into();
        let decision = decide(&observed, at(60));
        assert_eq!(member_status(&decision, 1).bypassed, !is_known);
        let mut observed = newer(serde_json::json!({"replication": replication}));
        server(&mut observed, 0).channels.clear();
        let attaches = |step: &Step| matches!(step.on_member(), Some(Action::Attach { .. }));
        let decision = decide(&observed, at(60));
        assert_eq!(decision.steps.iter().any(attaches), is_known, "{:?}", decision.steps);
    }
}

#[test]
fn members_that_a_newer_version_counts_otherwise_stay() {
    let mut observed = newer(serde_json::json!({"members": "auto"}));
    let decision = settle(&mut observed, 60);
    assert_eq!(
        (observed.cluster.spec.members, decision.status.member_statuses.len()),
        (3, 3)
    );
    assert_eq!(decision.steps, []);
}
