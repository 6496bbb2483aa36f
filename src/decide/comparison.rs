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
/// The longest pause after comparisons that failed, in minutes.
const LONGEST_PAUSE: i64 = 60;

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

/// When a comparison that failed begins again: after 1 minute, 2, 4 and so on. `times`: how many in a row failed.
fn again(at: Timestamp, times: u32) -> Timestamp {
    let minutes = 1_i64 << times.saturating_sub(1).min(6);
    let pause = SignedDuration::from_mins(minutes.min(LONGEST_PAUSE));
    at.checked_add(pause).unwrap_or(Timestamp::MAX)
}

/// Whether a comparison may begin: none is under way or in line, and a pause is over. A new text of the annotation waits for no pause.
fn may_begin(observed: &Observed, now: Timestamp) -> bool {
    match &observed.comparison {
        ComparisonRun::Idle => true,
        ComparisonRun::Failed {
            at, times, requested, ..
        } => {
            let is_new = matches!(asked(observed), Ok(Some(text)) if requested.as_deref() != Some(text));
            is_new || again(*at, *times) <= now
        }
        ComparisonRun::Queued { .. }
        | ComparisonRun::Running
        | ComparisonRun::Unsettled
        | ComparisonRun::Finished(_) => false,
    }
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

/// Begin, or wait in line; or let writes be stopped.
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
    if observed.comparison == ComparisonRun::Unsettled {
        return Some(Step::Cluster(ClusterAction::StopWrites));
    }
    (may_begin(observed, now) && is_due(observed, now)).then(begin)
}

/// What a comparison that is due waits for, beside the members.
fn delay(observed: &Observed) -> Option<String> {
    match &observed.comparison {
        ComparisonRun::Queued { ahead } => Some(format!(
            "it waits for its turn: {ahead} other clusters are compared first"
        )),
        ComparisonRun::Failed { why, at, times, .. } => Some(format!(
            "{why}; attempt {times} failed, the next one begins at {:.0}",
            again(*at, *times)
        )),
        _ => None,
    }
}

/// The condition Converged. A difference that was found stays one until a comparison does not find it any more; that nothing differed is not
/// believed any longer than until the next comparison is due.
pub fn converged(view: &View, now: Timestamp) -> Judgement {
    let observed = view.observed;
    let last = last(observed);
    let waits = obstacle(view)
        .or_else(|| delay(observed))
        .filter(|_| is_due(observed, now))
        .map(|why| format!("a comparison is due, but {why}"));
    if let Some(diverged) = last.filter(|last| last.differing > 0) {
        let said = std::iter::once(verdict(diverged)).chain(waits);
        return Judgement::no(Reason::Diverged, said.collect::<Vec<_>>().join("; "));
    }
    if let Some(why) = waits {
        return Judgement::unknown(Reason::CannotCompare, why);
    }
    match (last, scheduled(observed)) {
        (Some(partial), _) if !partial.not_compared.is_empty() => {
            Judgement::unknown(Reason::CannotCompare, verdict(partial))
        }
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
    let left_out = match comparison.not_compared.join("; ") {
        none if none.is_empty() => none,
        some => format!("; not compared: {some}"),
    };
    if comparison.differing == 0 {
        return format!(
            "{} tables with {} rows, definitions and accounts were the same on all members at {at}{stopped}{left_out}",
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
         sql_log_bin=0, and change the annotation {ANNOTATION_COMPARE}{left_out}",
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
