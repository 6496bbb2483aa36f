//! What an agent says of its member, and what it can be asked to do: the contract between operator and agent.
//!
//! All calls go to [`crate::names::AGENT_PORT`] over TLS with the bearer token of the credentials Secret. Every call that
//! changes something names the server UUID it is meant for; the agent refuses (HTTP 409) when that is not its server's,
//! so that an order that was justified by an old observation cannot hit a new life.
//!
//! Both ends can be of different versions (`docs/ring.md`, "Versions side by side"): fields are only added, each with a default, and whoever
//! reads ignores those that it does not know.

use std::fmt;
use std::net::IpAddr;

use serde::de::value::StrDeserializer;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::status::FencedItself;
use crate::api::{IsolationPolicy, MultiMasterCluster};
use crate::mysql::gtid::GtidSet;

/// What operators and agents of this version can say and understand. 0: those of before there was a number.
pub const VERSION: u32 = 1;

/// `GET`, with [`Terms`] as query: answers a [`Report`].
pub const PATH_REPORT: &str = "/v1/report";
/// `POST` an [`Order`]: an initialised but empty member becomes a founder of the ring.
pub const PATH_FOUND: &str = "/v1/found";
/// `POST` a [`CloneOrder`]: an empty member is rebuilt from a donor. Answers 202 at once; the report tells how it goes on.
pub const PATH_CLONE: &str = "/v1/clone";
/// `POST` an [`Order`]: the member starts a new life (new server UUID and server_id) on its present data.
pub const PATH_NEW_LIFE: &str = "/v1/new-life";
/// `POST` an [`EmptyOrder`]: the member gives up its data and becomes empty, to be cloned. Answers 202 at once.
pub const PATH_EMPTY: &str = "/v1/empty";
/// `GET` with `?address=<IP address of a pod>`: asks the agent there at [`PATH_ANSWERS`]; answers a [`Look`].
pub const PATH_LOOK: &str = "/v1/look";
/// `GET` on the open port: 200 while the agent runs.
pub const PATH_LIVE: &str = "/livez";
/// `GET` on the open port: 200 when mysqld answered a query just now, fenced or not.
pub const PATH_ANSWERS: &str = "/answers";

/// `GET` with `?writer=<ordinal>`, from another agent: 200 if this agent was not told that somebody else is the writer, 409 if it was.
pub const PATH_CONFIRM: &str = "/v1/confirm";
/// `GET` on the open port: 200 when the member takes writes. An agent of an earlier version ignores the query, and means the same.
pub const PATH_WRITABLE: &str = "/readyz?writes=true";

/// What the operator says whenever it asks for the report: what the agent is to do when it is cut off, whom it may look for, and who is the
/// writer. They are a query because an agent of an earlier version ignores that.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// `spec.isolation.policy`. One that this agent does not know is `KeepWriting`, which is what it does without any.
    #[serde(deserialize_with = "policy")]
    pub policy: IsolationPolicy,
    /// `spec.isolation.afterSeconds`.
    pub after_seconds: u16,
    /// IP addresses of the other members' pods (the agent resolves no names).
    #[serde(deserialize_with = "addresses")]
    pub members: Vec<IpAddr>,
    /// The member is to serve reads although it takes no writes.
    #[serde(default)]
    pub reads: bool,
    /// Ordinal of the one writer; `None`: all members take writes.
    #[serde(default)]
    pub writer: Option<u8>,
    /// `spec.isolation.leaseSeconds`.
    #[serde(default)]
    pub lease_seconds: u16,
    /// [`Report::clock`] as this operator heard it last. The writer's lease counts from then: what an operator that stood still says late is
    /// worth nothing.
    #[serde(default)]
    pub clock: Option<u64>,
    /// IP addresses of the other members of the ring, who can confirm the writer where no operator does.
    #[serde(default, deserialize_with = "addresses")]
    pub ring: Vec<IpAddr>,
}

impl Terms {
    /// The terms for one member. `clock`: of its agent, as it was last heard; `others`: addresses of the other members that have one.
    pub fn of(cluster: &MultiMasterCluster, ordinal: u8, clock: Option<u64>, others: &[(u8, IpAddr)]) -> Self {
        let status = |ordinal: u8| {
            let statuses = &cluster.status.as_ref()?.member_statuses;
            statuses.get(usize::from(ordinal))
        };
        let in_ring = |ordinal: u8| status(ordinal).is_none_or(|status| !status.bypassed);
        Self {
            version: VERSION,
            policy: cluster.spec.isolation.policy,
            after_seconds: cluster.spec.isolation.after_seconds,
            members: others.iter().map(|(_, address)| *address).collect(),
            reads: cluster.has_single_writer() && status(ordinal).is_some_and(|status| status.reads),
            writer: cluster.writer(),
            lease_seconds: cluster.spec.isolation.lease_seconds,
            clock,
            ring: others
                .iter()
                .filter(|(other, _)| in_ring(*other))
                .map(|(_, address)| *address)
                .collect(),
        }
    }
}

/// The query, without its question mark. Nothing in it needs escaping.
impl fmt::Display for Terms {
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
        if let Some(clock) = self.clock {
            write!(f, "&clock={clock}")?;
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

/// What one agent saw of another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The member's mysqld answers, as far as can be seen from here.
    pub answered: bool,
}

/// Where the contents of a data directory came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Initialised by the agent and holding nothing: must be founded or cloned, never opened.
    Empty,
    /// Declared by the operator to be one of the members that the ring began with.
    Founded,
    /// A copy of another member.
    Cloned,
    /// A word of a newer agent: it may be opened, or not.
    #[serde(other)]
    Unknown,
}

/// What the agent is doing with mysqld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase")]
pub enum Phase {
    /// Creating the data directory.
    Initialising,
    /// mysqld was started and does not answer yet (crash recovery, for example).
    Starting,
    /// mysqld answers on its socket.
    Running,
    /// The data directory is being replaced by a copy of the donor.
    Cloning {
        /// Host name of the donor.
        donor: String,
    },
    /// mysqld ended and is about to be started again.
    Restarting {
        /// Exit code or signal, and the last lines of its error log.
        reason: String,
    },
    /// The agent is ending mysqld because the pod is to stop.
    Stopping {
        /// It takes no writes any more.
        #[serde(default)]
        fenced: bool,
    },
    /// A word of a newer agent: mysqld may answer, or not.
    #[serde(other)]
    Unknown,
}

/// What an agent knows of its member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`] of the agent.
    #[serde(default)]
    pub version: u32,
    /// Ordinal of the member.
    pub ordinal: u8,
    /// Where the data came from.
    pub origin: Origin,
    /// server_id of this life: low four bits are ordinal + 1, the rest is random.
    pub server_id: u32,
    /// Server UUID of this life; `None` until mysqld has made one.
    pub server_uuid: Option<String>,
    /// UUIDs of the earlier lives of this ordinal that this volume remembers, oldest first.
    pub former_server_uuids: Vec<String>,
    /// What mysqld is doing.
    pub phase: Phase,
    /// Why the last clone did not succeed; cleared when the next one starts.
    pub last_clone_error: Option<String>,
    /// Folders of the volume with data directories that were given up while they held transactions that nobody else had.
    #[serde(default)]
    pub kept: Vec<String>,
    /// The agent fenced its server, because it was cut off, and nobody has opened it since.
    #[serde(default)]
    pub fenced_itself: Option<FencedItself>,
    /// There is no room on the volume: mysqld waits for some in the middle of a write, with its locks held.
    #[serde(default)]
    pub volume_full: bool,
    /// Milliseconds since this agent began, when it answered.
    #[serde(default)]
    pub clock: u64,
    /// What it was told of the one writer.
    #[serde(default)]
    pub lease: Option<LeaseReport>,
}

impl Report {
    /// Nothing of it is a word of a newer agent.
    pub fn is_understood(&self) -> bool {
        self.origin != Origin::Unknown && self.phase != Phase::Unknown
    }
}

/// What an agent was told of the one writer, and has told others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// Ordinal of the writer.
    pub writer: u8,
    /// This member is the writer, and its lease runs.
    pub held: bool,
    /// For so many milliseconds it has not confirmed another member as the writer; absent: it never has.
    #[serde(default)]
    pub silent_milliseconds: Option<u64>,
}

/// An order for the server with this UUID and for no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// The server UUID that the operator saw when it decided.
    pub server_uuid: String,
}

/// Give up the data: it cannot follow the ring any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyOrder {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// The server UUID that the operator saw when it decided.
    pub server_uuid: String,
    /// What other members have executed. Does the member hold, or has it retrieved, anything beyond this, its files are kept on the volume.
    pub held_elsewhere: GtidSet,
}

/// Rebuild the empty member from this donor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloneOrder {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// The recipient's server UUID that the operator saw when it decided.
    pub server_uuid: String,
    /// IP address of the donor's pod (the agent resolves no names).
    pub donor_address: String,
}
