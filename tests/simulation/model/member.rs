//! One member: its pod, its mysqld, and the agent that runs it.

use multimaster::wire::agent::{CloneFailures, Mark, Origin, Phase, Report, VERSION, Volume};

use super::disk::{Data, Disk, Intent, Record};
use super::transactions::{Ledger, uuid};
use crate::lease::Agent;

/// Tenths of a second: the clock of the simulation.
pub const SECOND: u64 = 10;

#[derive(Clone, Debug)]
pub struct Pod {
    pub uid: u64,
    pub revision: u8,
    pub serving: bool,
    pub reads: bool,
    pub ready: bool,
    /// What the kubelet last said.
    pub running: bool,
    /// When its container runs.
    pub runs_at: u64,
    /// When it is gone, once it was told to end.
    pub ends_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mysqld {
    /// The container does not run.
    Down,
    /// Started, or started again by the agent; it answers at this time.
    Starting {
        at: u64,
        again: bool,
    },
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Frozen {
    No,
    /// mysqld is stopped; agent and kubelet live.
    Mysqld,
    /// The node stands still, its kubelet too.
    Node,
}

/// A statement that was sent to a server that stood still; it is executed when the server goes on.
#[derive(Clone, Debug)]
pub struct Late {
    pub operator: usize,
    pub statement: Statement,
}

/// What a step sends over SQL, one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    SameLife(String),
    NoChannel(u8),
    ChangeSource(u8),
    Start(u8),
    StartApplier(u8),
    Stop(u8),
    StopReceiver(u8),
    AllApplied(u8),
    Reset(u8),
    KillClients,
    Fence,
    /// `replica_exec_mode = STRICT`.
    Strict,
    /// `super_read_only = ON` where `read_only` is on.
    SuperReadOnly,
    Open,
}

#[derive(Clone, Copy, Debug)]
pub struct Cloning {
    pub donor: u8,
    pub until: u64,
}

#[derive(Clone)]
pub struct Member {
    pub ordinal: u8,
    pub disk: Disk,
    /// An older copy of the volume.
    pub snapshot: Option<Disk>,
    pub pod: Option<Pod>,
    /// When the StatefulSet's controller makes the next pod.
    pub next_pod_at: u64,
    pub mysqld: Mysqld,
    /// Runs of mysqld, counted.
    pub boot: u64,
    pub super_read_only: bool,
    /// It is fenced, and root may write to it.
    pub half_fenced: bool,
    /// `replica_exec_mode` is IDEMPOTENT.
    pub idempotent: bool,
    pub frozen: Frozen,
    /// Since when kubelet or readiness probe have heard nothing.
    pub silent_since: Option<u64>,
    pub node_down: bool,
    pub slow: bool,
    /// It refuses the operator: too many connections.
    pub refuses: bool,
    /// A client holds locks on its rows.
    pub locked: bool,
    pub cloning: Option<Cloning>,
    pub late: Vec<Late>,
    /// What the agent that runs now knows of the one writer.
    pub agent: Option<Agent>,
    /// By operator: the run of mysqld that its session belongs to.
    pub sessions: [Option<u64>; 2],
}

impl Member {
    pub fn new(ordinal: u8) -> Self {
        Self {
            ordinal,
            disk: Disk::default(),
            snapshot: None,
            pod: None,
            next_pod_at: 0,
            mysqld: Mysqld::Down,
            boot: 0,
            super_read_only: true,
            half_fenced: false,
            idempotent: false,
            frozen: Frozen::No,
            silent_since: None,
            node_down: false,
            slow: false,
            refuses: false,
            locked: false,
            cloning: None,
            late: Vec::new(),
            agent: None,
            sessions: [None; 2],
        }
    }

    /// Its container runs and is not standing still.
    pub fn agent_answers(&self) -> bool {
        self.mysqld != Mysqld::Down && !self.node_down && self.frozen != Frozen::Node
    }

    pub fn answers(&self) -> bool {
        self.agent_answers() && self.mysqld == Mysqld::Running && self.frozen == Frozen::No
    }

    /// Clients can write to it.
    pub fn takes_writes(&self) -> bool {
        self.answers() && !self.super_read_only
    }

    pub fn data(&self) -> Option<&Data> {
        self.disk.data.as_ref()
    }

    /// mysqld ends, however.
    pub fn stop_mysqld(&mut self, ledger: &Ledger) {
        if let Some(data) = &mut self.disk.data {
            data.channels.iter_mut().for_each(|channel| channel.crash(ledger));
        }
        self.mysqld = Mysqld::Down;
        self.boot += 1;
        self.super_read_only = true;
        // Both are on the command line of the next one.
        (self.half_fenced, self.idempotent) = (false, false);
        self.cloning = None;
        self.late.clear();
        self.sessions = [None; 2];
    }

    /// The agent prepares the directory and starts mysqld.
    pub fn start_mysqld(&mut self, at: u64, again: bool, keep_server_id: bool, ledger: &mut Ledger) {
        self.disk.prepare(self.ordinal, keep_server_id, ledger);
        self.mysqld = Mysqld::Starting { at, again };
    }

    /// mysqld answers for the first time in this run. False: it has to be started again.
    pub fn arrive(&mut self, ledger: &mut Ledger) -> bool {
        self.disk.arrive(self.ordinal, ledger);
        self.super_read_only = true;
        self.mysqld = Mysqld::Running;
        self.disk.data.is_some()
    }

    /// The container ends.
    pub fn stop_container(&mut self, ledger: &Ledger) {
        self.agent = None;
        self.stop_mysqld(ledger);
        if let Some(pod) = &mut self.pod {
            pod.ready = false;
        }
    }

    pub fn report(&self, now: u64) -> Option<Report> {
        let record = self.disk.record.as_ref()?;
        let phase = match self.mysqld {
            Mysqld::Starting { again: false, .. } | Mysqld::Down => Phase::Starting,
            Mysqld::Starting { again: true, .. } => Phase::Restarting {
                reason: "it ended".into(),
            },
            Mysqld::Running if self.pod.as_ref().is_some_and(|pod| pod.ends_at.is_some()) => Phase::Stopping {
                fenced: self.super_read_only,
            },
            Mysqld::Running => match self.cloning {
                Some(cloning) => Phase::Cloning {
                    donor: format!("10.0.0.{}", cloning.donor),
                },
                None => Phase::Running,
            },
        };
        Some(Report {
            version: VERSION,
            ordinal: self.ordinal,
            origin: record.origin,
            server_id: record.server_id,
            server_uuid: record.uuid.map(uuid),
            former_server_uuids: record.former.iter().copied().map(uuid).collect(),
            phase,
            last_clone_error: record.clone_error.clone(),
            clone_failures: failures(record, now),
            kept: Vec::new(),
            fenced_itself: None,
            volume_full: false,
            clock: 0,
            lease: None,
            volume: Some(Volume {
                mark: record.marked.then(|| mark(self.ordinal)),
            }),
            volume_usage: None,
            has_place_for_links: false,
        })
    }

    /// The agent's answer to an order, with what every order is checked for.
    pub fn order(&mut self, server_uuid: &str, order: Order, now: u64) -> Result<Accepted, String> {
        let Some(record) = &mut self.disk.record else {
            return Err("there is no life yet".into());
        };
        if self.mysqld != Mysqld::Running || self.cloning.is_some() {
            return Err("mysqld is not running".into());
        }
        if record.uuid.map(uuid).as_deref() != Some(server_uuid) {
            return Err("the order is for another server".into());
        }
        match (order, record.origin) {
            (Order::Found, Origin::Founded) => Ok(Accepted::Done),
            (Order::Found, Origin::Empty) => {
                record.origin = Origin::Founded;
                Ok(Accepted::Done)
            }
            (Order::Clone { donor, takes }, Origin::Empty) => {
                if self.disk.data.as_ref().is_some_and(|data| !data.executed.is_empty()) {
                    return Err("this member holds transactions".into());
                }
                record.intent = Some(Intent::Cloning);
                record.clone_error = None;
                record.clone_ordered_at = Some(now);
                let until = now + takes;
                self.cloning = Some(Cloning { donor, until });
                Ok(Accepted::Done)
            }
            (Order::Found | Order::Clone { .. }, _) => Err("this member holds data".into()),
            (Order::Reclone, Origin::Empty) => Ok(Accepted::Done),
            (Order::Reclone, _) => {
                record.intent = Some(Intent::Emptying);
                Ok(Accepted::Restarts)
            }
            (Order::Mark, _) => {
                record.marked = true;
                Ok(Accepted::Done)
            }
            (Order::NewLife, _) => {
                record.intent = Some(Intent::NewLife);
                Ok(Accepted::Restarts)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    Found,
    Clone { donor: u8, takes: u64 },
    NewLife,
    Reclone,
    Mark,
}

/// Clones take seconds here and minutes elsewhere, so the time since one failed is counted ten times as fast.
fn failures(record: &Record, now: u64) -> Option<CloneFailures> {
    let is_counted = record.origin == Origin::Empty && record.failed_clones > 0;
    let age = |ordered_at: u64| 10 * now.saturating_sub(ordered_at) / SECOND;
    is_counted.then(|| CloneFailures {
        count: record.failed_clones,
        copied: record.failed_clones,
        seconds_ago: record.clone_ordered_at.map_or(u64::MAX, age),
        ..CloneFailures::default()
    })
}

/// A volume keeps its claim here, also where it is lost.
pub fn claim(ordinal: u8) -> String {
    format!("claim-{ordinal}")
}

fn mark(ordinal: u8) -> Mark {
    Mark {
        namespace: "default".into(),
        name: "demo".into(),
        cluster_uid: CLUSTER_UID.into(),
        claim_uid: claim(ordinal),
    }
}

/// `metadata.uid` of the resource.
pub const CLUSTER_UID: &str = "cluster-uid";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    Done,
    /// mysqld is ended and started again.
    Restarts,
}
