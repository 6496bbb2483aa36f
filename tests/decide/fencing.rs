//! The annotation `multimaster.dev/fence`.

use std::collections::BTreeMap;

use multimaster::api::reasons::Reason;
use multimaster::api::status::{MemberState, conditions};
use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Action, PodAction, Step};
use multimaster::names::ANNOTATION_FENCE;

use crate::fixture::{condition, fence, member_status, pod, server, settle, steps, whole};

fn annotated(text: &str) -> Observed {
    let mut observed = whole();
    observed.cluster.metadata.annotations = Some(BTreeMap::from([(ANNOTATION_FENCE.to_owned(), text.to_owned())]));
    observed
}

#[test]
fn who_is_named_leaves_the_service_is_fenced_and_stays_so() {
    let mut observed = annotated("demo-1");
    let decision = settle(&mut observed, 60);
    assert!(
        matches!(
            steps(&decision)[..],
            [
                Step::Pod {
                    ordinal: 1,
                    action: PodAction::Withdraw { .. },
                    ..
                },
                Step::Member {
                    ordinal: 1,
                    action: Action::Fence,
                    ..
                }
            ]
        ),
        "{:?}",
        decision.steps
    );
    fence(&mut observed, 1);
    let decision = settle(&mut observed, 61);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(member_status(&decision, 1).state, MemberState::Fenced);
    assert_eq!((decision.status.epoch, decision.status.ring.as_str()), (1, "0→1→2→0"));
    assert_eq!(condition(&decision, conditions::DEGRADED).status, "True");

    observed.cluster.metadata.annotations = None;
    let decision = settle(&mut observed, 62);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Member {
            ordinal: 1,
            action: Action::Open,
            ..
        }]
    ));
    server(&mut observed, 1).super_read_only = false;
    pod(&mut observed, 1).ready = true;
    let decision = settle(&mut observed, 63);
    assert!(matches!(
        steps(&decision)[..],
        [Step::Pod {
            ordinal: 1,
            action: PodAction::Serve,
            ..
        }]
    ));
}

#[test]
fn a_wrong_name_or_all_members_change_nothing_and_are_named() {
    for (text, word) in [
        ("demo-7", "\"demo-7\""),
        ("demo-1, other-0", "\"other-0\""),
        ("demo-0,demo-1,demo-2", "every member"),
    ] {
        let mut observed = annotated(text);
        let decision = settle(&mut observed, 60);
        assert!(steps(&decision).is_empty(), "{text}: {:?}", decision.steps);
        let progressing = condition(&decision, conditions::PROGRESSING);
        assert_eq!(progressing.reason, Reason::InvalidAnnotation.as_ref(), "{text}");
        assert!(progressing.message.contains(word), "{}", progressing.message);
        assert_eq!(condition(&decision, conditions::READY).status, "True");
    }
}

#[test]
fn who_is_fenced_stays_so_while_the_annotation_is_wrong() {
    let mut observed = annotated("demo-1");
    settle(&mut observed, 60);
    fence(&mut observed, 1);
    settle(&mut observed, 61);
    let wrong = BTreeMap::from([(ANNOTATION_FENCE.to_owned(), "demo-1,demo-7".to_owned())]);
    observed.cluster.metadata.annotations = Some(wrong);
    for seconds in 62..70 {
        let decision = settle(&mut observed, seconds);
        assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
        assert_eq!(member_status(&decision, 1).state, MemberState::Fenced);
    }
}
