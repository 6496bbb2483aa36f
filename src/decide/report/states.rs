//! What each member is doing, in the words of `docs/ring.md`.

use crate::api::status::{MemberState, Retry};
use crate::mysql::gtid::GtidSet;
use crate::names::ANNOTATION_FENCE;

use crate::decide::findings::{Data, Finding, Findings};
use crate::decide::observed::{Member, SqlError};
use crate::decide::ring::behind;
use crate::decide::ring::health::{Health, NEWER_AGENT};
use crate::decide::ring::links::LinkNeed;
use crate::decide::ring::ownership;
use crate::decide::ring::rebuild::{donor, failed};
use crate::decide::ring::recorded;
use crate::decide::roles::Roles;
use crate::decide::serve::{drain, endpoints, opening};
use crate::decide::step::Action;

/// What a member is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// In a word.
    pub word: MemberState,
    /// Why, where the word alone does not say.
    pub message: Option<String>,
}

impl State {
    fn because(word: MemberState, message: impl Into<String>) -> Self {
        Self {
            word,
            message: Some(message.into()),
        }
    }
}

impl From<MemberState> for State {
    fn from(word: MemberState) -> Self {
        Self { word, message: None }
    }
}

/// State of a member, and why where the state alone does not say.
pub fn state(findings: &Findings, finding: &Finding) -> State {
    let member = finding.member;
    if let Some(outsider) = &member.outsider {
        return State::because(
            MemberState::Quarantined,
            ownership::why(findings.observed, member.ordinal, outsider),
        );
    }
    match &finding.health {
        Health::NoPod(why) => State::because(MemberState::Pending, why),
        Health::Starting(why) if member.is_cloning() => State::because(MemberState::Cloning, why),
        Health::Starting(why) => State::because(MemberState::Starting, why),
        Health::Suspect(_) | Health::Failed(_) if is_coming(findings, member) => {
            State::because(MemberState::Starting, "its agent does not answer yet")
        }
        Health::Suspect(why) => match findings.observed.recorded(member.ordinal) {
            // Its clients' time to finish goes on.
            Some(before) if drain::goes_on_draining(findings, member) => State {
                word: before.state,
                message: before.message.clone(),
            },
            _ => State::because(MemberState::Suspect, why),
        },
        Health::Failed(why) => State::because(MemberState::Failed, why),
        Health::Alive(why) => State::because(
            MemberState::Suspect,
            format!("alive, but does not answer as it should: {why}"),
        ),
        Health::Reached => reached(findings, finding),
    }
}

/// A new pod that has not answered yet: it has not failed.
fn is_coming(findings: &Findings, member: &Member) -> bool {
    let before = findings
        .observed
        .recorded(member.ordinal)
        .map(|status| status.state)
        .unwrap_or_default();
    !member.has_label() && matches!(before, MemberState::Pending | MemberState::Starting)
}

fn reached(findings: &Findings, finding: &Finding) -> State {
    let (roles, member) = (&findings.roles, finding.member);
    if roles.is_leaving(member.ordinal) {
        let why = format!(
            "spec.members is {}: it goes when its clients are gone and all it holds is on another member; its volume stays",
            findings.observed.cluster.spec.members
        );
        return State::because(MemberState::Leaving, why);
    }
    if member.is_cloning() {
        return MemberState::Cloning.into();
    }
    if member.empty().is_some() {
        return empty(findings, member);
    }
    let Some(server) = member.server() else {
        return MemberState::Suspect.into();
    };
    if !server.super_read_only {
        return open(findings, member);
    }
    match &finding.data {
        Some(data) => fenced(findings, data),
        None if member.is_of_a_newer_agent() => State::because(MemberState::Returning, NEWER_AGENT),
        None => State::because(MemberState::Returning, "its agent does not answer"),
    }
}

fn empty(findings: &Findings, member: &Member) -> State {
    let waits = || {
        donor(findings, member.ordinal)
            .err()
            .filter(|_| findings.observed.epoch() > 0)
    };
    State {
        word: MemberState::Empty,
        message: failed(findings.observed, member).or_else(waits),
    }
}

/// It takes writes.
fn open(findings: &Findings, member: &Member) -> State {
    let roles = &findings.roles;
    if roles.is_bypassed(member.ordinal) {
        let why = "it is back, and took writes while the others had closed the ring around it; it is fenced first";
        return State::because(MemberState::Returning, why);
    }
    if roles.is_reader(member.ordinal) {
        let why = "it takes writes, and another member is the writer; it is fenced first";
        return State::because(MemberState::Returning, why);
    }
    match member.conflict() {
        Some(error) => halted(error),
        None if member.has_label() => serving(roles, member, MemberState::Serving),
        None => draining(findings, member).unwrap_or(MemberState::Open.into()),
    }
}

/// It takes no writes, and holds data.
fn fenced(findings: &Findings, data: &Data) -> State {
    let (roles, ordinal, lineage) = (&findings.roles, data.ordinal(), &data.lineage);
    if let Ok(lost) = &lineage.lost
        && !lost.is_empty()
    {
        let why = format!(
            "its disk went back in time and lacks its own {}; it gets a new life",
            lost.brief()
        );
        return State::because(MemberState::Returning, why);
    }
    if roles.is_ordered_fenced(ordinal) {
        let why = format!("the annotation {ANNOTATION_FENCE} names it; it replicates and takes no writes");
        return State::because(MemberState::Fenced, why);
    }
    if roles.is_reader(ordinal) && !roles.is_bypassed(ordinal) {
        if let Some(error) = data.member.conflict() {
            return halted(error);
        }
        if data.is_linked() && lineage.has_caught_up {
            let reading = || serving(roles, data.member, MemberState::Reading);
            return draining(findings, data.member).unwrap_or_else(reading);
        }
    }
    if let Err(unreadable) = &lineage.lost {
        return State::because(MemberState::Returning, unreadable);
    }
    match &data.need {
        LinkNeed::Step(_) => MemberState::Returning.into(),
        LinkNeed::Purged(missing) => State::because(MemberState::Returning, purged(findings, data, missing)),
        LinkNeed::Nothing | LinkNeed::Patience | LinkNeed::Interrupted(_) | LinkNeed::Conflict => {
            if lineage.has_caught_up {
                return State {
                    word: MemberState::Returning,
                    message: waits_for(findings, data),
                };
            }
            let unreadable = lineage.catch_up_target.as_ref().err().cloned();
            let upstream = roles.ring.upstream(ordinal);
            let retry = upstream.and_then(|upstream| recorded::retry(findings.observed, ordinal, upstream));
            State {
                word: MemberState::CatchingUp,
                message: unreadable.or_else(|| retry.map(tries_again)),
            }
        }
    }
}

/// What a member that has caught up waits for before it comes back.
fn waits_for(findings: &Findings, data: &Data) -> Option<String> {
    let recorded = findings.observed.recorded(data.ordinal());
    let held_out = recorded.and_then(|status| status.held_out_until.as_ref());
    if let Some(until) = held_out {
        return Some(format!(
            "it was bypassed twice within five minutes and is held out until {}",
            until.0
        ));
    }
    if let Some(lacks) = data.downstream_lacks.as_ref().filter(|lacks| !lacks.is_empty()) {
        return Some(format!(
            "it has purged {}, which its downstream lacks and must get from elsewhere first",
            lacks.brief()
        ));
    }
    let is_writer = findings.roles.writer == Some(data.ordinal());
    is_writer.then(|| opening::may_open(findings, data).err()).flatten()
}

/// It does what it is there for. Clients may not reach it all the same.
fn serving(roles: &Roles, member: &Member, word: MemberState) -> State {
    let obstacle = endpoints::obstacle(roles, member);
    State {
        word,
        message: obstacle.map(|obstacle| obstacle.why),
    }
}

fn halted(error: &SqlError) -> State {
    State::because(MemberState::Halted, format!("error {}: {}", error.number, error.text))
}

fn draining(findings: &Findings, member: &Member) -> Option<State> {
    let why = || {
        format!(
            "it is to be restarted for a new image or configuration; its clients have {} s to finish",
            drain::DRAIN.as_secs()
        )
    };
    drain::is_draining(findings, member).then(|| State::because(MemberState::Draining, why()))
}

/// What is said of an applier that is started again.
pub fn tries_again(retry: &Retry) -> String {
    let transaction = match retry.transaction.as_str() {
        "" => "a transaction",
        gtid => gtid,
    };
    format!(
        "it cannot apply {transaction} yet; attempts since then: {}; {}",
        retry.attempts, retry.error
    )
}

/// What is said of a link whose upstream no longer has what its downstream needs.
pub fn purged(findings: &Findings, data: &Data, missing: &GtidSet) -> String {
    let observed = findings.observed;
    let upstream = findings.roles.ring.upstream(data.ordinal());
    let upstream = upstream.and_then(|upstream| observed.member(upstream));
    let upstream = upstream.map_or_else(String::new, |upstream| upstream.name(observed.name()));
    let way_out = match behind::way_out(findings, data, missing) {
        Ok(step) if matches!(step.on_member(), Some(Action::Reclone { .. })) => "it is rebuilt as a copy".into(),
        Ok(_) => "another member helps".into(),
        Err(waits) => waits,
    };
    format!(
        "{upstream} has purged the binary logs with {}, which {} needs; {way_out}",
        missing.brief(),
        data.member.name(observed.name())
    )
}
