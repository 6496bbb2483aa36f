//! Leader election: one of the operator's replicas leads, by a Lease of Kubernetes. [`election`] has the rules; this file asks the API server.

pub mod election;

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::names;
use election::{Act, Election, Lost, REQUEST_DEADLINE};

/// How long an API server that does not answer is asked for the lease at the start. With each end of this process the kubelet waits longer before it
/// starts it again, minutes in the end, and nobody would heal anything meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the process has to end by itself once it may not lead any more. A lookup of a name that hangs, for example, holds it up.
const END: Duration = Duration::from_millis(500);

type Reply = oneshot::Sender<anyhow::Result<()>>;

/// What this replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The API server has not answered about the lease yet. Why, if it is known.
    Asking(Option<String>),
    /// Another replica leads, or none.
    StandsBy,
    Leads,
    /// It led, or it cannot take part. Why.
    Ended(String),
}

/// This replica's part in the election.
///
/// The election has a thread, a runtime and a client of its own. Passes can keep all worker threads of the operator busy, on a machine with too much
/// work for example. The lease is renewed nevertheless, and a leader that may not lead any more notices.
pub struct Leader {
    state: watch::Receiver<State>,
    stop: oneshot::Sender<Reply>,
}

/// Takes part in the election until [`Leader::give_back`]. If this replica led and may not lead any more, the process ends by force soon after: what
/// is still under way must not be carried out beside the next leader.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(identity: String, namespace: String) -> std::io::Result<Leader> {
    let (sender, state) = watch::channel(State::Asking(None));
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("leader".into());
    thread.spawn(move || {
        if let Err(error) = elect(&identity, &namespace, &sender, stopped) {
            sender.send_replace(State::Ended(format!("{error:#}")));
        }
    })?;
    Ok(Leader { state, stop })
}

impl Leader {
    /// Waits until the API server has answered about the lease.
    ///
    /// # Errors
    /// When it does not within two minutes, or there is no configuration for it.
    pub async fn answered(&mut self) -> anyhow::Result<()> {
        let answered = self.state.wait_for(|state| !matches!(state, State::Asking(_)));
        let answered = timeout(PATIENCE, answered).await;
        let state = match answered.map(|state| state.map(|state| state.clone())) {
            Ok(state) => state.context("the thread of the election ended")?,
            Err(_) => self.state.borrow().clone(),
        };
        match state {
            State::StandsBy | State::Leads => Ok(()),
            State::Asking(why) => Err(anyhow!("{}", why.unwrap_or_else(|| "no answer".into()))),
            State::Ended(why) => Err(anyhow!(why)),
        }
        .context("the lease multimaster-operator")
    }

    /// Waits until this replica leads, for as long as it takes.
    ///
    /// # Errors
    /// When it cannot take part any more.
    pub async fn leads(&mut self) -> anyhow::Result<()> {
        let decided = |state: &State| matches!(state, State::Leads | State::Ended(_));
        let state = self.state.wait_for(decided).await;
        match &*state.context("the thread of the election ended")? {
            State::Ended(why) => Err(anyhow!("the lease was lost: {why}")),
            _ => Ok(()),
        }
    }

    /// Waits until this replica, which leads, may not lead any more. Returns why.
    pub async fn lost(&mut self) -> anyhow::Error {
        match self
            .state
            .wait_for(|state| matches!(state, State::Ended(_)))
            .await
            .as_deref()
        {
            Ok(State::Ended(why)) => anyhow!("the lease was lost: {why}"),
            Ok(_) | Err(_) => anyhow!("the lease was lost: the thread of the election ended"),
        }
    }

    /// Leaves the election, and gives the lease back if this replica holds it: another one need not wait for its end. Call it when nothing acts any
    /// more. It takes at most three times the deadline of a request.
    ///
    /// # Errors
    /// When the API server does not accept it. Then the lease ends by itself.
    pub async fn give_back(self) -> anyhow::Result<()> {
        let (reply, given_back) = oneshot::channel();
        let sent = self.stop.send(reply);
        sent.map_err(|_| anyhow!("the thread of the election ended"))?;
        given_back.await.context("the thread of the election ended")?
    }
}

/// The thread.
fn elect(
    identity: &str,
    namespace: &str,
    state: &watch::Sender<State>,
    stopped: oneshot::Receiver<Reply>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lost = runtime.block_on(async {
        let mut candidate = Candidate::new(identity, client().await?, namespace);
        match candidate.campaign(state, stopped).await {
            Ended::Lost(lost) => Ok(candidate.why(&lost)),
            Ended::Stopped(reply) => {
                let given_back = candidate.give_back().await;
                if reply.send(given_back).is_err() {
                    tracing::debug!("nobody waits until the lease is given back");
                }
                Err(anyhow!("this replica has left the election"))
            }
            Ended::Alone => Err(anyhow!("the operator ended")),
        }
    })?;
    tracing::error!(why = lost, "the lease was lost; the process ends");
    state.send_replace(State::Ended(lost));
    std::thread::sleep(END);
    std::process::exit(1);
}

/// A client without retries of its own: the rules of the election say when to ask again.
async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer()
        .await
        .context("no kubeconfig and no service account")?;
    config.default_retry = false;
    config.connect_timeout = Some(REQUEST_DEADLINE);
    Client::try_from(config).context("the kubeconfig")
}

/// How a campaign ended.
enum Ended {
    Lost(Lost),
    /// [`Leader::give_back`] waits for this answer.
    Stopped(Reply),
    /// The [`Leader`] was dropped.
    Alone,
}

/// Carries out what [`Election`] says.
struct Candidate {
    election: Election,
    leases: Api<Lease>,
    /// Why the last request failed.
    failing: Option<String>,
}

impl Candidate {
    fn new(identity: &str, client: Client, namespace: &str) -> Self {
        Self {
            election: Election::new(identity, Instant::now()),
            leases: Api::namespaced(client, namespace),
            failing: None,
        }
    }

    /// No request is dropped when it is stopped: what a request has done is then known.
    async fn campaign(&mut self, state: &watch::Sender<State>, mut stopped: oneshot::Receiver<Reply>) -> Ended {
        loop {
            let now = Instant::now();
            let act = self.election.next(now);
            if let Act::End(lost) = act {
                return Ended::Lost(lost);
            }
            self.publish(state, now);
            let pause = match act {
                Act::Wait(pause) => pause,
                _ => Duration::ZERO,
            };
            tokio::select! {
                biased;
                reply = &mut stopped => return reply.map_or(Ended::Alone, Ended::Stopped),
                () = sleep(pause) => {}
            }
            self.carry_out(&act, now).await;
        }
    }

    fn publish(&self, state: &watch::Sender<State>, now: Instant) {
        let is = match self.election.is_answered() {
            _ if self.election.leads(now) => State::Leads,
            true => State::StandsBy,
            false => State::Asking(self.failing.clone()),
        };
        state.send_if_modified(|was| {
            let changed = *was != is;
            *was = is;
            changed
        });
    }

    /// `now`: when the act was decided. The request counts from then, so that a freeze in between makes it older, not younger.
    async fn carry_out(&mut self, act: &Act, now: Instant) {
        match *act {
            Act::Wait(_) | Act::End(_) => {}
            Act::Read(within) => match ask(within, self.leases.get_opt(names::LEASE)).await {
                Ok(lease) => {
                    self.answered();
                    self.election.observe(lease, now, Instant::now());
                }
                Err(error) => self.failed(error, now),
            },
            Act::Write(within) => {
                let claim = self.election.claim(Timestamp::now());
                match ask(within, self.write(&claim)).await {
                    Ok(lease) => {
                        self.answered();
                        self.election.wrote(lease, now, Instant::now());
                    }
                    Err(error) => self.failed(error, now),
                }
            }
        }
    }

    async fn write(&self, lease: &Lease) -> kube::Result<Lease> {
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        match lease.metadata.resource_version {
            Some(_) => self.leases.replace(names::LEASE, &params, lease).await,
            None => self.leases.create(&params, lease).await,
        }
    }

    async fn give_back(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let lease = ask(REQUEST_DEADLINE, self.leases.get_opt(names::LEASE)).await?;
        self.election.observe(lease, now, Instant::now());
        if let Some(lease) = self.election.given_back() {
            ask(REQUEST_DEADLINE, self.write(&lease)).await?;
        }
        Ok(())
    }

    fn answered(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!("the API server answers about the lease again");
        }
    }

    fn failed(&mut self, error: AskError, started: Instant) {
        self.election.failed(error.is_refusal(), started);
        // Another replica was faster, or somebody changed the lease: the next read says what is so now.
        if error.is_refusal() {
            tracing::debug!(%error, "the lease has changed");
            return;
        }
        let error = error.to_string();
        if self.failing.as_ref() != Some(&error) {
            tracing::warn!(error, "the lease cannot be read or renewed; asking again");
        }
        self.failing = Some(error);
    }

    fn why(&self, lost: &Lost) -> String {
        match (&self.failing, lost) {
            (Some(error), Lost::NotRenewed) => format!("{lost}: {error}"),
            _ => lost.to_string(),
        }
    }
}

/// Why a request about the lease failed.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the API server did not answer within {0:?}")]
    Deadline(Duration),
}

impl AskError {
    /// The lease is not the one that was to be replaced, or there is one already.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
    }
}

async fn ask<T>(within: Duration, request: impl Future<Output = kube::Result<T>>) -> Result<T, AskError> {
    match timeout(within, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AskError::Deadline(within)),
    }
}

#[cfg(test)]
mod tests;
