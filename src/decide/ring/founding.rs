//! The beginning of a ring.

use crate::decide::observed::Observed;
use crate::decide::step::{Action, Step};

/// True once the ring may leave epoch 0: every member reported, and not one of them could still be founded.
pub fn is_founded(observed: &Observed) -> bool {
    let all_reported = observed
        .members
        .iter()
        .all(|member| member.with_data().is_some() || member.empty().is_some());
    all_reported && found(observed).is_none()
}

/// While every directory is empty, or founded and never written to, the empty ones become founders. A directory with a history means that
/// the resource was created again on old volumes: then empty ones must be cloned.
pub fn found(observed: &Observed) -> Option<Step> {
    let unwritten = observed.members.iter().all(|member| {
        member.empty().is_some() || member.with_data().is_some_and(|(server, _)| server.executed.is_empty())
    });
    if !unwritten {
        return None;
    }
    let (member, (server, _)) = observed
        .members
        .iter()
        .find_map(|member| Some((member, member.empty()?)))?;
    Some(Step::member(member.ordinal, &server.uuid, Action::Found))
}
