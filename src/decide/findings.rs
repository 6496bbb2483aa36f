//! What follows from the facts for each member, and for its link. Judged for one ring and one writer: for those of the last pass while
//! [`super::ring::membership`] decides on the next ones, then once for those of this pass.

use super::observed::{Member, Observed, Server};
use super::ring::health::Health;
use super::ring::lineage::{self, Known, Lineage};
use super::ring::links::{self, LinkNeed};
use super::roles::Roles;
use super::serve::lag::lag;
use crate::mysql::gtid::GtidSet;

/// What was found of all members.
#[derive(Clone, Debug)]
pub struct Findings<'a> {
    /// The facts.
    pub observed: &'a Observed,
    /// The part that each member has.
    pub roles: Roles<'a>,
    /// Every link of the ring replicates.
    pub ring_is_closed: bool,
    members: Vec<Finding<'a>>,
}

/// What was found of one member.
#[derive(Clone, Debug)]
pub struct Finding<'a> {
    /// The facts.
    pub member: &'a Member,
    /// Whether it is there.
    pub health: Health,
    /// UUIDs of its earlier lives, oldest first.
    pub former_lives: Vec<String>,
    /// It holds nothing, or it takes no writes and another member of the ring has executed all that it has.
    pub is_drained: bool,
    /// The link into it brings what its upstream writes, or it has no upstream.
    pub link_replicates: bool,
    /// The applier of that link stopped for a reason that passes, and is started again.
    pub link_is_interrupted: bool,
    /// How far it is behind those that write, in seconds. `None`: it cannot be seen.
    pub lag: Option<i64>,
    /// What was found of its data, if its server and its agent answered and its directory holds some.
    pub data: Option<Data<'a>>,
}

/// What was found of the data of one member.
#[derive(Clone, Debug)]
pub struct Data<'a> {
    /// The facts of the member.
    pub member: &'a Member,
    /// The facts of its server.
    pub server: &'a Server,
    /// Whose data it is, and what it lacks.
    pub lineage: Lineage,
    /// What the link into it needs.
    pub need: LinkNeed,
    /// What it has purged and its downstream needs. `None`: the downstream cannot be asked.
    pub downstream_lacks: Option<GtidSet>,
}

impl<'a> Findings<'a> {
    /// Judges every member.
    pub fn of(observed: &'a Observed) -> Self {
        let roles = Roles::of(observed);
        let known = Known::of(observed);
        let members = observed.members.iter();
        let members: Vec<Finding> = members.map(|member| find(&roles, &known, member)).collect();
        let ring_is_closed = members
            .iter()
            .all(|finding| roles.is_bypassed(finding.member.ordinal) || finding.link_replicates);
        Self {
            observed,
            roles,
            ring_is_closed,
            members,
        }
    }

    /// Those of all members, by ordinal.
    pub fn members(&self) -> &[Finding<'a>] {
        &self.members
    }

    /// Those of the member with this ordinal.
    pub fn member(&self, ordinal: u8) -> Option<&Finding<'a>> {
        self.members.get(usize::from(ordinal))
    }

    /// Members that hold data.
    pub fn with_data(&self) -> impl Iterator<Item = &Data<'a>> {
        self.members.iter().filter_map(|finding| finding.data.as_ref())
    }

    /// The other members of the ring that hold data.
    pub fn others_with_data_in_ring(&self, ordinal: u8) -> impl Iterator<Item = &Data<'a>> {
        let in_ring = move |data: &&Data| data.ordinal() != ordinal && self.roles.ring.contains(data.ordinal());
        self.with_data().filter(in_ring)
    }
}

impl Data<'_> {
    /// Ordinal of the member.
    pub fn ordinal(&self) -> u8 {
        self.member.ordinal
    }

    /// Its link needs nothing, or only patience: it does not stand at a conflict.
    pub fn is_linked(&self) -> bool {
        matches!(
            self.need,
            LinkNeed::Nothing | LinkNeed::Patience | LinkNeed::Interrupted(_)
        )
    }
}

fn find<'a>(roles: &Roles<'a>, known: &Known, member: &'a Member) -> Finding<'a> {
    let former_lives = lineage::former_lives(roles.observed, member);
    let data = member.with_data().map(|(server, _)| Data {
        member,
        server,
        lineage: Lineage::of(roles, known, member, server, &former_lives),
        need: links::need(roles, member.ordinal, server),
        downstream_lacks: lineage::downstream_lacks(roles, member, server),
    });
    Finding {
        member,
        health: Health::of(member, roles),
        former_lives,
        is_drained: lineage::is_drained(roles, member),
        link_replicates: links::link_replicates(roles, member.ordinal),
        link_is_interrupted: links::link_is_interrupted(roles, member.ordinal),
        lag: lag(roles, member.ordinal),
        data,
    }
}
