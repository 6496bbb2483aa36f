//! How full the volumes are: the steps in status, what becomes of figures that are missing, and the condition VolumesHaveRoom.

use multimaster::api::reasons::{EventReason, Reason};
use multimaster::api::status::{MultiMasterClusterStatus, VolumeStatus, conditions};
use multimaster::decide::observed::Observed;
use multimaster::decide::report::events::{Event, events};
use multimaster::decide::{Decision, decide};
use multimaster::wire::agent::{Report, VolumeUsage};

use crate::fixture::{at, condition, lose, member_status, report, settle, unreachable, whole};

const GI: u64 = 1 << 30;

/// This many of 100 Gi.
fn used(observed: &mut Observed, ordinal: u8, percent: u64) {
    report(observed, ordinal).volume_usage = Some(VolumeUsage {
        size_bytes: 100 * GI,
        used_bytes: percent * GI,
        available_bytes: (100 - percent) * GI,
        seconds_ago: 0,
    });
}

fn shown(decision: &Decision, ordinal: u8) -> Option<u8> {
    let volume = member_status(decision, ordinal).volume.as_ref();
    volume.map(|volume| volume.used_percent)
}

fn room(decision: &Decision) -> (&str, &str, &str) {
    let condition = condition(decision, conditions::VOLUMES_HAVE_ROOM);
    (&condition.status, &condition.reason, &condition.message)
}

#[test]
fn use_is_shown_in_steps_that_do_not_flap() {
    let mut observed = whole();
    let steps = [
        (0, 0),
        (4, 0),
        (5, 5),
        (4, 5),
        (83, 80),
        (84, 80),
        (85, 85),
        (84, 85),
        (89, 85),
        (80, 85),
        (79, 75),
        (80, 80),
        (100, 100),
        (95, 100),
        (94, 90),
        (3, 0),
    ];
    for (second, (percent, step)) in (1..).zip(steps) {
        used(&mut observed, 1, percent);
        let before = observed.cluster.status.clone();
        let decision = settle(&mut observed, second);
        assert_eq!(shown(&decision, 1), Some(step), "{percent}");
        let is_same = before.as_ref() == Some(&decision.status);
        let was_shown = before.and_then(|status| status.member_statuses[1].volume.clone());
        assert_eq!(
            is_same,
            was_shown.is_some_and(|was| was.used_percent == step),
            "{percent}"
        );
    }
    let volume = VolumeStatus {
        size_bytes: 100 << 30,
        used_percent: 0,
    };
    assert_eq!(observed.cluster.status.unwrap().member_statuses[1].volume, Some(volume));
}

#[test]
fn a_size_that_changes_with_each_write_is_not_written_each_time() {
    let mut observed = whole();
    let mut sized = |gi: u64| {
        used(&mut observed, 0, 10);
        report(&mut observed, 0).volume_usage.as_mut().unwrap().size_bytes = gi * GI;
        let decision = settle(&mut observed, 1);
        member_status(&decision, 0).volume.clone().unwrap().size_bytes >> 30
    };
    assert_eq!(
        [sized(1000), sized(1009), sized(991), sized(1011), sized(20)],
        [1000, 1000, 1000, 1011, 20]
    );
}

#[test]
fn figures_of_any_size_are_shown() {
    let mut observed = whole();
    report(&mut observed, 0).volume_usage = Some(VolumeUsage {
        size_bytes: u64::MAX,
        used_bytes: u64::MAX,
        available_bytes: u64::MAX,
        seconds_ago: 0,
    });
    // A file system that names no size.
    report(&mut observed, 1).volume_usage = Some(VolumeUsage::default());
    let decision = settle(&mut observed, 1);
    let volume = member_status(&decision, 0).volume.clone().unwrap();
    assert_eq!((volume.size_bytes, volume.used_percent), (i64::MAX, 50));
    assert_eq!(shown(&decision, 1), None);
}

#[test]
fn what_was_seen_stays_while_the_agent_does_not_answer() {
    let mut observed = whole();
    used(&mut observed, 1, 40);
    settle(&mut observed, 1);
    lose(&mut observed, 1);
    assert_eq!(shown(&settle(&mut observed, 10), 1), Some(40));
}

#[test]
fn an_agent_that_began_just_now_takes_no_figure_away_and_one_that_never_says_does() {
    let mut observed = whole();
    used(&mut observed, 1, 40);
    settle(&mut observed, 1);
    let agent = report(&mut observed, 1);
    (agent.volume_usage, agent.clock) = (None, 300);
    assert_eq!(shown(&settle(&mut observed, 2), 1), Some(40));
    report(&mut observed, 1).clock = 10_000;
    assert_eq!(shown(&settle(&mut observed, 12), 1), None);
}

#[test]
fn figures_that_are_too_old_are_not_shown() {
    let mut observed = whole();
    used(&mut observed, 1, 40);
    let mut aged = |seconds| {
        report(&mut observed, 1).volume_usage.as_mut().unwrap().seconds_ago = seconds;
        shown(&settle(&mut observed, 1), 1)
    };
    assert_eq!([aged(0), aged(60), aged(61)], [Some(40), Some(40), None]);
}

#[test]
fn an_agent_of_an_earlier_version_says_nothing_of_its_volume() {
    let mut said = serde_json::to_value(report(&mut whole(), 0).clone()).unwrap();
    assert_eq!(said.get("volumeUsage"), None);
    assert_eq!(
        serde_json::from_value::<Report>(said.clone()).unwrap().volume_usage,
        None
    );
    // One of a later version says more.
    said["volumeUsage"] = serde_json::json!({"sizeBytes": 9, "usedBytes": 4, "availableBytes": 5, "inodes": 7});
    let usage = serde_json::from_value::<Report>(said).unwrap().volume_usage.unwrap();
    assert_eq!(
        (usage.size_bytes, usage.used_percent(), usage.seconds_ago),
        (9, Some(45), 0)
    );

    let decision = settle(&mut whole(), 1);
    assert_eq!(
        (room(&decision).0, room(&decision).1),
        ("Unknown", Reason::VolumesNotMeasured.as_ref())
    );
    let status = serde_json::to_value(&decision.status).unwrap();
    assert_eq!(status["memberStatuses"][0].get("volume"), None);
}

#[test]
fn the_condition_is_false_from_85_per_cent_and_true_again_below_80() {
    let mut observed = whole();
    used(&mut observed, 0, 10);
    used(&mut observed, 1, 84);
    let decision = settle(&mut observed, 1);
    assert_eq!(
        room(&decision),
        (
            "True",
            Reason::RoomLeft.as_ref(),
            "no volume is 85 % full or more; nothing is known of demo-2"
        )
    );
    for (percent, status) in [(85, "False"), (81, "False"), (80, "False"), (79, "True"), (84, "True")] {
        used(&mut observed, 1, percent);
        let decision = settle(&mut observed, 2);
        assert_eq!(room(&decision).0, status, "{percent}");
        assert_eq!(condition(&decision, conditions::READY).status, "True", "{percent}");
        assert_eq!(condition(&decision, conditions::STALLED).status, "False", "{percent}");
    }
}

#[test]
fn the_message_names_the_fullest_first_and_the_way_out() {
    let mut observed = whole();
    used(&mut observed, 0, 87);
    used(&mut observed, 1, 20);
    used(&mut observed, 2, 97);
    let decision = settle(&mut observed, 1);
    assert_eq!(
        room(&decision),
        (
            "False",
            Reason::VolumeNearlyFull.as_ref(),
            "the volume of demo-2 is about 95 % full (size 100Gi), the volume of demo-0 is about 85 % full (size 100Gi). Raise spec.storage.size if the \
             StorageClass lets volumes grow; otherwise delete what nobody needs: rows, kept folders, or binary logs that every member has applied"
        )
    );
}

#[test]
fn nothing_is_known_where_no_member_answers() {
    let mut observed = whole();
    used(&mut observed, 0, 90);
    assert_eq!(room(&settle(&mut observed, 1)).0, "False");
    (0..3).for_each(|ordinal| unreachable(&mut observed, ordinal));
    let decision = decide(&observed, at(10));
    assert_eq!(
        (room(&decision).0, room(&decision).1),
        ("Unknown", Reason::NoMemberReachable.as_ref())
    );
    assert_eq!(shown(&decision, 0), Some(90));
}

#[test]
fn a_volume_that_is_nearly_full_has_one_event() {
    let mut observed = whole();
    let told = |before: &MultiMasterClusterStatus, after: &MultiMasterClusterStatus| -> Vec<Event> {
        let all = events(before, after, at(9)).into_iter();
        all.filter(|event| event.reason == EventReason::VolumeNearlyFull)
            .collect()
    };
    let mut filled = |second, percent| {
        used(&mut observed, 1, percent);
        settle(&mut observed, second).status
    };
    let (room, full, fuller) = (filled(1, 50), filled(2, 90), filled(3, 95));
    let event = &told(&room, &full)[..];
    assert!(
        matches!(event, [event] if event.warning && event.message.contains("demo-1 is about 90 % full")),
        "{event:?}"
    );
    assert_eq!(told(&full, &fuller), []);
    assert_eq!(told(&fuller, &room), []);
}
