//! Carries out the steps of a decision. Steps about conflicts still choose how a transaction is taken, from the rows that they read.

pub mod apply;
pub mod certificates;
mod comparison;
mod conflicts;
mod current;
mod error;
pub mod events;
mod foreign;
pub mod pods;
pub mod sql;
mod volumes;

pub use error::{ActError, Outcome};

use std::sync::Arc;

use futures::future::join_all;
use kube::runtime::events::EventType;

use super::members::{Credentials, MemberClient};
use super::shared::Context;
use crate::api::MultiMasterCluster;
use crate::decide::observed::{Member, Observed};
use crate::decide::step::{Action, BalancerAction, ClusterAction, PodAction, Step};
use crate::mysql::io::connection::{PROBE_DEADLINE, STEP_DEADLINE, SqlError};
use crate::names::{self, LABEL_READS, LABEL_SERVING};
use crate::wire::agent::{
    CloneOrder, EmptyOrder, MarkOrder, Order, PATH_CLONE, PATH_EMPTY, PATH_FOUND, PATH_MARK, PATH_NEW_LIFE, VERSION,
};
use crate::wire::balancer;

use kube::ResourceExt;
use tokio::sync::OwnedMutexGuard;

/// Acts on one cluster.
pub struct Actor<'a> {
    /// What was observed.
    pub observed: &'a Observed,
    /// Shared clients.
    pub context: &'a Arc<Context>,
    /// Passwords; `None` until the Secrets exist.
    pub credentials: Option<&'a Credentials>,
}

impl Actor<'_> {
    /// Carries out one step and publishes its event.
    ///
    /// # Errors
    /// [`ActError`]; what was done before it stays done.
    pub async fn act(&self, step: &Step) -> Result<Outcome, ActError> {
        let outcome = self.carry_out(step).await?;
        if let (Outcome::Done, Some((reason, message))) = (outcome, events::event(self.observed, step)) {
            tracing::info!(cluster = %self.cluster().name_any(), namespace = self.cluster().namespace(), reason = reason.as_ref(), "{message}");
            let member = step.ordinal().map(|ordinal| self.name(ordinal));
            self.context
                .publish(self.cluster(), EventType::Normal, reason, message, member);
        }
        Ok(outcome)
    }

    fn cluster(&self) -> &MultiMasterCluster {
        &self.observed.cluster
    }

    async fn carry_out(&self, step: &Step) -> Result<Outcome, ActError> {
        let outcome = match step {
            Step::Cluster(action) => self.on_cluster(action).await?,
            Step::Balancer { pod, pod_uid, action } => self.on_balancer(pod, pod_uid, action).await?,
            Step::Pod {
                ordinal,
                pod_uid,
                action,
            } => self.on_pod(*ordinal, pod_uid, action).await?,
            Step::Member {
                ordinal,
                server_uuid,
                action,
                // Boxed: each action is a future of its own, and together they are large.
            } => Box::pin(self.on_member(*ordinal, server_uuid, action)).await?,
        };
        if outcome == Outcome::Done {
            self.context.metrics.step(step);
        }
        Ok(outcome)
    }

    async fn on_cluster(&self, action: &ClusterAction) -> Result<Outcome, ActError> {
        match action {
            ClusterAction::Apply => Ok(apply::begin(self.cluster(), self.context)),
            ClusterAction::Compare { requested } => self.compare(requested.clone()),
            ClusterAction::StopWrites => self.stop_writes().await,
            ClusterAction::Balance { pods, order } => {
                let answers = join_all(pods.iter().map(|pod| self.balance(pod, order))).await;
                answers.into_iter().collect::<Result<(), _>>()?;
                Ok(Outcome::Done)
            }
        }
    }

    async fn on_balancer(&self, pod: &str, pod_uid: &str, action: &BalancerAction) -> Result<Outcome, ActError> {
        match action {
            BalancerAction::Serve => self.label(pod, pod_uid, (LABEL_SERVING, true)).await?,
            BalancerAction::Withdraw { .. } => {
                // Passes and the keeper both do this, and caches may be old: the last one in the Service stays.
                if !pods::is_one_of_several(self.cluster(), pod, self.context).await? {
                    return Ok(Outcome::Nothing);
                }
                self.label(pod, pod_uid, (LABEL_SERVING, false)).await?;
            }
        }
        Ok(Outcome::Done)
    }

    async fn on_pod(&self, ordinal: u8, pod_uid: &str, action: &PodAction) -> Result<Outcome, ActError> {
        let label = match action {
            PodAction::Serve => (LABEL_SERVING, true),
            PodAction::Withdraw { .. } | PodAction::Restart { .. } => (LABEL_SERVING, false),
            PodAction::ServeReads => (LABEL_READS, true),
            PodAction::WithdrawReads { .. } => (LABEL_READS, false),
        };
        self.label(&self.name(ordinal), pod_uid, label).await?;
        if let PodAction::Restart { .. } = action {
            if let Some(server) = self.observed.member(ordinal).and_then(Member::server) {
                self.fence(ordinal, &server.uuid).await?;
            }
            pods::delete(self.cluster(), ordinal, pod_uid, self.context).await?;
        }
        Ok(Outcome::Done)
    }

    async fn on_member(&self, ordinal: u8, server_uuid: &str, action: &Action) -> Result<Outcome, ActError> {
        let channel = |upstream: &u8| names::channel(*upstream);
        match action {
            Action::Found => self.order(ordinal, PATH_FOUND, &order_for(server_uuid)).await?,
            Action::NewLife { .. } => self.order(ordinal, PATH_NEW_LIFE, &order_for(server_uuid)).await?,
            Action::Mark { mark, new_life } => {
                let order = MarkOrder {
                    version: VERSION,
                    server_uuid: server_uuid.into(),
                    mark: mark.clone(),
                    new_life: *new_life,
                };
                self.order(ordinal, PATH_MARK, &order).await?;
            }
            Action::Reclone { held_elsewhere } => {
                let order = EmptyOrder {
                    version: VERSION,
                    server_uuid: server_uuid.into(),
                    held_elsewhere: held_elsewhere.clone(),
                };
                self.order(ordinal, PATH_EMPTY, &order).await?;
            }
            Action::Clone { donor } => {
                let order = CloneOrder {
                    version: VERSION,
                    server_uuid: server_uuid.into(),
                    donor_address: self.address(*donor)?,
                    donor_uuid: self
                        .observed
                        .member(*donor)
                        .and_then(Member::server)
                        .map(|donor| donor.uuid.clone()),
                    donor_has_place: self.has_place_for_links(*donor),
                };
                self.order(ordinal, PATH_CLONE, &order).await?;
            }
            Action::Attach { upstream, start } => {
                let source = self.source(*upstream);
                let attach = async |client: &mut MemberClient| sql::attach(client, server_uuid, &source, start).await;
                self.sql(ordinal, attach).await?;
            }
            Action::Start { upstream } => {
                let start = async |client: &mut _| sql::start(client, server_uuid, &channel(upstream)).await;
                self.sql(ordinal, start).await?;
            }
            Action::Detach { upstream, .. } => {
                let detach = async |client: &mut _| sql::detach(client, server_uuid, &channel(upstream)).await;
                self.sql(ordinal, detach).await?;
            }
            Action::StartApplier { upstream } => {
                let start = async |client: &mut _| sql::start_applier(client, server_uuid, &channel(upstream)).await;
                self.sql(ordinal, start).await?;
            }
            Action::StopReceiver { upstream } => {
                let stop = async |client: &mut _| sql::stop_receiver(client, server_uuid, &channel(upstream)).await;
                self.sql(ordinal, stop).await?;
            }
            Action::Fence => self.fence(ordinal, server_uuid).await?,
            Action::Restore { setting } => {
                let restore = async |client: &mut _| sql::restore(client, server_uuid, *setting).await;
                self.sql(ordinal, restore).await?;
            }
            Action::Open => {
                // It may be open from now on, also where its answer does not arrive.
                let uid = self.cluster().uid().unwrap_or_default();
                self.context.remember(&uid, |memory| {
                    memory.fenced.remove(&ordinal);
                });
                let open = async |client: &mut _| sql::open(client, server_uuid).await;
                self.sql(ordinal, open).await?;
            }
            Action::Examine { upstream, gtid } => self.examine(ordinal, server_uuid, *upstream, gtid).await?,
            Action::Settle {
                upstream,
                gtid,
                remedy,
                winner,
            } => {
                self.settle((ordinal, server_uuid), *upstream, gtid, *remedy, *winner)
                    .await?;
            }
            Action::NoteTaken { gtid, winner } => self.note_taken(ordinal, server_uuid, gtid, *winner).await?,
            Action::NoteSettled { observer, gtid } => {
                self.note_settled((ordinal, server_uuid), (observer, gtid)).await?;
            }
            Action::CompareRows { conflicts, reassert } => {
                self.compare_rows(ordinal, server_uuid, conflicts, *reassert).await?;
            }
            Action::CreateDatabase => {
                let (Some(database), Some(credentials)) = (&self.cluster().spec.database, self.credentials) else {
                    return Ok(Outcome::Nothing);
                };
                let create =
                    async |client: &mut _| sql::create_database(client, server_uuid, database, credentials).await;
                self.sql(ordinal, create).await?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Puts a label on a pod, or takes it off.
    async fn label(&self, pod: &str, pod_uid: &str, label: (&str, bool)) -> Result<(), ActError> {
        Ok(pods::label(self.cluster(), pod, pod_uid, label, self.context).await?)
    }

    async fn fence(&self, ordinal: u8, server_uuid: &str) -> Result<(), ActError> {
        let fence = async |client: &mut _| sql::fence(client, server_uuid).await;
        self.sql(ordinal, fence).await
    }

    /// The upstream end of a link.
    fn source(&self, upstream: u8) -> sql::Source {
        let password = self
            .credentials
            .map(|credentials| credentials.get(names::keys::REPLICATION));
        let (port, user) = match self.has_place_for_links(upstream) {
            true => (names::MYSQL_ADMIN_PORT, names::accounts::LINK),
            false => (names::MYSQL_PORT, names::accounts::REPLICATION),
        };
        sql::Source {
            channel: names::channel(upstream),
            host: self.host(upstream),
            port,
            user,
            password: password.unwrap_or_default().to_owned(),
        }
    }

    fn has_place_for_links(&self, ordinal: u8) -> bool {
        let report = self.observed.member(ordinal).and_then(Member::report);
        report.is_some_and(|report| report.has_place_for_links)
    }

    fn address(&self, ordinal: u8) -> Result<String, ActError> {
        let pod = self.observed.member(ordinal).and_then(|member| member.pod.as_ref());
        pod.and_then(|pod| pod.ip.clone())
            .ok_or_else(|| ActError::Gone(self.name(ordinal)))
    }

    fn name(&self, ordinal: u8) -> String {
        names::member(&self.cluster().name_any(), ordinal)
    }

    fn host(&self, ordinal: u8) -> String {
        let namespace = self.cluster().namespace().unwrap_or_default();
        names::member_host(&self.cluster().name_any(), &namespace, ordinal)
    }

    /// Statements on a member's server, on the connection that this pass observed it with.
    async fn sql(
        &self,
        ordinal: u8,
        statements: impl AsyncFnOnce(&mut MemberClient) -> Result<(), SqlError>,
    ) -> Result<(), ActError> {
        let mut client = self.client(ordinal).await?;
        statements(&mut client).await.map_err(|source| {
            if source.leaves_doubt() {
                client.distrust();
            }
            ActError::Sql {
                member: self.name(ordinal),
                source,
            }
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

    /// The pod carries it out also where its answer is not waited for, and the next pass asks what it does.
    async fn balance(&self, pod: &str, order: &balancer::Order) -> Result<(), ActError> {
        let gone = || ActError::Gone(pod.to_owned());
        let found = self
            .observed
            .balancers
            .iter()
            .find(|balancer| balancer.name == pod)
            .ok_or_else(gone)?;
        let ip = found.pod.ip.as_ref().and_then(|ip| ip.parse().ok()).ok_or_else(gone)?;
        let namespace = self.cluster().namespace().unwrap_or_default();
        let host = names::service_host(&self.cluster().name_any(), &namespace);
        let credentials = self.credentials.ok_or_else(gone)?;
        let post = async {
            let agent = self
                .context
                .members
                .agent(&found.pod.uid, ip, host, credentials)
                .await?;
            agent.post(balancer::PATH_ORDER, order, PROBE_DEADLINE).await
        };
        post.await.map_err(|source| ActError::Agent {
            member: pod.to_owned(),
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
}

/// What every order names.
fn order_for(server_uuid: &str) -> Order {
    Order {
        version: VERSION,
        server_uuid: server_uuid.into(),
    }
}
