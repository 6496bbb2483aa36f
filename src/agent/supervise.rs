//! The loop that owns the life record and mysqld. It prepares the directory, starts mysqld, carries out orders, and starts mysqld again.
//!
//! Only this loop takes orders, one at a time, so two orders never run together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::arrival::{Arrival, arrive};
use super::clone;
use super::directory;
use super::lease;
use super::life::{Intent, Life};
use super::member::{Accepted, Member, Refused, Request, Shared, Work};
use super::mysqld::{self, Ended, Process};
use super::sql;
use crate::wire::agent::{Origin, Phase};

/// If mysqld ends this often within [`CRASH_WINDOW`], the agent ends too, and the kubelet starts the container again.
const CRASHES: usize = 5;
const CRASH_WINDOW: Duration = Duration::from_secs(60);

/// Runs the member until SIGTERM, or until it cannot be run.
///
/// # Errors
/// When the directory cannot be prepared, when mysqld cannot be started, ends before it ever answered, or ends 5 times within
/// 60 s. The container ends then, and the kubelet starts it again.
pub async fn run(member: Arc<Member>, shared: Arc<Shared>, inbox: Receiver<Request>) -> anyhow::Result<()> {
    let mut loop_ = Loop {
        member,
        shared,
        inbox,
        stop: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?],
        crashes: VecDeque::new(),
    };
    loop_.run().await
}

struct Loop {
    member: Arc<Member>,
    shared: Arc<Shared>,
    inbox: Receiver<Request>,
    stop: [Signal; 2],
    crashes: VecDeque<Instant>,
}

/// Why a run of mysqld ended.
enum Outcome {
    /// The pod stops.
    Stopped,
    /// mysqld ended by itself or crashed.
    Ended {
        ended: Ended,
        /// Whether it had answered before.
        answered: bool,
    },
    /// The agent ended it to begin a new life, or to empty the member. The record says which.
    Intended,
    /// The data directory is a failed clone.
    Discard { why: String },
}

type Cloning = Option<JoinHandle<Result<(), clone::Failed>>>;

impl Loop {
    async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let mut life = tokio::select! {
                () = stop_signal(&mut self.stop) => return Ok(()),
                life = directory::prepare(&self.member, &self.shared) => life?,
            };
            let password = directory::write_init_file(&self.member, &life)?;
            self.shared.sql.set_password(&password);
            self.shared.set_phase(Phase::Starting);
            let mut process = Process::start(&self.member, mysqld::command_line(&self.member, &life))?;
            let outcome = self.attend(&mut process, &mut life).await;
            if outcome.is_err() {
                process.terminate();
                let _ = tokio::time::timeout(CRASH_WINDOW, process.wait()).await;
            }
            self.shared.sql.forget().await;
            if self.settle(outcome?, life)? {
                return Ok(());
            }
        }
    }

    /// Draws the consequence of a run that ended. Returns whether the agent is to end.
    fn settle(&mut self, outcome: Outcome, life: Life) -> anyhow::Result<bool> {
        let cloning = matches!(life.intent, Some(Intent::Cloning { .. }));
        match outcome {
            Outcome::Stopped => return Ok(true),
            Outcome::Intended => {}
            Outcome::Discard { why } => directory::discard_failed_clone(&self.member, life, why)?,
            Outcome::Ended { ended, answered: false } if cloning => {
                let why = format!("mysqld did not start on the cloned data: {ended}");
                directory::discard_failed_clone(&self.member, life, why)?;
            }
            Outcome::Ended { ended, answered: false } => bail!("mysqld ended without ever having answered: {ended}"),
            Outcome::Ended { ended, answered: true } => {
                if ended.wants_restart() {
                    info!("mysqld asks to be started again");
                } else {
                    warn!("mysqld ended: {ended}");
                    self.count_crash(&ended)?;
                }
                self.shared.set_phase(Phase::Restarting {
                    reason: ended.to_string(),
                });
            }
        }
        Ok(false)
    }

    fn count_crash(&mut self, ended: &Ended) -> anyhow::Result<()> {
        let now = Instant::now();
        self.crashes.push_back(now);
        while self
            .crashes
            .front()
            .is_some_and(|first| now.duration_since(*first) > CRASH_WINDOW)
        {
            self.crashes.pop_front();
        }
        if self.crashes.len() >= CRASHES {
            bail!(
                "mysqld ended {CRASHES} times within {} s, the last time with {ended}",
                CRASH_WINDOW.as_secs()
            );
        }
        Ok(())
    }

    /// One run of mysqld from its start to its end.
    async fn attend(&mut self, process: &mut Process, life: &mut Life) -> anyhow::Result<Outcome> {
        let answered = AtomicBool::new(false);
        let arrival = arrive(&self.member, &self.shared, life.clone(), &answered);
        tokio::pin!(arrival);
        let mut arrived = false;
        let mut cloning: Cloning = None;
        // Set when the agent itself has asked mysqld to end.
        let mut ending: Option<Outcome> = None;
        loop {
            tokio::select! {
                ended = process.wait() => {
                    if let Some(cloning) = cloning.take() {
                        cloning.abort();
                    }
                    let ended = ended.context("cannot wait for mysqld")?;
                    let answered = answered.load(Ordering::Relaxed);
                    return Ok(ending.unwrap_or(Outcome::Ended { ended, answered }));
                }
                () = stop_signal(&mut self.stop) => {
                    info!("stopping mysqld");
                    // Fenced first, so that another member can become the one writer while this one still shuts down.
                    let fenced = self.shared.phase() == Phase::Running && lease::watch::fence(&self.shared).await;
                    self.shared.set_phase(Phase::Stopping { fenced });
                    self.end(process).await;
                    ending = Some(Outcome::Stopped);
                }
                () = self.shared.kill.notified() => {
                    let reason = "mysqld might take writes, must not, and does not answer: killed, since it starts fenced";
                    warn!("{reason}");
                    process.kill();
                    // From now on mysqld answers no client, however long its disk keeps the process from ending.
                    self.shared.set_phase(Phase::Restarting { reason: reason.into() });
                }
                arrival = &mut arrival, if !arrived => {
                    arrived = true;
                    if let Some(why) = self.arrived(life, arrival?)? {
                        process.terminate();
                        ending.get_or_insert(Outcome::Discard { why });
                    }
                }
                result = finished(&mut cloning) => {
                    cloning = None;
                    if let Some(why) = self.cloned(life, result)? {
                        process.terminate();
                        ending.get_or_insert(Outcome::Discard { why });
                    }
                }
                Some(request) = self.inbox.recv() => {
                    let verdict = match self.shared.phase() {
                        Phase::Running if ending.is_none() => match self.stranded(&request.order).await {
                            Ok(stranded) => self.order(life, &request, stranded),
                            Err(refused) => Err(refused),
                        },
                        phase => Err(Refused::Conflict(format!("mysqld is not running yet, or not any more: {phase:?}"))),
                    };
                    if verdict == Ok(Accepted::UnderWay) {
                        match &request.order {
                            Work::Clone { donor, port, .. } => cloning = Some(self.start_clone(donor, *port)),
                            _ => {
                                self.end(process).await;
                                ending = Some(Outcome::Intended);
                            }
                        }
                    }
                    // The client may have closed its connection.
                    let _ = request.answer.send(verdict);
                }
            }
        }
    }

    /// Asks mysqld to end. The agent's own connection is closed first, because mysqld would wait two seconds for it.
    async fn end(&self, process: &Process) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.shared.sql.forget()).await;
        process.terminate();
    }

    /// Records what the agent found once mysqld answered. `Some`: the data is to be thrown away, for this reason.
    fn arrived(&self, life: &mut Life, arrival: Arrival) -> anyhow::Result<Option<String>> {
        match arrival.clone {
            Some(Err(why)) => return Ok(Some(why)),
            Some(Ok(())) => {
                info!("the clone is complete");
                life.origin = Origin::Cloned;
                life.intent = None;
                life.clone_failures = None;
            }
            None if life.intent == Some(Intent::NewLife) => life.intent = None,
            None => {}
        }
        if life.server_uuid.as_ref() != Some(&arrival.uuid) || arrival.clone.is_some() {
            life.server_uuid = Some(arrival.uuid);
            life.save(&self.member.life)?;
        }
        self.shared.set_life(life);
        if !matches!(self.shared.phase(), Phase::Stopping { .. }) {
            self.shared.set_phase(Phase::Running);
        }
        info!(uuid = ?life.server_uuid, server_id = life.server_id, origin = ?life.origin, "mysqld is running, fenced");
        Ok(None)
    }

    /// Whether data that is to be emptied holds transactions that no other member has.
    async fn stranded(&self, order: &Work) -> Result<bool, Refused> {
        let Work::Empty { held_elsewhere } = order else {
            return Ok(false);
        };
        let (fenced, held) = sql::held(&self.shared.sql)
            .await
            .map_err(|error| Refused::Conflict(format!("cannot read what this member holds: {error}")))?;
        if !fenced {
            return Err(Refused::Conflict("this member takes writes; fence it first".into()));
        }
        Ok(!held_elsewhere.contains(&held))
    }

    /// Checks an order and records it.
    fn order(&self, life: &mut Life, request: &Request, stranded: bool) -> Result<Accepted, Refused> {
        let conflict = |why: String| Err(Refused::Conflict(why));
        match &life.server_uuid {
            Some(uuid) if *uuid == request.server_uuid => {}
            uuid => {
                let own = uuid.as_deref().unwrap_or("not known yet");
                return conflict(format!(
                    "the order is for the server {}, this one is {own}",
                    request.server_uuid
                ));
            }
        }
        let before = life.clone();
        let accepted = match (&request.order, life.origin) {
            (Work::Found, Origin::Founded) => return Ok(Accepted::Done),
            (Work::Found, origin @ (Origin::Cloned | Origin::Unknown)) => {
                return conflict(format!(
                    "this member holds data ({origin:?}); only an empty one can be a founder"
                ));
            }
            (Work::Found, Origin::Empty) => {
                life.origin = Origin::Founded;
                life.clone_failures = None;
                Accepted::Done
            }
            (Work::Clone { donor, donor_uuid, .. }, Origin::Empty) => {
                life.intent = Some(Intent::Cloning {
                    donor: donor.clone(),
                    donor_uuid: donor_uuid.clone(),
                });
                life.last_clone_error = None;
                Accepted::UnderWay
            }
            (Work::Clone { .. }, origin) => {
                return conflict(format!("this member holds data ({origin:?}); it is never cloned over"));
            }
            (Work::NewLife, _) => {
                life.intent = Some(Intent::NewLife);
                Accepted::UnderWay
            }
            (Work::Mark { mark, .. }, _) if !self.member.is_of_our_name(mark) => {
                let (namespace, name) = (&self.member.args.pod_namespace, &self.member.args.cluster);
                return conflict(format!(
                    "the mark is of {}/{}, and this pod belongs to {namespace}/{name}",
                    mark.namespace, mark.name
                ));
            }
            (Work::Mark { mark, new_life }, _) => {
                life.mark = Some(mark.clone());
                if *new_life {
                    life.intent = Some(Intent::NewLife);
                    Accepted::UnderWay
                } else {
                    Accepted::Done
                }
            }
            (Work::Empty { .. }, Origin::Empty) => return Ok(Accepted::Done),
            (Work::Empty { .. }, _) => {
                life.intent = Some(Intent::Emptying { keep: stranded });
                // Those of an earlier life.
                life.clone_failures = None;
                Accepted::UnderWay
            }
        };
        if let Err(error) = life.save(&self.member.life) {
            *life = before;
            let error = anyhow::Error::new(error);
            error!("{error:#}");
            return Err(Refused::Failed(format!("{error:#}")));
        }
        info!(order = ?request.order, "accepted");
        match &request.order {
            Work::Found | Work::Mark { new_life: false, .. } => {}
            Work::Mark { .. } => self.shared.set_phase(Phase::Restarting {
                reason: "its volume is a copy that was adopted".into(),
            }),
            Work::Clone { donor, .. } => self.shared.set_phase(Phase::Cloning { donor: donor.clone() }),
            Work::NewLife => self.shared.set_phase(Phase::Restarting {
                reason: "a new life was ordered".into(),
            }),
            Work::Empty { .. } => self.shared.set_phase(Phase::Restarting {
                reason: "it cannot follow the ring any more and becomes empty".into(),
            }),
        }
        // Last: with the new mark and the old server it would seem to be one of the ring.
        self.shared.set_life(life);
        Ok(accepted)
    }

    fn start_clone(&self, donor: &str, port: u16) -> JoinHandle<Result<(), clone::Failed>> {
        let (member, shared, donor) = (Arc::clone(&self.member), Arc::clone(&self.shared), donor.to_owned());
        tokio::spawn(async move { clone::run(&member, &shared.sql, &donor, port).await })
    }

    /// Records the end of a clone after which mysqld did not restart. `Some`: the data is to be thrown away, for this reason.
    fn cloned(&self, life: &mut Life, result: Result<(), clone::Failed>) -> anyhow::Result<Option<String>> {
        let Err(failed) = result else { return Ok(None) };
        if !failed.untouched {
            return Ok(Some(failed.why));
        }
        warn!(why = %failed.why, "the clone was refused; the member is empty as before");
        life.clone_failed(failed.why, true, SystemTime::now());
        life.intent = None;
        life.save(&self.member.life)?;
        self.shared.set_life(life);
        if !matches!(self.shared.phase(), Phase::Stopping { .. }) {
            self.shared.set_phase(Phase::Running);
        }
        Ok(None)
    }
}

async fn stop_signal([terminate, interrupt]: &mut [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The result of the clone that runs; never returns while no clone runs.
async fn finished(cloning: &mut Cloning) -> Result<(), clone::Failed> {
    match cloning {
        Some(task) => match task.await {
            Ok(result) => result,
            Err(error) => Err(clone::Failed {
                why: error.to_string(),
                untouched: false,
            }),
        },
        None => std::future::pending().await,
    }
}
