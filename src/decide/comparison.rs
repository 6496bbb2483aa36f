//! When members are compared, and what is said of it. `crate::operator::compare` does it.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::reasons::Reason;
use crate::api::status::{ComparisonStatus, Difference};
use crate::names::ANNOTATION_COMPARE;

use super::observed::{ComparisonRun, Observed};
use super::report::judgement::Judgement;
use super::step::{ClusterAction, Step};
use super::view::View;

/// Letters of the annotation: it is copied into status.
const MOST_LETTERS: usize = 64;
/// A comparison that failed is begun again after this.
const RETRY: SignedDuration = SignedDuration::from_secs(60);

/// The text of the annotation that asks for a comparison and was not answered yet.
///
/// # Errors
/// What is wrong with the annotation, and the way out.
pub fn asked(observed: &Observed) -> Result<Option<&str>, String> {
    let text = observed.cluster.annotations().get(ANNOTATION_COMPARE);
    let Some(text) = text.map(String::as_str).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    if text.chars().count() > MOST_LETTERS {
        return Err(format!(
            "annotation {ANNOTATION_COMPARE}: longer than {MOST_LETTERS} letters, so nothing is compared for it; write a date"
        ));
    }
    let answered = last(observed).and_then(|last| last.requested.as_deref());
    Ok(Some(text).filter(|text| answered != Some(text)))
}

/// The last comparison that came to an end.
pub fn last(observed: &Observed) -> Option<&ComparisonStatus> {
    match &observed.comparison {
        ComparisonRun::Finished(finished) => Some(finished),
        _ => observed.cluster.status.as_ref()?.comparison.as_ref(),
    }
}

/// When the next one is due by the schedule: a period after the last, or after the cluster was created, as a new one has nothing to compare.
fn scheduled(observed: &Observed) -> Option<Timestamp> {
    let period = observed.cluster.spec.comparison.period_hours;
    let created = observed.cluster.metadata.creation_timestamp.as_ref();
    let from = last(observed).and_then(|last| last.started_at.as_ref()).or(created)?;
    let due = from.0.checked_add(SignedDuration::from_hours(period.into())).ok()?;
    (period > 0).then_some(due)
}

fn is_due(observed: &Observed, now: Timestamp) -> bool {
    matches!(asked(observed), Ok(Some(_))) || scheduled(observed).is_some_and(|due| due <= now)
}

/// Why members cannot be compared now: that takes all of them, in a ring that replicates.
fn obstacle(view: &View) -> Option<String> {
    let observed = view.observed;
    if observed.cluster.spec.paused == Some(true) {
        return Some("spec.paused is true".into());
    }
    if observed.epoch() == 0 {
        return Some("the ring is being founded".into());
    }
    if observed.members.len() != usize::from(observed.cluster.spec.members) {
        return Some("a member leaves the ring".into());
    }
    let away: Vec<String> = observed
        .members
        .iter()
        .map(|member| (member.name(observed.name()), view.state(member.ordinal)))
        .filter(|(_, state)| !state.serves())
        .map(|(name, state)| format!("{name} is {state:?}"))
        .collect();
    if !away.is_empty() {
        return Some(away.join(", "));
    }
    (!view.findings.ring_is_closed).then(|| "a link of the ring does not replicate".into())
}

/// Begin, or let writes be stopped.
pub fn step(view: &View, now: Timestamp) -> Option<Step> {
    let observed = view.observed;
    if obstacle(view).is_some() {
        return None;
    }
    let begin = || {
        let text = observed.cluster.annotations().get(ANNOTATION_COMPARE);
        Step::Cluster(ClusterAction::Compare {
            requested: text.filter(|text| !text.is_empty() && asked(observed).is_ok()).cloned(),
        })
    };
    match &observed.comparison {
        ComparisonRun::Unsettled => Some(Step::Cluster(ClusterAction::StopWrites)),
        ComparisonRun::Idle => is_due(observed, now).then(begin),
        ComparisonRun::Failed { at, .. } if now.duration_since(*at) >= RETRY => is_due(observed, now).then(begin),
        ComparisonRun::Failed { .. }
        | ComparisonRun::Elsewhere
        | ComparisonRun::Running
        | ComparisonRun::Finished(_) => None,
    }
}

/// The condition Converged. A difference that was found stays one until a comparison does not find it any more; that nothing differed is not
/// believed any longer than until the next comparison is due.
pub fn converged(view: &View, now: Timestamp) -> Judgement {
    let observed = view.observed;
    let last = last(observed);
    if let Some(diverged) = last.filter(|last| last.differing > 0) {
        return Judgement::no(Reason::Diverged, verdict(diverged));
    }
    let failed = match &observed.comparison {
        ComparisonRun::Failed { why, .. } => Some(format!("{why}; it is tried again every minute")),
        _ => None,
    };
    if let Some(why) = obstacle(view).or(failed).filter(|_| is_due(observed, now)) {
        return Judgement::unknown(Reason::CannotCompare, format!("a comparison is due, but {why}"));
    }
    match (last, scheduled(observed)) {
        (Some(equal), _) => Judgement::yes(Reason::Equal, verdict(equal)),
        (None, Some(due)) => Judgement::unknown(
            Reason::NotCompared,
            format!("members are first compared at {due}; the annotation {ANNOTATION_COMPARE} asks for it at once"),
        ),
        (None, None) => Judgement::unknown(
            Reason::NotCompared,
            format!("members were not compared; the annotation {ANNOTATION_COMPARE} asks for it"),
        ),
    }
}

/// What a comparison found, and what to do about it.
pub fn verdict(comparison: &ComparisonStatus) -> String {
    let at = comparison
        .finished_at
        .as_ref()
        .map(|at| at.0.to_string())
        .unwrap_or_default();
    let stopped = match comparison.writes_stopped_milliseconds {
        0 => String::new(),
        milliseconds => format!("; writes were refused for {milliseconds} ms to see it"),
    };
    if comparison.differing == 0 {
        return format!(
            "{} tables with {} rows, definitions and accounts were the same on all members at {at}{stopped}",
            comparison.tables, comparison.rows
        );
    }
    let differences: Vec<String> = comparison.differences.iter().map(difference).collect();
    let listed = u32::try_from(differences.len()).unwrap_or(u32::MAX);
    let more = match comparison.differing.saturating_sub(listed) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "at {at} members that had executed the same differed in {}{more}{stopped}. Decide which member is right, correct the others with \
         sql_log_bin=0, and change the annotation {ANNOTATION_COMPARE}",
        differences.join("; ")
    )
}

fn difference(difference: &Difference) -> String {
    let what = match &difference.keys {
        Some(keys) => format!("rows of {} where {keys}", difference.object),
        None => format!("the definition of {}", difference.object),
    };
    format!("{what}: {}", difference.members)
}
