//! This member's identity and paths; and the state that the agent's tasks share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use anyhow::{Context, bail};
use tokio::sync::{Notify, oneshot};

use super::clone_failures::Noted;
use super::lease::{Lease, milliseconds};
use super::life::Life;
use super::sql::Sql;
use crate::api::MAX_MEMBERS;
use crate::api::status::FencedItself;
use crate::args::AgentArgs;
use crate::mysql::gtid::GtidSet;
use crate::names;
use crate::wire::agent::{Mark, Origin, Phase, Report, VERSION, Volume, VolumeUsage};
use crate::wire::io::ports;
use crate::wire::lease::LeaseRenewal;

/// What never changes while the agent runs.
#[derive(Clone, Debug)]
pub struct Member {
    /// The command line.
    pub args: AgentArgs,
    /// Ordinal of the member, from the pod's name.
    pub ordinal: u8,
    /// mysqld's datadir.
    pub data: PathBuf,
    /// Where a new datadir is made. After a crash an incomplete one has this name and not the final one.
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
    /// From the command line. The ordinal is in the pod's name.
    ///
    /// # Errors
    /// When the pod's name is not the cluster's name and an ordinal below [`MAX_MEMBERS`].
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
    ///
    /// # Errors
    /// When the key's file cannot be read or is empty.
    pub fn credential(&self, key: &str) -> anyhow::Result<String> {
        ports::credential(&self.args.credentials, key)
    }

    /// Whether a mark is of this cluster, or of one with the same namespace and name.
    pub fn is_of_our_name(&self, mark: &Mark) -> bool {
        mark.is_of(&self.args.pod_namespace, &self.args.cluster)
    }

    /// Whether the volume is one of this cluster, and of this member. Its claim is not looked at: the agent does not know it.
    pub fn is_own_volume(&self, life: &Life) -> bool {
        let is_marked = |mark: &Mark| self.is_of_our_name(mark) && mark.cluster_uid == self.args.cluster_uid;
        life.mark.as_ref().is_some_and(is_marked) && names::ordinal_in(life.server_id) == Some(self.ordinal)
    }

    /// Whether a channel is a link to a member of another cluster.
    pub fn leads_away(&self, channel: &str, host: &str) -> bool {
        names::leads_to_another_cluster(channel, host, &self.args.cluster, &self.args.pod_namespace)
    }

    /// Whether the volume is certainly a copy: it has the mark of a cluster of another name, or is another member's.
    pub fn is_copy(&self, life: &Life) -> bool {
        let is_of_others = |mark: &Mark| !self.is_of_our_name(mark);
        life.mark.as_ref().is_some_and(is_of_others) || names::ordinal_in(life.server_id) != Some(self.ordinal)
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
    /// Answered as soon as the order is recorded. The report shows how it continues.
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
        /// The port that it leaves clones a place at.
        port: u16,
        /// Server UUID of the donor, if the operator has named it.
        donor_uuid: Option<String>,
    },
    /// New server UUID and server_id on the present data.
    NewLife,
    /// Put this mark on the volume.
    Mark {
        /// The mark.
        mark: Mark,
        /// The data gets a new life as well.
        new_life: bool,
    },
    /// Move the data away and become empty, to be re-cloned.
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
    /// It is recorded and under way. The report shows how it continues.
    UnderWay,
}

/// Why an order is not carried out. The operator observes and decides again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The order does not fit this member's state: HTTP 409.
    Conflict(String),
    /// The agent could not record it: HTTP 500.
    Failed(String),
}

/// What the supervising loop shows to the agent's ports.
#[derive(Debug)]
pub struct Shared {
    /// Connections to mysqld.
    pub sql: Sql,
    report: Mutex<Report>,
    clone_failures: Mutex<Option<Noted>>,
    volume_usage: Mutex<Option<(VolumeUsage, Instant)>>,
    /// Asks the supervising loop to kill mysqld.
    pub kill: Notify,
    began: Instant,
    contact: AtomicBool,
    renewal: Mutex<Option<LeaseRenewal>>,
    lease: Mutex<Lease>,
}

impl Shared {
    /// The state of an agent that has not read its volume yet.
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
            clone_failures: None,
            kept: Vec::new(),
            fenced_itself: None,
            volume_full: false,
            clock: 0,
            lease: None,
            volume: Some(Volume::default()),
            volume_usage: None,
            has_place_for_links: true,
        };
        let began = Instant::now();
        Self {
            sql: Sql::new(member.socket.clone()),
            report: Mutex::new(report),
            clone_failures: Mutex::default(),
            volume_usage: Mutex::default(),
            kill: Notify::new(),
            began,
            contact: AtomicBool::new(false),
            renewal: Mutex::default(),
            lease: Mutex::new(Lease::new(member.ordinal, began)),
        }
    }

    /// Notes a request of the operator: this member is not cut off.
    pub fn note_contact(&self) {
        self.contact.store(true, Ordering::Relaxed);
    }

    /// Whether there was a request of the operator since this was last called.
    pub fn take_contact(&self) -> bool {
        self.contact.swap(false, Ordering::Relaxed)
    }

    /// Keeps the operator's last lease renewal. One that arrives after a later one of the same operator is none.
    pub fn set_renewal(&self, renewal: LeaseRenewal) {
        let mut last = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|last| renewal.is_older_than(last)) {
            return;
        }
        self.lease().renew(&renewal, Instant::now());
        *last = Some(renewal);
    }

    /// The operator's last lease renewal; `None`: this agent has got none yet.
    pub fn renewal(&self) -> Option<LeaseRenewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lease of the one writer.
    pub fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows in the report that the agent has fenced its server, or (`None`) that the server is open again.
    pub fn set_fenced_itself(&self, fenced: Option<FencedItself>) {
        self.lock().fenced_itself = fenced;
    }

    /// The report. `None`: the agent has not read its volume yet, so it knows nothing.
    pub fn report(&self) -> Option<Report> {
        let now = Instant::now();
        let report = Report {
            clock: milliseconds(now.duration_since(self.began)),
            lease: self.lease().report(now),
            clone_failures: self.clone_failures().as_ref().map(|noted| noted.report(now)),
            volume_usage: self.volume_usage(now),
            ..self.lock().clone()
        };
        (report.server_id != 0).then_some(report)
    }

    /// What mysqld is doing.
    pub fn phase(&self) -> Phase {
        self.lock().phase.clone()
    }

    /// Shows a phase in the report.
    pub fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// Shows the life in the report.
    pub fn set_life(&self, life: &Life) {
        let failures = life.clone_failures.as_ref().filter(|_| life.origin == Origin::Empty);
        Noted::note(&mut self.clone_failures(), failures, SystemTime::now(), Instant::now());
        let mut report = self.lock();
        report.origin = life.origin;
        report.server_id = life.server_id;
        report.server_uuid.clone_from(&life.server_uuid);
        report.former_server_uuids.clone_from(&life.former_server_uuids);
        report.last_clone_error.clone_from(&life.last_clone_error);
        report.volume = Some(Volume {
            mark: life.mark.clone(),
        });
    }

    /// Shows in the report which data directories are kept on the volume.
    pub fn set_kept(&self, kept: Vec<String>) {
        self.lock().kept = kept;
    }

    /// Shows in the report whether the volume is full. Returns whether that has changed.
    pub fn set_volume_full(&self, full: bool) -> bool {
        std::mem::replace(&mut self.lock().volume_full, full) != full
    }

    /// Shows in the report how full the volume was at this moment. It stays, with its age, until the next call.
    pub fn set_volume_usage(&self, usage: VolumeUsage, at: Instant) {
        *self.volume_usage.lock().unwrap_or_else(PoisonError::into_inner) = Some((usage, at));
    }

    fn volume_usage(&self, now: Instant) -> Option<VolumeUsage> {
        let last = *self.volume_usage.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|(usage, at)| VolumeUsage {
            seconds_ago: now.saturating_duration_since(at).as_secs(),
            ..usage
        })
    }

    fn clone_failures(&self) -> MutexGuard<'_, Option<Noted>> {
        self.clone_failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
