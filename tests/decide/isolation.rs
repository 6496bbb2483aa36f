//! A member that fenced itself, because it was cut off, is opened like any other that is found fenced.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use multimaster::api::reasons::EventReason;
use multimaster::api::status::{FencedItself, MemberState};
use multimaster::decide::Decision;
use multimaster::decide::observed::Observed;
use multimaster::decide::report::events::{Event, events};
use multimaster::decide::roles::Roles;
use multimaster::decide::step::{Action, PodAction, Step};

use crate::fixture::{at, fence, member_status, pod, report, server, settle, steps, unreachable, whole};
use crate::healing::{healed, run, thaw};

/// Member 1 was cut off from `cut_off` on, and is found fenced by its own agent.
fn fenced_itself(observed: &mut Observed, cut_off: i64) {
    fence(observed, 1);
    report(observed, 1).fenced_itself = Some(FencedItself {
        cut_off_since: Time(at(cut_off)),
        at: Time(at(cut_off + 10)),
    });
}

/// One pass, and what it tells of the fencing.
fn pass(observed: &mut Observed, seconds: i64) -> (Decision, Vec<Event>) {
    let before = observed.cluster.status.clone().unwrap();
    let decision = settle(observed, seconds);
    let mut published = events(&before, &decision.status, at(seconds));
    published.retain(|event| event.reason == EventReason::MemberFencedItself);
    (decision, published)
}

#[test]
fn in_the_ring_it_has_one_event_and_opened() {
    let mut observed = whole();
    fenced_itself(&mut observed, 50);
    let (decision, events) = pass(&mut observed, 60);
    assert_eq!(
        events.iter().map(|event| event.message.as_str()).collect::<Vec<_>>(),
        ["demo-1 fenced itself: cut off for 10 s"]
    );
    assert!(events[0].warning && events[0].member.as_deref() == Some("demo-1"));
    assert_eq!(member_status(&decision, 1).state, MemberState::Returning);
    assert!(
        matches!(
            steps(&decision)[..],
            [Step::Member {
                ordinal: 1,
                action: Action::Open,
                ..
            }]
        ),
        "{:?}",
        decision.steps
    );

    server(&mut observed, 1).super_read_only = false;
    let (decision, events) = pass(&mut observed, 61);
    assert!(events.is_empty(), "{events:?}");
    assert!(matches!(
        steps(&decision)[..],
        [Step::Pod {
            ordinal: 1,
            action: PodAction::Serve,
            ..
        }]
    ));
    report(&mut observed, 1).fenced_itself = None;
    pod(&mut observed, 1).serving = true;
    let (decision, events) = pass(&mut observed, 62);
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(member_status(&decision, 1).fenced_itself, None);
    assert_eq!(member_status(&decision, 1).state, MemberState::Serving);
}

#[test]
fn with_its_label_still_on_it_leaves_the_service_first() {
    let mut observed = whole();
    fenced_itself(&mut observed, 50);
    pod(&mut observed, 1).serving = true;
    let (decision, _) = pass(&mut observed, 60);
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
                    action: Action::Open,
                    ..
                }
            ]
        ),
        "{:?}",
        decision.steps
    );
}

#[test]
fn bypassed_it_joins_and_is_opened() {
    let mut observed = healed();
    thaw(&mut observed, 1, true);
    fenced_itself(&mut observed, 80);
    assert!(Roles::of(&observed).is_bypassed(1));
    let (_, events) = pass(&mut observed, 120);
    assert_eq!(events.len(), 1, "{events:?}");
    let done = run(&mut observed, 121);
    assert!(
        done.iter().any(|step| matches!(
            step,
            Step::Member {
                ordinal: 1,
                action: Action::Open,
                ..
            }
        )),
        "{done:?}"
    );
    assert!(
        !done.iter().any(|step| matches!(step.on_member(), Some(Action::Fence))),
        "{done:?}"
    );
    let (decision, _) = pass(&mut observed, 160);
    assert_eq!(decision.status.ring, "0→1→2→0");
    assert_eq!(member_status(&decision, 1).state, MemberState::Serving);
}

#[test]
fn what_its_agent_said_is_kept_while_it_does_not_answer() {
    let mut observed = whole();
    fenced_itself(&mut observed, 50);
    pass(&mut observed, 60);
    unreachable(&mut observed, 1);
    let (decision, events) = pass(&mut observed, 61);
    assert!(events.is_empty() && member_status(&decision, 1).fenced_itself.is_some());
}
