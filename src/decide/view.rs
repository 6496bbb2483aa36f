//! One look at a cluster: the facts, what was found, and the state of each member. Computed for the ring and the writer of this pass; where there
//! is one writer also before, to choose it.

use super::conflicts::Sides;
use super::findings::Findings;
use super::observed::{Member, Observed};
use super::report::states::{State, state};
use super::roles::Roles;
use super::serve::restart;
use crate::api::status::MemberState;

/// Everything that a pass knows of a cluster.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The facts.
    pub observed: &'a Observed,
    /// What follows from them.
    pub findings: Findings<'a>,
    /// The conflicts that members have recorded.
    pub sides: Sides<'a>,
    /// The ring is closed and every member serves. For Ready, clients must reach the members, too.
    pub ring_is_whole: bool,
    /// The member whose turn it is to be restarted: no new client is to come to it, nor is it to be opened.
    pub next_restart: Option<u8>,
    states: Vec<State>,
}

impl<'a> View<'a> {
    /// Looks at one observation.
    pub fn of(observed: &'a Observed) -> Self {
        let findings = Findings::of(observed);
        let states: Vec<State> = findings
            .members()
            .iter()
            .map(|finding| state(&findings, finding))
            .collect();
        let mut desired = states.iter().take(observed.cluster.spec.members.into());
        let ring_is_whole = findings.ring_is_closed && desired.all(|state| state.word.serves());
        // What has begun goes on; nothing that status would have to say is begun.
        let has_begun = |ordinal: &u8| {
            let observed = findings.observed;
            let is_out = || {
                let has_clients =
                    |member: &Member| member.has_label() || member.pod.as_ref().is_some_and(|pod| pod.reads);
                observed.member(*ordinal).is_some_and(|member| !has_clients(member))
            };
            !observed.status_waits || observed.was(*ordinal, MemberState::Draining) && is_out()
        };
        let next_restart = restart::next(&findings, ring_is_whole).map(|member| member.ordinal);
        let next_restart = next_restart.filter(has_begun);
        Self {
            observed,
            findings,
            sides: Sides::of(observed),
            ring_is_whole,
            next_restart,
            states,
        }
    }

    /// The part that each member has.
    pub fn roles(&self) -> &Roles<'a> {
        &self.findings.roles
    }

    /// What a member is doing.
    pub fn state(&self, ordinal: u8) -> MemberState {
        self.states
            .get(usize::from(ordinal))
            .map(|state| state.word)
            .unwrap_or_default()
    }

    /// Why a member is in its state, where the state alone does not say.
    pub fn message(&self, ordinal: u8) -> Option<&str> {
        self.states.get(usize::from(ordinal))?.message.as_deref()
    }

    /// It is the member whose turn it is to be restarted.
    pub fn is_next_restart(&self, ordinal: u8) -> bool {
        self.next_restart == Some(ordinal)
    }
}
