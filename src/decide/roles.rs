//! The part that each member has: in the ring or bypassed, the one writer or a reader, leaving, to be fenced. From status, spec and annotations.

use std::collections::BTreeSet;

use super::observed::{Channel, Member, Observed};
use super::ring::topology::Ring;
use super::serve::fencing;
use crate::api::status::MemberState;

/// The facts of a pass, and the part that each member has.
#[derive(Clone, Debug)]
pub struct Roles<'a> {
    /// The facts.
    pub observed: &'a Observed,
    /// The members that are in the ring, as status says.
    pub ring: Ring,
    /// The one member that takes writes, as status says; `None` where all do, or none was chosen yet.
    pub writer: Option<u8>,
    /// The member that is to leave next, because `spec.members` was lowered: the last one, unless it is the only one left.
    pub leaving: Option<&'a Member>,
    /// The members that a person wants fenced, or what is wrong with the annotation.
    pub ordered_fenced: Result<BTreeSet<u8>, String>,
}

impl<'a> Roles<'a> {
    /// Reads them from one observation.
    pub fn of(observed: &'a Observed) -> Self {
        let is_in_ring = |ordinal: &u8| !observed.recorded(*ordinal).is_some_and(|status| status.bypassed);
        let ring: Ring = observed
            .members
            .iter()
            .map(|member| member.ordinal)
            .filter(is_in_ring)
            .collect();
        let leaving = observed
            .members
            .last()
            .filter(|member| member.ordinal >= observed.cluster.spec.members)
            .filter(|member| ring.downstream(member.ordinal).is_some())
            .filter(|member| {
                let has_begun = || observed.was(member.ordinal, MemberState::Leaving) && !member.has_label();
                !observed.status_waits || has_begun()
            });
        Self {
            observed,
            ring,
            writer: observed.cluster.writer(),
            leaving,
            ordered_fenced: fencing::ordered(observed),
        }
    }

    /// The others have closed the ring around this member.
    pub fn is_bypassed(&self, ordinal: u8) -> bool {
        !self.ring.contains(ordinal)
    }

    /// It is the member that is to leave next.
    pub fn is_leaving(&self, ordinal: u8) -> bool {
        self.leaving.is_some_and(|leaving| leaving.ordinal == ordinal)
    }

    /// It may take writes: all members do, or it is the one that does.
    pub fn may_take_writes(&self, ordinal: u8) -> bool {
        !self.observed.cluster.has_single_writer() || self.writer == Some(ordinal)
    }

    /// Another member is the one that takes writes.
    pub fn is_reader(&self, ordinal: u8) -> bool {
        self.writer.is_some_and(|writer| writer != ordinal)
    }

    /// A person wants this member fenced. While the annotation is wrong, a member that is fenced stays so.
    pub fn is_ordered_fenced(&self, ordinal: u8) -> bool {
        match &self.ordered_fenced {
            Ok(ordered) => ordered.contains(&ordinal),
            Err(_) => fencing::was_fenced(self.observed, ordinal),
        }
    }

    /// It is in the ring, and it is neither to leave nor to be fenced.
    pub fn takes_part(&self, ordinal: u8) -> bool {
        !self.is_bypassed(ordinal) && !self.is_leaving(ordinal) && !self.is_ordered_fenced(ordinal)
    }

    /// The channel of the link into this member.
    pub fn link<'m>(&self, member: &'m Member) -> Option<&'m Channel> {
        member.link(self.ring.upstream(member.ordinal)?)
    }

    /// The other members of the ring.
    pub fn others_in_ring(&self, ordinal: u8) -> impl Iterator<Item = &'a Member> {
        let ring = self.ring;
        let others = self.observed.others(ordinal);
        others.filter(move |other| ring.contains(other.ordinal))
    }
}
