//! The contract about the one writer's lease: what the operator tells each agent, and what agents ask each other (`docs/ring.md`, "One writer").

use std::fmt;
use std::net::IpAddr;

use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer};

use super::agent::VERSION;
use crate::api::status::{MemberState, MemberStatus};
use crate::api::{IsolationPolicy, MultiMasterCluster};

/// `GET` with [`Confirm`] as query, from another agent: 200 if this agent takes that member for the writer, else 409.
pub const PATH_CONFIRM: &str = "/v1/confirm";

/// What the operator sends with each request for the report: who the writer is and for how long, what the agent does when it is cut off, and
/// the addresses of the other members. It is a query, because an agent of an earlier version ignores a query.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRenewal {
    /// A random number of the operator's process; 0: one of an earlier version, which does not number its renewals.
    #[serde(default)]
    pub operator: u64,
    /// Grows with each renewal that this process sends. They may arrive in another order.
    #[serde(default)]
    pub number: u64,
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// `spec.isolation.policy`. A policy that this agent does not know is read as `KeepWriting`, which is what an agent does without a renewal.
    #[serde(deserialize_with = "policy")]
    pub policy: IsolationPolicy,
    /// `spec.isolation.afterSeconds`.
    pub after_seconds: u16,
    /// IP addresses of the other members' pods (the agent resolves no names).
    #[serde(deserialize_with = "addresses")]
    pub members: Vec<IpAddr>,
    /// Whether the member is to serve reads although it takes no writes.
    #[serde(default)]
    pub reads: bool,
    /// Ordinal of the one writer; `None`: all members take writes.
    #[serde(default)]
    pub writer: Option<u8>,
    /// `spec.isolation.leaseSeconds`.
    #[serde(default)]
    pub lease_seconds: u16,
    /// [`Report::clock`] of the last report that this operator got. The writer's lease counts from that value: a late request of an operator that
    /// was frozen renews nothing.
    #[serde(default)]
    pub clock: Option<u64>,
    /// IP addresses of the other members of the ring. An agent that knows no voters asks all of them.
    #[serde(default, deserialize_with = "addresses")]
    pub ring: Vec<IpAddr>,
    /// The members whose agents can confirm the writer while no operator does, for the writer. Empty for others, and from an operator of a version
    /// that does not name them.
    #[serde(default, deserialize_with = "voters")]
    pub voters: Vec<Voter>,
    /// Only voters count to which an operator has named the writer. Not in a cluster of two: there the other one is the only member that could be chosen,
    /// and it is told before its server opens.
    #[serde(default = "yes")]
    pub knowing: bool,
}

fn yes() -> bool {
    true
}

/// A member that can confirm the one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its ordinal.
    pub ordinal: u8,
    /// IP address of its pod; `None`: it is the writer itself, or has none.
    pub address: Option<IpAddr>,
}

impl LeaseRenewal {
    /// Whether the same process sent it before `other`.
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.operator != 0 && self.operator == other.operator && self.number < other.number
    }

    /// The renewal for one member. `clock`: of its agent's last report; `others`: ordinals and addresses of the other members that have an address.
    pub fn of(cluster: &MultiMasterCluster, ordinal: u8, clock: Option<u64>, others: &[(u8, IpAddr)]) -> Self {
        let status = |ordinal: u8| {
            let statuses = &cluster.status.as_ref()?.member_statuses;
            statuses.get(usize::from(ordinal))
        };
        let in_ring = |ordinal: u8| status(ordinal).is_none_or(|status| !status.bypassed);
        let address = |ordinal: u8| {
            others
                .iter()
                .find(|(other, _)| *other == ordinal)
                .map(|(_, address)| *address)
        };
        let is_writer = cluster.writer() == Some(ordinal);
        let voters = status(ordinal)
            .filter(|_| is_writer)
            .and_then(|status| status.voters.last());
        Self {
            operator: 0,
            number: 0,
            version: VERSION,
            policy: cluster.spec.isolation.policy,
            after_seconds: cluster.spec.isolation.after_seconds,
            members: others.iter().map(|(_, address)| *address).collect(),
            reads: cluster.has_single_writer() && status(ordinal).is_some_and(is_to_be_ready),
            writer: cluster.writer(),
            lease_seconds: cluster.spec.isolation.lease_seconds,
            clock,
            ring: others
                .iter()
                .filter(|(other, _)| in_ring(*other))
                .map(|(_, address)| *address)
                .collect(),
            voters: voters
                .into_iter()
                .flat_map(|voters| voters.ordinals())
                .map(|ordinal| Voter {
                    ordinal,
                    address: address(ordinal),
                })
                .collect(),
            knowing: cluster.ordinals().count() != 2,
        }
    }
}

/// A reader's pod stays Ready while the reader does its part, whether the label leads clients to it at this moment or not. A reader that is too far
/// behind for a while, or drains, is out of the Service by its label alone; it does not have to wait for a kubelet when it comes back.
fn is_to_be_ready(status: &MemberStatus) -> bool {
    status.reads || status.state.serves() || status.state == MemberState::Draining
}

/// Writes the query, without its question mark. Nothing in it needs escaping.
impl fmt::Display for LeaseRenewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[IpAddr]| {
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            addresses.join(",")
        };
        let (policy, after, reads) = (self.policy, self.after_seconds, self.reads);
        let members = list(&self.members);
        write!(
            f,
            "version={}&policy={policy:?}&afterSeconds={after}&members={members}&reads={reads}",
            self.version
        )?;
        if let Some(writer) = self.writer {
            let (lease, ring) = (self.lease_seconds, list(&self.ring));
            write!(f, "&writer={writer}&leaseSeconds={lease}&ring={ring}")?;
        }
        if !self.voters.is_empty() {
            let voters = self.voters.iter().map(|Voter { ordinal, address }| match address {
                Some(address) => format!("{ordinal}-{address}"),
                None => ordinal.to_string(),
            });
            write!(
                f,
                "&voters={}&knowing={}",
                voters.collect::<Vec<_>>().join(","),
                self.knowing
            )?;
        }
        if let Some(clock) = self.clock {
            write!(f, "&clock={clock}")?;
        }
        if self.operator != 0 {
            write!(f, "&operator={}&number={}", self.operator, self.number)?;
        }
        Ok(())
    }
}

fn policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IsolationPolicy, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = IsolationPolicy::deserialize(StrDeserializer::<serde::de::value::Error>::new(&text));
    Ok(known.unwrap_or_default())
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let addresses = text.split(',').filter(|address| !address.is_empty()).map(str::parse);
    addresses.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

fn voters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Voter>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let voter = |text: &str| {
        let (ordinal, address) = match text.split_once('-') {
            Some((ordinal, address)) => (ordinal, Some(address.parse().map_err(serde::de::Error::custom)?)),
            None => (text, None),
        };
        let ordinal = ordinal.parse().map_err(serde::de::Error::custom)?;
        Ok(Voter { ordinal, address })
    };
    text.split(',').filter(|voter| !voter.is_empty()).map(voter).collect()
}

/// Query of another agent: the member that it takes for the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Confirm {
    /// Ordinal of the writer.
    pub writer: u8,
    /// Ordinal of the voter that is asked, so that nobody else answers at an address that another pod has by now. `None`: the asking agent counts no
    /// voters.
    #[serde(default)]
    pub voter: Option<u8>,
    /// Only an agent that knows the writer from an operator is to say yes.
    #[serde(default)]
    pub knowing: bool,
}

impl Confirm {
    /// The address at an agent.
    pub fn path(self) -> String {
        let Self { writer, voter, knowing } = self;
        let voter = voter.map_or_else(String::new, |voter| format!("&voter={voter}&knowing={knowing}"));
        format!("{PATH_CONFIRM}?writer={writer}{voter}")
    }
}
