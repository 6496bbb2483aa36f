//! Does something stay undone until a person acts? As kstatus means `Stalled`, which Flux, Argo CD and others read.

use crate::api::reasons::Reason;
use crate::decide::observed::{Observed, Problem};
use crate::resources::validate;

use super::judgement::Judgement;

/// What waits for a person, and does not pass by itself. A conflict, a divergence or a member that waits is told elsewhere: meanwhile everything that
/// the spec says is carried out.
pub(super) fn stalled(observed: &Observed, data_lost: Option<Judgement>) -> Judgement {
    let waits = |problem: &&Problem| {
        matches!(
            problem.reason,
            Reason::InvalidSpec
                | Reason::CredentialsIncomplete
                | Reason::CopiedSecret
                | Reason::StorageClassMissing
                | Reason::ObjectNotOurs
        )
    };
    let blocks = observed.problems.iter().find(waits);
    let told = |problem: &Problem| Judgement::yes(problem.reason, problem.message.clone());
    let lost = || data_lost.map(|lost| Judgement::yes(lost.reason, lost.message));
    blocks
        .map(told)
        .or_else(lost)
        .or_else(|| observed.volumes.as_ref().map(told))
        .or_else(|| left_out(observed))
        .unwrap_or_else(|| Judgement::no(Reason::NotStalled, "nothing in the spec waits for a person"))
}

/// The ring goes on without these settings.
fn left_out(observed: &Observed) -> Option<Judgement> {
    let keys: Vec<&str> = validate::left_out(&observed.cluster).collect();
    let message = || {
        format!(
            "spec.mysql.config: the ring sets {} itself since this version of the operator, so they have no effect; remove them",
            keys.join(", ")
        )
    };
    (!keys.is_empty()).then(|| Judgement::yes(Reason::InvalidSpec, message()))
}
