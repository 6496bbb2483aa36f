//! Carries out the steps of a decision. Writes only; it never decides.

pub mod apply;
pub mod certificates;
pub mod pods;
pub mod sql;

use kube::runtime::events::EventType;

use crate::agent::report::{CloneOrder, EmptyOrder, Order, PATH_CLONE, PATH_EMPTY, PATH_FOUND, PATH_NEW_LIFE};
use crate::api::MultiMasterCluster;
use crate::context::Context;
use crate::decide::observed::{Member, Observed};
use crate::decide::step::Step;
use crate::kubernetes::KubernetesError;
use crate::members::{AgentError, Credentials, MemberClient};
use crate::mysql::connection::{STEP_DEADLINE, SqlError};
use crate::names;

use kube::ResourceExt;
use tokio::sync::OwnedMutexGuard;

/// Why a step was not carried out. The next pass looks again and decides anew.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] KubernetesError),
    /// A member's server.
    #[error("{member}: {source}")]
    Sql {
        /// Which member.
        member: String,
        /// What it said.
        source: SqlError,
    },
    /// A member's agent.
    #[error("the agent of {member}: {source}")]
    Agent {
        /// Which member.
        member: String,
        /// What it said.
        source: AgentError,
    },
    /// Certificates could not be made.
    #[error("making certificates: {0}")]
    Certificates(#[source] rcgen::Error),
    /// The operating system gave no random numbers for passwords.
    #[error("no random numbers for passwords: {0}")]
    Random(#[source] getrandom::Error),
    /// What the step needs went away since it was decided.
    #[error("{0} is not there any more")]
    Gone(String),
}

/// What a step changed for the next passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something was written.
    Done,
    /// Everything was as wanted already.
    Nothing,
}

/// Acts on one cluster.
pub struct Actor<'a> {
    /// What was observed.
    pub observed: &'a Observed,
    /// Shared clients.
    pub context: &'a Context,
    /// Passwords; `None` until the Secrets exist.
    pub credentials: Option<&'a Credentials>,
}

impl Actor<'_> {
    /// Carries out one step and tells people about it.
    ///
    /// # Errors
    /// [`ActError`]; what was done before it stays done.
    pub async fn act(&self, step: &Step) -> Result<Outcome, ActError> {
        let outcome = self.carry_out(step).await?;
        if let (Outcome::Done, Some((reason, text))) = (outcome, self.sentence(step)) {
            tracing::info!(cluster = %self.cluster().name_any(), namespace = self.cluster().namespace(), reason, "{text}");
            self.context
                .tell(
                    self.cluster(),
                    EventType::Normal,
                    reason,
                    text,
                    step.ordinal().map(|ordinal| self.name(ordinal)),
                )
                .await;
        }
        Ok(outcome)
    }

    fn cluster(&self) -> &MultiMasterCluster {
        &self.observed.cluster
    }

    async fn carry_out(&self, step: &Step) -> Result<Outcome, ActError> {
        match step {
            Step::Apply => return apply::apply(self.cluster(), self.context).await,
            Step::Serve { ordinal, pod_uid } => {
                pods::label(self.cluster(), *ordinal, pod_uid, true, self.context).await?
            }
            Step::Withdraw { ordinal, pod_uid, .. } => {
                pods::label(self.cluster(), *ordinal, pod_uid, false, self.context).await?
            }
            Step::Found { ordinal, server_uuid } => {
                self.order(
                    *ordinal,
                    PATH_FOUND,
                    &Order {
                        server_uuid: server_uuid.clone(),
                    },
                )
                .await?
            }
            Step::NewLife {
                ordinal, server_uuid, ..
            } => {
                self.order(
                    *ordinal,
                    PATH_NEW_LIFE,
                    &Order {
                        server_uuid: server_uuid.clone(),
                    },
                )
                .await?
            }
            Step::GiveUp {
                ordinal,
                server_uuid,
                held_elsewhere,
            } => {
                self.order(
                    *ordinal,
                    PATH_EMPTY,
                    &EmptyOrder {
                        server_uuid: server_uuid.clone(),
                        held_elsewhere: held_elsewhere.clone(),
                    },
                )
                .await?
            }
            Step::Clone {
                ordinal,
                server_uuid,
                donor,
            } => {
                let pod = self.observed.member(*donor).and_then(|member| member.pod.as_ref());
                let donor_address = pod
                    .and_then(|pod| pod.ip.clone())
                    .ok_or_else(|| ActError::Gone(self.name(*donor)))?;
                self.order(
                    *ordinal,
                    PATH_CLONE,
                    &CloneOrder {
                        server_uuid: server_uuid.clone(),
                        donor_address,
                    },
                )
                .await?;
            }
            Step::Attach {
                ordinal,
                server_uuid,
                upstream,
                start,
            } => {
                let source = sql::Source {
                    channel: names::channel(*upstream),
                    host: self.host(*upstream),
                    password: self
                        .credentials
                        .map(|credentials| credentials.get(names::keys::REPLICATION).to_owned())
                        .unwrap_or_default(),
                };
                let mut client = self.client(*ordinal).await?;
                self.sql(*ordinal, sql::attach(&mut client, server_uuid, &source, start).await)?;
            }
            Step::Start {
                ordinal,
                server_uuid,
                upstream,
            } => {
                let mut client = self.client(*ordinal).await?;
                self.sql(
                    *ordinal,
                    sql::start(&mut client, server_uuid, &names::channel(*upstream)).await,
                )?;
            }
            Step::Detach {
                ordinal,
                server_uuid,
                upstream,
                ..
            } => {
                let mut client = self.client(*ordinal).await?;
                self.sql(
                    *ordinal,
                    sql::detach(&mut client, server_uuid, &names::channel(*upstream)).await,
                )?;
            }
            Step::StopReceiver {
                ordinal,
                server_uuid,
                upstream,
            } => {
                let mut client = self.client(*ordinal).await?;
                self.sql(
                    *ordinal,
                    sql::stop_receiver(&mut client, server_uuid, &names::channel(*upstream)).await,
                )?;
            }
            Step::Fence { ordinal, server_uuid } => {
                let mut client = self.client(*ordinal).await?;
                self.sql(*ordinal, sql::fence(&mut client, server_uuid).await)?;
            }
            Step::Open { ordinal, server_uuid } => {
                let mut client = self.client(*ordinal).await?;
                self.sql(*ordinal, sql::open(&mut client, server_uuid).await)?;
            }
            Step::CreateDatabase { ordinal, server_uuid } => {
                let (Some(database), Some(credentials)) = (&self.cluster().spec.database, self.credentials) else {
                    return Ok(Outcome::Nothing);
                };
                let mut client = self.client(*ordinal).await?;
                self.sql(
                    *ordinal,
                    sql::create_database(&mut client, server_uuid, database, credentials).await,
                )?;
            }
            Step::Restart { ordinal, pod_uid, .. } => {
                pods::label(self.cluster(), *ordinal, pod_uid, false, self.context).await?;
                if let Some(server) = self.observed.member(*ordinal).and_then(Member::server) {
                    let mut client = self.client(*ordinal).await?;
                    self.sql(*ordinal, sql::fence(&mut client, &server.uuid).await)?;
                }
                pods::delete(self.cluster(), *ordinal, pod_uid, self.context).await?;
            }
        }
        self.context.metrics.step(step);
        Ok(Outcome::Done)
    }

    fn name(&self, ordinal: u8) -> String {
        names::member(&self.cluster().name_any(), ordinal)
    }

    fn host(&self, ordinal: u8) -> String {
        let namespace = self.cluster().namespace().unwrap_or_default();
        names::member_host(&self.cluster().name_any(), &namespace, ordinal)
    }

    fn sql<T>(&self, ordinal: u8, result: Result<T, SqlError>) -> Result<T, ActError> {
        result.map_err(|source| ActError::Sql {
            member: self.name(ordinal),
            source,
        })
    }

    async fn client(&self, ordinal: u8) -> Result<OwnedMutexGuard<MemberClient>, ActError> {
        let gone = || ActError::Gone(self.name(ordinal));
        let pod = self
            .observed
            .member(ordinal)
            .and_then(|member| member.pod.as_ref())
            .ok_or_else(gone)?;
        let ip = pod.ip.as_ref().and_then(|ip| ip.parse().ok()).ok_or_else(gone)?;
        let host = self.host(ordinal);
        let client = self
            .context
            .members
            .of(&pod.uid, ip, host, self.credentials.ok_or_else(gone)?)
            .await;
        client.map_err(|source| ActError::Agent {
            member: self.name(ordinal),
            source,
        })
    }

    async fn order<T: serde::Serialize + Sync>(&self, ordinal: u8, path: &str, order: &T) -> Result<(), ActError> {
        let client = self.client(ordinal).await?;
        let answer = client.agent().post(path, order, STEP_DEADLINE).await;
        answer.map_err(|source| ActError::Agent {
            member: self.name(ordinal),
            source,
        })
    }

    /// Reason and text of the event that a person would want to read.
    fn sentence(&self, step: &Step) -> Option<(&'static str, String)> {
        let name = |ordinal: &u8| self.name(*ordinal);
        Some(match step {
            Step::Apply => return None,
            Step::Serve { ordinal, .. } => ("Serving", format!("{} is in the Service", name(ordinal))),
            Step::Withdraw { ordinal, why, .. } => {
                ("Withdrawn", format!("{} is out of the Service: {why}", name(ordinal)))
            }
            Step::Found { ordinal, .. } => ("Founded", format!("{} is a founder of the ring", name(ordinal))),
            Step::Clone { ordinal, donor, .. } => (
                "Cloning",
                format!(
                    "{} has an empty volume and is rebuilt as a copy of {}",
                    name(ordinal),
                    name(donor)
                ),
            ),
            Step::NewLife { ordinal, lost, .. } => (
                "NewLife",
                format!(
                    "{} came back without its own {lost}; it gets a new server UUID, and they flow back",
                    name(ordinal)
                ),
            ),
            Step::GiveUp { ordinal, .. } => (
                "GivenUp",
                format!(
                    "{} needs what every other member has purged; it gives up its data and is rebuilt as a copy",
                    name(ordinal)
                ),
            ),
            Step::Attach {
                ordinal,
                upstream,
                start,
                ..
            } => (
                "LinkAttached",
                format!("{} replicates from {} {start}", name(ordinal), name(upstream)),
            ),
            Step::Start { ordinal, upstream, .. } => (
                "LinkStarted",
                format!(
                    "{} replicates from {} again, from where it stopped",
                    name(ordinal),
                    name(upstream)
                ),
            ),
            Step::Detach {
                ordinal, upstream, why, ..
            } => (
                "LinkDetached",
                format!("{} stopped replicating from {}: {why}", name(ordinal), name(upstream)),
            ),
            Step::StopReceiver { ordinal, upstream, .. } => (
                "ReceiverStopped",
                format!(
                    "{} has another upstream than {} now and applies what it still has from it",
                    name(ordinal),
                    name(upstream)
                ),
            ),
            Step::Fence { ordinal, .. } if self.observed.is_bypassed(*ordinal) => (
                "Fenced",
                format!(
                    "{} answers again and is fenced, because the ring is closed around it; what it took meanwhile is merged",
                    name(ordinal)
                ),
            ),
            Step::Fence { ordinal, .. } => {
                let leaves = self.observed.leaving().is_some_and(|member| member.ordinal == *ordinal);
                let why = if leaves {
                    "it leaves the ring"
                } else {
                    "an annotation says so"
                };
                ("Fenced", format!("{} is fenced, because {why}", name(ordinal)))
            }
            Step::Open { ordinal, .. } => ("Opened", format!("{} takes writes", name(ordinal))),
            Step::CreateDatabase { ordinal, .. } => (
                "DatabaseCreated",
                format!("the first database and its user were created at {}", name(ordinal)),
            ),
            Step::Restart { ordinal, why, .. } => ("Restarting", format!("{} is restarted: {why}", name(ordinal))),
        })
    }
}
