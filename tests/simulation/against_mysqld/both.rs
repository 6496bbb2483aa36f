//! One history on the model and on real servers, compared whenever nothing moves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use multimaster::decide::observed::{Receiver, Server};
use multimaster::mysql::gtid::GtidSet;
use multimaster::names;
use multimaster::wire::agent::Origin;

use super::modelled::Modelled;
use super::operation::Operation;
use super::real::Real;
use crate::model::transactions::{Id, Life, uuid};
use crate::observe::server;
use crate::world::World;

/// The real servers are given so long to become what the model is.
const PATIENCE: Duration = Duration::from_secs(180);
/// So often in a row must they be seen to be equal: what should stay away must not come a moment later.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(150);

pub struct Both {
    modelled: Modelled,
    real: Real,
    /// The real server UUID of each life of the model.
    lives: BTreeMap<Life, String>,
    done: Vec<String>,
}

/// What is compared of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    server_uuid: String,
    origin: Origin,
    super_read_only: bool,
    executed: GtidSet,
    purged: GtidSet,
    channels: Vec<SeenChannel>,
    rows: BTreeMap<u32, Id>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SeenChannel {
    name: String,
    source_uuid: Option<String>,
    receiver: Receiver,
    /// Of a receiver that gave up; one that still tries says why, and that goes by.
    receiver_error: Option<u32>,
    applier: bool,
    applier_error: Option<u32>,
    /// Retrieved, not executed.
    waiting: GtidSet,
}

impl Both {
    pub async fn new(number: u8, members: u8) -> Option<Self> {
        let real = Real::new(number, members).await?;
        let mut both = Self {
            modelled: Modelled::new(members),
            real,
            lives: BTreeMap::new(),
            done: Vec::new(),
        };
        both.compare().await;
        Some(both)
    }

    /// Operations one after the other; after each, both are the same.
    pub async fn perform(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.done.push(format!("{operation:?}"));
            let expected = self.modelled.perform(*operation);
            let written = expected.clone().ok().flatten();
            let found = self.real.perform(*operation, written).await;
            let same = match (&expected, &found) {
                (Ok(_), Ok(())) => true,
                (Err(expected), Err(found)) => number(expected).is_none_or(|it| number(found) == Some(it)),
                _ => false,
            };
            assert!(
                same,
                "{}: the model says {expected:?}, mysqld {found:?}",
                self.done.join(", ")
            );
            self.compare().await;
            println!("{operation:?}: {expected:?}");
        }
    }

    pub fn world(&self) -> &World {
        &self.modelled.world
    }

    async fn compare(&mut self) {
        let end = Instant::now() + PATIENCE;
        let mut equal = 0;
        while equal < LOOKS {
            let difference = self.difference().await;
            equal = if difference.is_none() { equal + 1 } else { 0 };
            if let Some(difference) = difference.filter(|_| Instant::now() > end) {
                panic!("after {}:\n{difference}", self.done.join(", "));
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// What the model and a member do not agree about.
    async fn difference(&mut self) -> Option<String> {
        for at in (0..self.modelled.world.setup.members).filter(|at| self.real.is_up(*at)) {
            let (Some(report), Some(found)) = (self.real.report(at).await, self.real.server(at).await) else {
                return Some(format!("{at} does not answer"));
            };
            let member = &self.modelled.world.members[usize::from(at)];
            let life = member.data().and_then(|data| data.uuid)?;
            let lives = self.with(life, &found.uuid);
            let expected = seen(
                &renamed(
                    server(member, self.modelled.world.now, &self.modelled.world.ledger)?,
                    &lives,
                ),
                member.disk.record.as_ref()?.origin,
                member.data()?.rows.clone(),
            );
            let errors: Vec<_> = found
                .channels
                .iter()
                .map(|channel| channel.receiver_error.clone())
                .collect();
            let found = seen(&found, report.origin, self.real.rows(at).await);
            if expected != found {
                return Some(format!(
                    "model {at}: {expected:#?}\nmysqld {at}: {found:#?}\n{errors:#?}"
                ));
            }
            self.lives = lives;
        }
        None
    }

    /// A life that is new in the model takes the UUID of the server, if that is new too.
    fn with(&self, life: Life, found: &str) -> BTreeMap<Life, String> {
        let mut lives = self.lives.clone();
        if !lives.values().any(|known| known == found) {
            lives.entry(life).or_insert_with(|| found.into());
        }
        lives
    }
}

/// The number that a message of MySQL begins with.
fn number(text: &str) -> Option<u32> {
    text.split_once(':')?.0.parse().ok()
}

/// The model's server UUIDs replaced by the real ones.
fn renamed(mut server: Server, lives: &BTreeMap<Life, String>) -> Server {
    let real = |text: &str| {
        let rename = |text: String, (life, real): (&Life, &String)| text.replace(&uuid(*life), real);
        lives.iter().fold(text.to_owned(), rename)
    };
    let set = |set: &GtidSet| real(&set.to_string()).parse().unwrap();
    server.uuid = real(&server.uuid);
    server.executed = set(&server.executed);
    server.purged = set(&server.purged);
    for channel in &mut server.channels {
        channel.source_uuid = channel.source_uuid.as_deref().map(real);
        channel.retrieved = set(&channel.retrieved);
    }
    server
}

fn seen(server: &Server, origin: Origin, rows: BTreeMap<u32, Id>) -> Seen {
    let mut channels: Vec<SeenChannel> = server
        .channels
        .iter()
        .filter(|channel| names::upstream_of(&channel.name).is_some())
        .map(|channel| SeenChannel {
            name: channel.name.clone(),
            source_uuid: channel.source_uuid.clone(),
            receiver: channel.receiver,
            receiver_error: channel
                .receiver_error
                .as_ref()
                .map(|error| error.number)
                .filter(|_| channel.receiver == Receiver::Off),
            applier: channel.applier_running,
            applier_error: channel.applier_error.as_ref().map(|error| error.number),
            waiting: channel.retrieved.difference(&server.executed),
        })
        .collect();
    channels.sort_by(|one, other| one.name.cmp(&other.name));
    Seen {
        server_uuid: server.uuid.clone(),
        origin,
        super_read_only: server.super_read_only,
        executed: server.executed.clone(),
        purged: server.purged.clone(),
        channels,
        rows,
    }
}
