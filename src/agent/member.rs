//! Who this member is and where its things are; and what the agent's parts tell each other.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use tokio::sync::{Notify, oneshot};

use super::lease::{Lease, milliseconds};
use super::life::Life;
use super::sql::Sql;
use crate::api::MAX_MEMBERS;
use crate::api::status::FencedItself;
use crate::args::AgentArgs;
use crate::mysql::gtid::GtidSet;
use crate::names;
use crate::wire::agent::{Origin, Phase, Report, Terms, VERSION};
use crate::wire::io::ports;

/// What never changes while the agent runs.
#[derive(Clone, Debug)]
pub struct Member {
    /// As they were given.
    pub args: AgentArgs,
    /// Ordinal of the member, from the pod's name.
    pub ordinal: u8,
    /// mysqld's datadir.
    pub data: PathBuf,
    /// Where a new datadir is made, so that a crash in the middle cannot be taken for a complete one.
    pub data_new: PathBuf,
    /// The life record.
    pub life: PathBuf,
    /// mysqld's socket.
    pub socket: PathBuf,
    /// The init file that sets the accounts.
    pub init_file: PathBuf,
    /// What `--initialize` reads instead of the user's configuration.
    pub initialise_config: PathBuf,
    /// mysqld's pid file.
    pub pid_file: PathBuf,
}

impl Member {
    /// Refuses a pod name that is not a member's.
    pub fn new(args: AgentArgs) -> anyhow::Result<Self> {
        let ordinal = names::ordinal_of(&args.cluster, &args.pod_name).with_context(|| {
            format!(
                "POD_NAME {} is not CLUSTER {} and an ordinal",
                args.pod_name, args.cluster
            )
        })?;
        if ordinal >= MAX_MEMBERS {
            bail!("POD_NAME {}: ordinals end at {}", args.pod_name, MAX_MEMBERS - 1);
        }
        Ok(Self {
            ordinal,
            data: args.volume.join("data"),
            data_new: args.volume.join("data.new"),
            life: args.volume.join("life.json"),
            socket: args.run.join("mysqld.sock"),
            init_file: args.run.join("init.sql"),
            initialise_config: args.run.join("initialise.cnf"),
            pid_file: args.run.join("mysqld.pid"),
            args,
        })
    }

    /// One key of the credentials Secret, exactly as it is there.
    pub fn credential(&self, key: &str) -> anyhow::Result<String> {
        ports::credential(&self.args.credentials, key)
    }

    /// How messages name the image.
    pub fn image(&self) -> String {
        match &self.args.image {
            Some(image) => format!("the image {image}"),
            None => "this container's image".into(),
        }
    }
}

/// An order that passed authentication, for the loop that owns mysqld, and where its answer goes.
#[derive(Debug)]
pub struct Request {
    /// What is to be done.
    pub order: Work,
    /// The server UUID that it is meant for.
    pub server_uuid: String,
    /// Answered as soon as the order is recorded; the report tells how it goes on.
    pub answer: oneshot::Sender<Result<Accepted, Refused>>,
}

/// What can be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Become one of the members the ring begins with.
    Found,
    /// Become a copy of the server at this address.
    Clone {
        /// IP address of the donor.
        donor: String,
    },
    /// New server UUID and server_id on the present data.
    NewLife,
    /// Give up the data and become empty.
    Empty {
        /// What other members have executed.
        held_elsewhere: GtidSet,
    },
}

/// An order that is, or will be, carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is done.
    Done,
    /// It is recorded and under way; the report tells.
    UnderWay,
}

/// Why an order is not carried out; the operator observes again and decides again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not fit what this member is: HTTP 409.
    Conflict(String),
    /// The agent could not record it: HTTP 500.
    Failed(String),
}

/// What the supervising loop shows to the agent's ports.
#[derive(Debug)]
pub struct Shared {
    /// Connection for probes; nobody else waits for it.
    pub sql: Sql,
    report: Mutex<Report>,
    /// Asks the supervising loop to kill mysqld.
    pub kill: Notify,
    began: Instant,
    heard: AtomicBool,
    terms: Mutex<Option<Terms>>,
    lease: Mutex<Lease>,
}

impl Shared {
    /// Before anything is known: an agent that has not looked at its volume yet.
    pub fn new(member: &Member) -> Self {
        let report = Report {
            version: VERSION,
            ordinal: member.ordinal,
            origin: Origin::Empty,
            server_id: 0,
            server_uuid: None,
            former_server_uuids: Vec::new(),
            phase: Phase::Starting,
            last_clone_error: None,
            kept: Vec::new(),
            fenced_itself: None,
            volume_full: false,
            clock: 0,
            lease: None,
        };
        let began = Instant::now();
        Self {
            sql: Sql::new(member.socket.clone()),
            report: Mutex::new(report),
            kill: Notify::new(),
            began,
            heard: AtomicBool::new(false),
            terms: Mutex::default(),
            lease: Mutex::new(Lease::new(member.ordinal, began)),
        }
    }

    /// The operator has asked for something: this member is not cut off.
    pub fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether the operator has asked for anything since this was last called.
    pub fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Keeps what the operator said last.
    pub fn set_terms(&self, terms: Terms) {
        self.lease().hear(&terms, Instant::now());
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = Some(terms);
    }

    /// What the operator said last; `None` before this agent has heard it.
    pub fn terms(&self) -> Option<Terms> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this member may be the writer.
    pub fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows that the agent has fenced its server, or that somebody has opened it again.
    pub fn set_fenced_itself(&self, fenced: Option<FencedItself>) {
        self.lock().fenced_itself = fenced;
    }

    /// What is known now. `None` before the volume was looked at: nothing may be concluded from that.
    pub fn report(&self) -> Option<Report> {
        let now = Instant::now();
        let report = Report {
            clock: milliseconds(now.duration_since(self.began)),
            lease: self.lease().report(now),
            ..self.lock().clone()
        };
        (report.server_id != 0).then_some(report)
    }

    /// What mysqld is doing.
    pub fn phase(&self) -> Phase {
        self.lock().phase.clone()
    }

    /// Shows a phase.
    pub fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// Shows the life.
    pub fn set_life(&self, life: &Life) {
        let mut report = self.lock();
        report.origin = life.origin;
        report.server_id = life.server_id;
        report.server_uuid.clone_from(&life.server_uuid);
        report.former_server_uuids.clone_from(&life.former_server_uuids);
        report.last_clone_error.clone_from(&life.last_clone_error);
    }

    /// Shows what is kept on the volume.
    pub fn set_kept(&self, kept: Vec<String>) {
        self.lock().kept = kept;
    }

    /// Shows whether there is room on the volume. Answers whether that is news.
    pub fn set_volume_full(&self, full: bool) -> bool {
        std::mem::replace(&mut self.lock().volume_full, full) != full
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
