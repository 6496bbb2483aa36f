//! Events: the changes of status that a person wants to know of. `kubectl describe` shows them.

use jiff::Timestamp;

use crate::api::reasons::{EventReason, Reason};
use crate::api::status::{MemberState, MemberStatus, MultiMasterClusterStatus, conditions};

use crate::decide::comparison;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Warning rather than Normal.
    pub warning: bool,
    /// Why, in a word.
    pub reason: EventReason,
    /// What happened, in a sentence.
    pub message: String,
    /// The member that it is about; its pod is the event's related object.
    pub member: Option<String>,
}

/// What happened between two statuses.
pub fn events(before: &MultiMasterClusterStatus, after: &MultiMasterClusterStatus, now: Timestamp) -> Vec<Event> {
    let ring = after.member_statuses.iter().filter_map(|member| {
        let earlier = earlier_of(before, member)?;
        let (warning, reason, message) = match (earlier.bypassed, member.bypassed) {
            (false, true) => (
                true,
                EventReason::MemberBypassed,
                format!(
                    "{} is {:?}: the ring is closed around it, epoch {}: {}",
                    member.name, member.state, after.epoch, after.ring
                ),
            ),
            (true, false) if member.bypassed_at.is_none() => (
                false,
                EventReason::MemberJoined,
                format!("{} has joined the ring, epoch {}", member.name, after.epoch),
            ),
            (true, false) => (
                false,
                EventReason::MemberReinserted,
                format!("{} is in the ring again, epoch {}", member.name, after.epoch),
            ),
            _ => return None,
        };
        Some(Event {
            warning,
            reason,
            message,
            member: Some(member.name.clone()),
        })
    });
    let members = after.member_statuses.iter().filter_map(|member| {
        let earlier = earlier_of(before, member)?;
        if earlier.state == member.state {
            return None;
        }
        let why = member
            .message
            .as_ref()
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        let since = earlier
            .since
            .as_ref()
            .map(|since| now.duration_since(since.0).as_secs());
        let for_seconds = since.map(|seconds| format!(" after {seconds} s")).unwrap_or_default();
        let (warning, reason, message) = match member.state {
            MemberState::Failed => (true, EventReason::MemberFailed, format!("{} failed{why}", member.name)),
            MemberState::Suspect => (
                true,
                EventReason::MemberSuspect,
                format!("{} does not answer the operator{why}", member.name),
            ),
            MemberState::Halted => (
                true,
                EventReason::MemberHalted,
                format!("{} stopped applying{why}", member.name),
            ),
            MemberState::Quarantined => (
                true,
                EventReason::MemberQuarantined,
                format!("{} may not be opened{why}", member.name),
            ),
            MemberState::Pending if earlier.state.serves() => (
                true,
                EventReason::MemberLost,
                format!("{} has lost its pod{why}", member.name),
            ),
            MemberState::Starting if earlier.state.serves() => {
                (true, EventReason::MemberLost, format!("{} went down{why}", member.name))
            }
            MemberState::CatchingUp => (
                false,
                EventReason::MemberCatchingUp,
                format!("{} is back, fenced, and applies what it missed", member.name),
            ),
            MemberState::Reading => (
                false,
                EventReason::MemberReading,
                format!(
                    "{} can serve reads; it was {:?} before{}",
                    member.name, earlier.state, for_seconds
                ),
            ),
            MemberState::Serving => (
                false,
                EventReason::MemberServing,
                format!(
                    "{} serves; it was {:?} before{}",
                    member.name, earlier.state, for_seconds
                ),
            ),
            _ => return None,
        };
        Some(Event {
            warning,
            reason,
            message,
            member: Some(member.name.clone()),
        })
    });
    let flips = [
        (conditions::RING_CLOSED, "True", false, EventReason::RingClosed),
        (conditions::RING_CLOSED, "False", true, EventReason::RingOpen),
        (conditions::READY, "True", false, EventReason::Ready),
        (conditions::AVAILABLE, "False", true, EventReason::Unavailable),
        (conditions::CONFLICT_FREE, "False", true, EventReason::ConflictFound),
        (
            conditions::VOLUMES_HAVE_ROOM,
            "False",
            true,
            EventReason::VolumeNearlyFull,
        ),
    ];
    let isolated = after.member_statuses.iter().filter_map(|member| {
        let fenced = member.fenced_itself.as_ref()?;
        let published =
            earlier_of(before, member).is_some_and(|earlier| earlier.fenced_itself.as_ref() == Some(fenced));
        (!published).then(|| Event {
            warning: true,
            reason: EventReason::MemberFencedItself,
            message: format!(
                "{} fenced itself: cut off for {} s",
                member.name,
                fenced.at.0.duration_since(fenced.cut_off_since.0).as_secs()
            ),
            member: Some(member.name.clone()),
        })
    });
    let writer = after.writer.as_ref().filter(|writer| {
        let earlier = before.writer.as_ref();
        earlier.is_none_or(|earlier| earlier.name != writer.name)
    });
    let writer = writer.map(|writer| Event {
        warning: before.writer.is_some(),
        reason: EventReason::WriterChosen,
        message: format!("{} is to take the writes: {}", writer.name, writer.why),
        member: Some(writer.name.clone()),
    });
    let kept = after.member_statuses.iter().filter_map(|member| {
        let earlier = earlier_of(before, member);
        let new = |folder: &&String| earlier.is_none_or(|earlier| !earlier.kept.contains(folder));
        let folder = member.kept.iter().find(new)?;
        Some(Event {
            warning: true,
            reason: EventReason::FilesKept,
            message: format!(
                "{} gave up data that holds transactions which no other member has; it is in the folder {folder} of its volume",
                member.name
            ),
            member: Some(member.name.clone()),
        })
    });
    let invalid = |status: &MultiMasterClusterStatus| {
        let mut conditions = status.conditions.iter();
        conditions
            .find(|condition| condition.reason == Reason::InvalidAnnotation.as_ref())
            .map(|condition| condition.message.clone())
    };
    let annotation = invalid(after).filter(|wrong| invalid(before).as_ref() != Some(wrong));
    let annotation = annotation.map(|message| Event {
        warning: true,
        reason: EventReason::InvalidAnnotation,
        message,
        member: None,
    });
    let ended = |status: &MultiMasterClusterStatus| status.comparison.as_ref().and_then(|it| it.finished_at.clone());
    let requested = |status: &MultiMasterClusterStatus| status.comparison.as_ref().and_then(|it| it.requested.clone());
    let compared = after.comparison.as_ref().filter(|_| ended(before) != ended(after));
    let compared = compared.and_then(|comparison| {
        let diverged = comparison.differing > 0;
        // One that was on schedule and found nothing is no news.
        (diverged || requested(before) != requested(after)).then(|| Event {
            warning: diverged,
            reason: if diverged {
                EventReason::Diverged
            } else {
                EventReason::Compared
            },
            message: comparison::verdict(comparison),
            member: None,
        })
    });
    let founded = (before.epoch == 0 && after.epoch > 0).then(|| Event {
        warning: false,
        reason: EventReason::RingFounded,
        message: format!("the ring was founded, epoch {}", after.epoch),
        member: None,
    });
    let conditions = flips.into_iter().filter_map(|(type_, status, warning, reason)| {
        let find = |status: &MultiMasterClusterStatus| {
            status
                .conditions
                .iter()
                .find(|condition| condition.type_ == type_)
                .cloned()
        };
        let (earlier, later) = (find(before), find(after)?);
        let flipped = later.status == status && earlier.is_some_and(|earlier| earlier.status != status);
        (flipped && after.epoch > 0).then_some(Event {
            warning,
            reason,
            message: later.message,
            member: None,
        })
    });
    founded
        .into_iter()
        .chain(isolated)
        .chain(writer)
        .chain(members)
        .chain(ring)
        .chain(conditions)
        .chain(annotation)
        .chain(kept)
        .chain(compared)
        .collect()
}

/// What was said of the same member before.
fn earlier_of<'a>(before: &'a MultiMasterClusterStatus, member: &MemberStatus) -> Option<&'a MemberStatus> {
    before
        .member_statuses
        .iter()
        .find(|earlier| earlier.name == member.name)
}
