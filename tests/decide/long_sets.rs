//! GTID sets that are too long for status: what is left out is named, and is never taken for nothing.

use multimaster::api::Healing;
use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::Decision;
use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Action, Step};
use multimaster::mysql::gtid::GtidSet;

use crate::fixture::{
    condition, executed, fence, gtid, lose, member_status, pod, server, settle, steps, unreachable, uuid, whole,
};

/// Bytes of a set in status.
const MOST: usize = 16 << 10;
const IMPORT: &str = "0aaaaaaa-0000-0000-0000-000000000001";

/// Each second transaction of a server.
fn gaps(uuid: &str, number: u64) -> GtidSet {
    let numbers: Vec<String> = (1..=number).map(|n| (2 * n).to_string()).collect();
    gtid(&format!("{uuid}:{}", numbers.join(":")))
}

/// Every member has executed these transactions, too.
fn with(mut observed: Observed, more: &GtidSet) -> Observed {
    for ordinal in 0..3 {
        let server = server(&mut observed, ordinal);
        server.executed.add(more);
        server.purged = more.clone();
    }
    observed
}

fn opens(decision: &Decision, ordinal: u8) -> bool {
    let opens = |step: &&Step| step.ordinal() == Some(ordinal) && matches!(step.on_member(), Some(Action::Open));
    steps(decision).into_iter().any(|step| opens(&step))
}

fn message(decision: &Decision, ordinal: u8) -> &str {
    member_status(decision, ordinal).message.as_deref().unwrap_or_default()
}

/// The size of a set with 300,000 intervals is in the gaps of one import.
#[test]
fn the_gaps_of_an_import_are_not_in_status() {
    let mut observed = with(whole(), &gaps(IMPORT, 300_000));
    let decision = settle(&mut observed, 60);
    for ordinal in 0..3 {
        let status = member_status(&decision, ordinal);
        assert_eq!(status.gtid_executed, executed().to_string());
        assert_eq!(status.gtid_executed_omitted, [IMPORT]);
    }
    assert!(serde_json::to_string(&decision.status).unwrap().len() < 4 * MOST);
    assert_eq!(condition(&decision, conditions::READY).status, "True");
    assert_eq!(
        condition(&decision, conditions::PROGRESSING).reason,
        Reason::Stable.as_ref()
    );
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    // Once the gaps are filled, it is whole again.
    let mut observed = with(observed, &gtid(&format!("{IMPORT}:1-600000")));
    let decision = settle(&mut observed, 90);
    let status = member_status(&decision, 0);
    assert!(
        status.gtid_executed.contains(&format!("{IMPORT}:1-600000")),
        "{}",
        status.gtid_executed
    );
    assert!(status.gtid_executed_omitted.is_empty());
}

/// What is left out does not hide that a member's disk went back in time, nor does it keep a good member closed.
#[test]
fn a_members_own_history_is_checked_all_the_same() {
    for lacks in [false, true] {
        let mut observed = with(whole(), &gaps(IMPORT, 5_000));
        settle(&mut observed, 60);
        fence(&mut observed, 1);
        // Only status knows what it had.
        lose(&mut observed, 2);
        let older = gtid(&format!("{}:1-10,{}:1-4,{}:1-10", uuid(0), uuid(1), uuid(2))).union(&gaps(IMPORT, 5_000));
        if lacks {
            server(&mut observed, 0).executed = older.clone();
            server(&mut observed, 1).executed = older;
        }
        let decision = settle(&mut observed, 61);
        let lost = |step: &Step| matches!(step.on_member(), Some(Action::NewLife { lost }) if *lost == gtid(&format!("{}:5-10", uuid(1))));
        assert_eq!(decision.steps.iter().any(lost), lacks, "{:?}", decision.steps);
        assert_eq!(opens(&decision, 1), !lacks, "{:?}", decision.steps);
    }
}

/// So many gaps among the transactions of one member: it has to have been done by hand.
#[test]
fn a_member_whose_own_transactions_are_left_out_is_judged_by_all_others() {
    let own = gaps(&uuid(1), 5_000);
    let prepared = || {
        let mut observed = with(whole(), &own);
        let decision = settle(&mut observed, 60);
        let status = member_status(&decision, 0);
        assert_eq!(status.gtid_executed_omitted, [uuid(1)]);
        assert!(status.gtid_executed.len() <= MOST);
        assert!(
            status.gtid_executed.parse::<GtidSet>().is_err(),
            "an earlier version takes it for no set"
        );
        fence(&mut observed, 1);
        observed
    };
    // All others answer: what nobody has does not matter.
    let mut observed = prepared();
    let decision = settle(&mut observed, 61);
    assert!(opens(&decision, 1), "{:?}", decision.steps);
    assert_eq!(
        condition(&decision, conditions::PROGRESSING).reason,
        Reason::Reattaching.as_ref()
    );

    // They have more of it.
    let mut observed = prepared();
    server(&mut observed, 1).executed = executed().union(&gaps(&uuid(1), 4_000));
    let decision = settle(&mut observed, 61);
    let lost = |step: &Step| matches!(step.on_member(), Some(Action::NewLife { lost }) if lost.count() == 1000);
    assert!(decision.steps.iter().any(lost), "{:?}", decision.steps);

    // One does not answer, and may have more of it.
    let mut observed = prepared();
    unreachable(&mut observed, 2);
    pod(&mut observed, 2).ready = false;
    let decision = settle(&mut observed, 61);
    assert!(!opens(&decision, 1), "{:?}", decision.steps);
    assert_eq!(member_status(&decision, 1).state, MemberState::Returning);
    let said = message(&decision, 1);
    assert!(
        said.contains("gtidExecuted") && said.contains("demo-2 does not"),
        "{said}"
    );
    // What is left out of the record stays so while the member is fenced, however short its set is now.
    server(&mut observed, 1).executed = executed();
    let decision = settle(&mut observed, 90);
    assert_eq!(member_status(&decision, 1).gtid_executed_omitted, [uuid(1)]);
    // For another member it makes no difference.
    let mut observed = prepared();
    server(&mut observed, 1).super_read_only = false;
    fence(&mut observed, 0);
    unreachable(&mut observed, 2);
    pod(&mut observed, 2).ready = false;
    let decision = settle(&mut observed, 61);
    assert!(opens(&decision, 0), "{:?} {}", decision.steps, message(&decision, 0));
}

#[test]
fn what_a_suspect_member_may_have_of_what_is_left_out_is_waited_for() {
    for suspect in [true, false] {
        let mut observed = with(whole(), &gaps(IMPORT, 5_000));
        fence(&mut observed, 1);
        let more = gtid(&format!("{IMPORT}:1"));
        for ordinal in [0, 2] {
            server(&mut observed, ordinal).executed.add(&more);
        }
        let decision = settle(&mut observed, 60);
        let target = member_status(&decision, 1).catch_up_to.clone();
        assert_eq!(target.as_deref(), Some(more.to_string().as_str()), "what it lacks");
        unreachable(&mut observed, 0);
        server(&mut observed, 2).executed = executed().union(&gaps(IMPORT, 5_000));
        if !suspect {
            observed.members[0].pod = None;
            settle(&mut observed, 61);
        }
        let decision = settle(&mut observed, 62);
        assert_eq!(member_status(&decision, 1).catch_up_to, target);
        assert_eq!(opens(&decision, 1), !suspect, "{:?}", decision.steps);
    }
}

#[test]
fn a_target_that_is_too_long_is_set_once_what_is_lacking_fits() {
    let mut observed = whole();
    fence(&mut observed, 1);
    server(&mut observed, 0).executed.add(&gaps(IMPORT, 5_000));
    let decision = settle(&mut observed, 60);
    let target = |decision: &Decision| member_status(decision, 1).catch_up_to.clone().unwrap_or_default();
    assert!(target(&decision).starts_with("omitted"), "{}", target(&decision));
    // Its upstream does not answer: what it lacks is not known.
    let mut away = observed.clone();
    unreachable(&mut away, 0);
    let decision = settle(&mut away, 61);
    assert!(!opens(&decision, 1), "{:?}", decision.steps);
    assert!(target(&decision).starts_with("omitted"), "{}", target(&decision));
    assert!(message(&decision, 1).contains("catchUpTo"), "{}", message(&decision, 1));
    // It is gone, and nobody goes around it: all that can still be had is what others have.
    let mut gone = observed.clone();
    gone.cluster.spec.replication.healing = Some(Healing::Wait);
    unreachable(&mut gone, 0);
    gone.members[0].pod = None;
    settle(&mut gone, 61);
    let decision = settle(&mut gone, 62);
    assert!(opens(&decision, 1), "{:?} {}", decision.steps, message(&decision, 1));
    // It comes nearer, and its upstream goes on.
    server(&mut observed, 1).executed.add(&gaps(IMPORT, 4_999));
    let decision = settle(&mut observed, 70);
    assert_eq!(target(&decision), format!("{IMPORT}:10000"));
    server(&mut observed, 0).executed.add(&gtid(&format!("{IMPORT}:10002")));
    let decision = settle(&mut observed, 80);
    assert_eq!(target(&decision), format!("{IMPORT}:10000"));
    assert!(!opens(&decision, 1), "{:?}", decision.steps);
    server(&mut observed, 1).executed.add(&gaps(IMPORT, 5_000));
    assert!(opens(&settle(&mut observed, 81), 1));
}

/// More UUIDs than an entry can name.
#[test]
fn of_very_many_uuids_all_are_left_out_that_are_not_named() {
    let many: Vec<String> = (0..2_000)
        .map(|n| format!("{n:08x}-0000-0000-0000-00000000000f:1-9"))
        .collect();
    let many = gtid(&many.join(","));
    let mut observed = with(whole(), &many);
    let decision = settle(&mut observed, 60);
    let status = member_status(&decision, 0);
    let kept = gtid(&status.gtid_executed);
    assert!(kept.contains(&executed()) && status.gtid_executed.len() <= MOST && status.gtid_executed.len() > MOST / 2);
    assert_eq!(status.gtid_executed_omitted.len(), 100);
    assert_eq!(status.gtid_executed_omitted.last().unwrap(), "*");
    fence(&mut observed, 1);
    lose(&mut observed, 2);
    assert!(opens(&settle(&mut observed, 61), 1));

    // A member that has written nothing is in no set. It is not among those that are left out.
    let others = gtid(&format!("{}:1-10,{}:1-10", uuid(0), uuid(2))).union(&many);
    let mut observed = whole();
    for ordinal in 0..3 {
        server(&mut observed, ordinal).executed = others.clone();
    }
    for member in &mut observed.cluster.status.as_mut().unwrap().member_statuses {
        member.gtid_executed = String::new();
    }
    let decision = settle(&mut observed, 60);
    assert_eq!(member_status(&decision, 0).gtid_executed_omitted.last().unwrap(), "*");
    fence(&mut observed, 1);
    unreachable(&mut observed, 2);
    pod(&mut observed, 2).ready = false;
    let decision = settle(&mut observed, 61);
    assert!(opens(&decision, 1), "{:?} {}", decision.steps, message(&decision, 1));
    // What a writer's new life writes is recorded at a member that is fenced, too.
    let new_life = gtid("ffffffff-0000-0000-0000-00000000000e:1");
    let mut observed = whole();
    for ordinal in 0..3 {
        server(&mut observed, ordinal).executed = others.clone();
    }
    fence(&mut observed, 1);
    settle(&mut observed, 60);
    server(&mut observed, 0).uuid = "ffffffff-0000-0000-0000-00000000000e".into();
    server(&mut observed, 1).executed.add(&new_life);
    let decision = settle(&mut observed, 90);
    assert!(gtid(&member_status(&decision, 1).gtid_executed).contains(&new_life));
}
