//! The changes of status that a person would want to be told: `kubectl describe` reads like a story.

use jiff::Timestamp;

use crate::api::status::{MemberState, MemberStatus, MultiMasterClusterStatus, conditions, reasons};

use crate::decide::comparison;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Warning rather than Normal.
    pub warning: bool,
    /// Reason, in CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub text: String,
    /// The member that it is about; its pod is the event's related object.
    pub member: Option<String>,
}

/// What happened between two statuses.
pub fn story(before: &MultiMasterClusterStatus, after: &MultiMasterClusterStatus, now: Timestamp) -> Vec<Note> {
    let ring = after.member_statuses.iter().filter_map(|member| {
        let earlier = earlier_of(before, member)?;
        let (warning, reason, text) = match (earlier.bypassed, member.bypassed) {
            (false, true) => (
                true,
                "MemberBypassed",
                format!(
                    "{} is {:?}: the ring is closed around it, epoch {}: {}",
                    member.name, member.state, after.epoch, after.ring
                ),
            ),
            (true, false) if member.bypassed_at.is_none() => (
                false,
                "MemberJoined",
                format!("{} has joined the ring, epoch {}", member.name, after.epoch),
            ),
            (true, false) => (
                false,
                "MemberReinserted",
                format!("{} is in the ring again, epoch {}", member.name, after.epoch),
            ),
            _ => return None,
        };
        Some(Note {
            warning,
            reason,
            text,
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
        let (warning, reason, text) = match member.state {
            MemberState::Failed => (true, "MemberFailed", format!("{} failed{why}", member.name)),
            MemberState::Suspect => (
                true,
                "MemberSuspect",
                format!("{} does not answer the operator{why}", member.name),
            ),
            MemberState::Halted => (true, "MemberHalted", format!("{} stopped applying{why}", member.name)),
            MemberState::Quarantined => (
                true,
                "MemberQuarantined",
                format!("{} may not be opened{why}", member.name),
            ),
            MemberState::Pending if earlier.state.serves() => {
                (true, "MemberLost", format!("{} has lost its pod{why}", member.name))
            }
            MemberState::Starting if earlier.state.serves() => {
                (true, "MemberLost", format!("{} went down{why}", member.name))
            }
            MemberState::CatchingUp => (
                false,
                "MemberCatchingUp",
                format!("{} is back, fenced, and applies what it missed", member.name),
            ),
            MemberState::Reading => (
                false,
                "MemberReading",
                format!(
                    "{} can serve reads; it was {:?} before{}",
                    member.name, earlier.state, for_seconds
                ),
            ),
            MemberState::Serving => (
                false,
                "MemberServing",
                format!(
                    "{} serves; it was {:?} before{}",
                    member.name, earlier.state, for_seconds
                ),
            ),
            _ => return None,
        };
        Some(Note {
            warning,
            reason,
            text,
            member: Some(member.name.clone()),
        })
    });
    let flips = [
        (conditions::RING_CLOSED, "True", false, "RingClosed"),
        (conditions::RING_CLOSED, "False", true, "RingOpen"),
        (conditions::READY, "True", false, "Ready"),
        (conditions::AVAILABLE, "False", true, "Unavailable"),
        (conditions::CONFLICT_FREE, "False", true, "ConflictFound"),
    ];
    let isolated = after.member_statuses.iter().filter_map(|member| {
        let fenced = member.fenced_itself.as_ref()?;
        let told = earlier_of(before, member).is_some_and(|earlier| earlier.fenced_itself.as_ref() == Some(fenced));
        (!told).then(|| Note {
            warning: true,
            reason: "MemberFencedItself",
            text: format!(
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
    let writer = writer.map(|writer| Note {
        warning: before.writer.is_some(),
        reason: "WriterChosen",
        text: format!("{} is to take the writes: {}", writer.name, writer.why),
        member: Some(writer.name.clone()),
    });
    let kept = after.member_statuses.iter().filter_map(|member| {
        let earlier = earlier_of(before, member);
        let new = |folder: &&String| earlier.is_none_or(|earlier| !earlier.kept.contains(folder));
        let folder = member.kept.iter().find(new)?;
        Some(Note {
            warning: true,
            reason: "FilesKept",
            text: format!(
                "{} gave up data that holds transactions which nobody else has; it is in the folder {folder} of its volume",
                member.name
            ),
            member: Some(member.name.clone()),
        })
    });
    let invalid = |status: &MultiMasterClusterStatus| {
        let mut conditions = status.conditions.iter();
        conditions
            .find(|condition| condition.reason == reasons::INVALID_ANNOTATION)
            .map(|condition| condition.message.clone())
    };
    let annotation = invalid(after).filter(|wrong| invalid(before).as_ref() != Some(wrong));
    let annotation = annotation.map(|text| Note {
        warning: true,
        reason: reasons::INVALID_ANNOTATION,
        text,
        member: None,
    });
    let ended = |status: &MultiMasterClusterStatus| status.comparison.as_ref().and_then(|it| it.finished_at.clone());
    let requested = |status: &MultiMasterClusterStatus| status.comparison.as_ref().and_then(|it| it.requested.clone());
    let compared = after.comparison.as_ref().filter(|_| ended(before) != ended(after));
    let compared = compared.and_then(|comparison| {
        let diverged = comparison.differing > 0;
        // One that was on schedule and found nothing is no news.
        (diverged || requested(before) != requested(after)).then(|| Note {
            warning: diverged,
            reason: if diverged { reasons::DIVERGED } else { "Compared" },
            text: comparison::verdict(comparison),
            member: None,
        })
    });
    let founded = (before.epoch == 0 && after.epoch > 0).then(|| Note {
        warning: false,
        reason: "RingFounded",
        text: format!("the ring was founded, epoch {}", after.epoch),
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
        (flipped && after.epoch > 0).then_some(Note {
            warning,
            reason,
            text: later.message,
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
