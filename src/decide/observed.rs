//! Facts: what was seen in one pass, and the resource with the status that the last pass wrote. Filled by `observe`. What follows from them is in
//! [`super::roles`], [`super::findings`] and [`super::view`].

mod server;

use jiff::{SignedDuration, Timestamp};

use crate::api::MultiMasterCluster;
use crate::api::reasons::Reason;
use crate::api::status::{ComparisonStatus, MemberState, MemberStatus};
use crate::names;
use crate::wire::agent::{Mark, Origin, Phase, Report};

pub use server::{Channel, Receiver, Server, SqlError};

/// Everything that one pass saw of one cluster.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The resource, with the status that the last pass wrote.
    pub cluster: MultiMasterCluster,
    /// Revision of the pod template that members should have; `None` while the StatefulSet's controller has not caught up.
    pub update_revision: Option<String>,
    /// What keeps the cluster from being carried out, found while reading or applying its objects.
    pub problems: Vec<Problem>,
    /// What keeps the volumes from having the size of the spec. Everything else goes on.
    pub volumes: Option<Problem>,
    /// The members, by ordinal: those that are desired, and those that have not left yet.
    pub members: Vec<Member>,
    /// HAProxy's pods, by name.
    pub balancers: Vec<Balancer>,
    /// Why Kubernetes cannot make the HAProxy pods that are wanting.
    pub balancer_refusal: Option<String>,
    /// How far the comparison of the members is.
    pub comparison: ComparisonRun,
    /// Steps about conflicts wait, because the last ones did not end.
    pub conflicts_wait: bool,
    /// The API server did not take the status of the last pass. The ring is healed as it is recorded: nobody is bypassed or taken back, the writer stays,
    /// and nothing is begun that only goes on by what status says.
    pub status_waits: bool,
    /// This operator's own timers ran late while it looked: it had no processor. That a member has not answered in time proves nothing then.
    pub looked_late: bool,
}

/// How far the comparison of the members of one cluster is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ComparisonRun {
    /// None is under way.
    #[default]
    Idle,
    /// It waits in line: the operator compares the members of a few clusters at a time.
    Queued {
        /// Clusters that are compared first, those under way included.
        ahead: usize,
    },
    /// It is under way.
    Running,
    /// Something differed at every attempt; what it is at equal GTID sets can only be seen while no client writes.
    Unsettled,
    /// It came to an end, which is not in status yet.
    Finished(ComparisonStatus),
    /// It did not come to an end.
    Failed {
        /// Why.
        why: String,
        /// When.
        at: Timestamp,
        /// How many in a row did not, this one included.
        times: u32,
        /// The text of the annotation that it was for.
        requested: Option<String>,
    },
}

/// Something that a person has to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Reason of the Ready condition.
    pub reason: Reason,
    /// Names the field or object, and the way out.
    pub message: String,
}

/// Outcome of asking a server or an agent something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe<T> {
    /// It answered.
    Reached(T),
    /// It refused (authentication, too many connections): it is alive, and nothing else is known.
    Alive(String),
    /// No answer within the deadline, or no connection.
    Unreachable(String),
    /// There is no address to ask.
    NoAddress,
}

impl<T> Probe<T> {
    /// The answer, if there was one.
    pub fn reached(&self) -> Option<&T> {
        match self {
            Self::Reached(answer) => Some(answer),
            _ => None,
        }
    }
}

/// One member as seen in one pass.
#[derive(Clone, Debug)]
pub struct Member {
    /// Ordinal of the member.
    pub ordinal: u8,
    /// Its pod, if there is one.
    pub pod: Option<Pod>,
    /// Why Kubernetes cannot make its pod, which it lacks.
    pub pod_refusal: Option<String>,
    /// `metadata.uid` of the claim of its volume, if that was read.
    pub claim: Option<String>,
    /// Its data is not this ring's, so nothing that its server and its agent say counts; see [`ownership::apart`](super::ring::ownership::apart).
    pub outsider: Option<Outsider>,
    /// What its agent said.
    pub agent: Probe<Report>,
    /// What its server said.
    pub server: Probe<Server>,
    /// What agents saw that were asked to look at it, because the operator does not reach it.
    pub witness_probes: Vec<WitnessProbe>,
    /// For how long its agent has not answered this operator; since this operator first looked, if it never has.
    pub since_contact: SignedDuration,
    /// For how long its agent cannot have confirmed another member than the one that status names as the writer;
    /// see [`voters`](super::serve::voters).
    pub since_confirmed: SignedDuration,
    /// It took no writes when this operator last saw it, and this operator has not opened it since: only operators do.
    pub last_seen_fenced: bool,
}

/// Whose the data of a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This ring's, or that of an agent which knows of no marks.
    Ours,
    /// This ring's, and this mark is to say so.
    ToMark(Mark),
    /// A copy that becomes this ring's, with this mark and a new life: a person says so, or it can harm nobody.
    ToAdopt(Mark),
    /// A copy.
    Copy {
        /// Whose copy it is, for people.
        of: String,
        /// What the annotation names to have it adopted.
        uid: String,
    },
    /// It has no mark that says so, and a history that this cluster has never seen.
    Stranger,
    /// The operator has not read yet which claim it is.
    Unknown,
}

/// What is known of a member that has the data of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outsider {
    /// Whose it is, and what becomes of it.
    pub ownership: Ownership,
    /// `server_uuid`, which the original may have, too.
    pub server_uuid: String,
    /// It takes writes.
    pub is_open: bool,
}

/// One HAProxy pod as seen in one pass.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// Name of the pod.
    pub name: String,
    /// What Kubernetes says of it.
    pub pod: Pod,
    /// What its agent said.
    pub report: Probe<crate::wire::balancer::Report>,
}

/// An agent asked a member's agent whether its mysqld answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessProbe {
    /// Ordinal of the member whose agent looked.
    pub by: u8,
    /// It got an answer.
    pub answered: bool,
}

/// What Kubernetes says of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: String,
    /// `status.podIP`.
    pub ip: Option<String>,
    /// It has a node.
    pub scheduled: bool,
    /// Condition Ready. A Service leads no client to a pod that is not Ready.
    pub ready: bool,
    /// What keeps it from being Ready, as Kubernetes says: containers, readiness gates, its node. At most 600 bytes.
    pub hindrance: Option<String>,
    /// A container beside the main one that had failed, and was started again within the last five minutes. One without a readiness probe is ready in
    /// between.
    pub restarted: Option<String>,
    /// Its main container runs.
    pub running: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// It has the serving label.
    pub serving: bool,
    /// It has the label for reads.
    pub reads: bool,
    /// `controller-revision-hash`.
    pub revision: Option<String>,
    /// Why its main container does not run, where Kubernetes or the agent's last words say so.
    pub problem: Option<Problem>,
    /// What process 1 said when the main container last failed.
    pub last_words: Option<String>,
}

impl Member {
    /// Name of member and pod.
    pub fn name(&self, cluster: &str) -> String {
        names::member(cluster, self.ordinal)
    }

    /// The server's answer, if it answered. What its agent reported is not looked at: see [`Member::with_data`].
    pub fn server(&self) -> Option<&Server> {
        self.server.reached()
    }

    /// The agent's report, if it answered.
    pub fn report(&self) -> Option<&Report> {
        self.agent.reached()
    }

    /// Both answered, about the same life, and the directory holds a member's data: what decisions about a ring may be based on.
    pub fn with_data(&self) -> Option<(&Server, &Report)> {
        let (server, report) = (self.server()?, self.report()?);
        let same_life = report.server_uuid.as_deref() == Some(server.uuid.as_str());
        let holds_data = matches!(report.origin, Origin::Founded | Origin::Cloned);
        (same_life && holds_data && report.phase == Phase::Running).then_some((server, report))
    }

    /// Its agent is newer, and says what this version does not know: nothing that could lose something is done to it.
    pub fn is_of_a_newer_agent(&self) -> bool {
        self.report().is_some_and(|report| !report.is_understood())
    }

    /// Both answered, and the directory holds nothing.
    pub fn empty(&self) -> Option<(&Server, &Report)> {
        let (server, report) = (self.server()?, self.report()?);
        let same_life = report.server_uuid.as_deref() == Some(server.uuid.as_str());
        (same_life && report.origin == Origin::Empty && report.phase == Phase::Running).then_some((server, report))
    }

    /// The channel of the link from this upstream.
    pub fn link(&self, upstream: u8) -> Option<&Channel> {
        self.server()?.channel_from(upstream)
    }

    /// Its agent replaces its data directory by a copy.
    pub fn is_cloning(&self) -> bool {
        self.report()
            .is_some_and(|report| matches!(report.phase, Phase::Cloning { .. }))
    }

    /// The error at which an applier of this member stands.
    pub fn conflict(&self) -> Option<&SqlError> {
        self.server()?.channels.iter().find_map(Channel::conflict)
    }

    /// It has the serving label.
    pub fn has_label(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.serving)
    }
}

impl Observed {
    /// Status says that the member was in this state.
    pub fn was(&self, ordinal: u8, state: MemberState) -> bool {
        self.recorded(ordinal).is_some_and(|before| before.state == state)
    }

    /// Name of the cluster.
    pub fn name(&self) -> &str {
        self.cluster.metadata.name.as_deref().unwrap_or_default()
    }

    /// Namespace of the cluster.
    pub fn namespace(&self) -> &str {
        self.cluster.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Whether a channel is a link to a member of another cluster.
    pub fn leads_away(&self, channel: &Channel) -> bool {
        names::leads_to_another_cluster(&channel.name, &channel.source_host, self.name(), self.namespace())
    }

    /// What status says of this ordinal.
    pub fn recorded(&self, ordinal: u8) -> Option<&MemberStatus> {
        self.cluster.status.as_ref()?.member_statuses.get(usize::from(ordinal))
    }

    /// Whether every member is seen to have the table `multimaster.conflict_rows`. An applier would stop at a row for a table that is not there.
    pub fn has_image_tables(&self) -> bool {
        let has_table = |member: &Member| member.server().is_some_and(|server| server.has_image_table);
        self.members.iter().all(has_table)
    }

    /// The member with this ordinal.
    pub fn member(&self, ordinal: u8) -> Option<&Member> {
        self.members.get(usize::from(ordinal))
    }

    /// All members but this one.
    pub fn others(&self, ordinal: u8) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.ordinal != ordinal)
    }

    /// The epoch in status.
    pub fn epoch(&self) -> i64 {
        self.cluster.status.as_ref().map_or(0, |status| status.epoch)
    }
}
