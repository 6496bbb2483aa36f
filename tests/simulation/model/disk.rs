//! What a volume holds: the agent's life record and mysqld's data directory. It survives every crash, and may be lost or set back.

use std::collections::{BTreeMap, VecDeque};

use multimaster::wire::agent::Origin;

use super::transactions::{Bits, Change, Id, Ledger, Life, Set};

/// Rows from here on are named by clients; below, by auto-increment.
pub const NAMED_ROWS: u32 = 1_000_000;
/// `auto_increment_increment`.
pub const INCREMENT: u32 = 9;

#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub record: Option<Record>,
    pub data: Option<Data>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    Cloning,
    NewLife,
    Emptying,
}

/// `life.json`.
#[derive(Clone, Debug)]
pub struct Record {
    pub server_id: u32,
    pub uuid: Option<Life>,
    pub origin: Origin,
    pub former: Vec<Life>,
    pub intent: Option<Intent>,
    pub clone_error: Option<String>,
    /// Clones that failed since one succeeded.
    pub failed_clones: u32,
    /// When the last one was ordered; `None`: so long ago that nothing waits any more.
    pub clone_ordered_at: Option<u64>,
    /// The operator has said whose the volume is.
    pub marked: bool,
}

/// The data directory.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// `auto.cnf`; without it mysqld makes a new UUID.
    pub uuid: Option<Life>,
    pub executed: Set,
    pub purged: Set,
    /// All that was ever written to the binary log; what is before `first` is purged.
    pub binary_log: Vec<Id>,
    /// Beside each of them, the row before it.
    pub before: Vec<Option<Id>>,
    pub first: usize,
    /// Which transactions made the rows what they are, whatever their GTIDs.
    pub contents: Bits,
    /// The value of each row: the transaction that wrote it.
    pub rows: BTreeMap<u32, Id>,
    /// `multimaster.conflicts`: the newest state of each record, by observer and GTID.
    pub records: BTreeMap<(String, String), usize>,
    /// Rows that were copied aside; `None`: the row was not there.
    pub kept: BTreeMap<u32, Option<Id>>,
    /// InnoDB's auto-increment counter.
    pub counter: u32,
    pub channels: Vec<Channel>,
    /// The last clone into this directory was complete.
    pub cloned: bool,
}

/// One replication channel: its relay logs are as durable as tables, its threads are not.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    pub upstream: u8,
    pub retrieved: Set,
    pub relay_log: VecDeque<Id>,
    /// Of the server that the receiver was last connected to.
    pub source: Option<Life>,
    pub receiver: bool,
    pub connection: Option<Connection>,
    pub receiver_error: Option<(u32, String)>,
    pub applier: bool,
    pub applier_error: Option<(u32, String)>,
    /// When the applier last stopped for an error.
    pub failed_at: u64,
    /// When the source last sent anything.
    pub heard: u64,
}

/// A dump thread at the source, and how far it is.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The run of the source's mysqld.
    pub boot: u64,
    pub cursor: usize,
    /// What the replica had when it connected.
    pub had: Set,
}

impl Channel {
    pub fn stop(&mut self) {
        self.stop_receiver();
        self.applier = false;
    }

    pub fn stop_receiver(&mut self) {
        self.receiver = false;
        self.connection = None;
        self.receiver_error = None;
    }

    pub fn start(&mut self) {
        if !self.receiver {
            self.receiver_error = None;
        }
        self.receiver = true;
        self.start_applier();
    }

    fn without_relay_log(&self) -> Self {
        Self {
            retrieved: Set::default(),
            relay_log: VecDeque::new(),
            ..self.clone()
        }
    }

    pub fn start_applier(&mut self) {
        if !self.applier {
            self.applier_error = None;
        }
        self.applier = true;
    }

    /// mysqld ended: threads and errors are gone. With `relay_log_recovery=OFF` the relay logs stay; of what was applied they remember
    /// nothing, since applied relay logs are purged.
    pub fn crash(&mut self, ledger: &Ledger) {
        self.stop();
        self.applier_error = None;
        self.retrieved = Set::default();
        for id in &self.relay_log {
            let transaction = ledger.transactions[*id];
            self.retrieved.put(transaction.life, transaction.number);
        }
    }
}

impl Record {
    /// A new server_id, the old UUID remembered.
    pub fn begin_anew(&mut self, ordinal: u8, on_disk: Option<Life>, ledger: &mut Ledger) {
        for uuid in self.uuid.take().into_iter().chain(on_disk) {
            if !self.former.contains(&uuid) {
                self.former.push(uuid);
            }
        }
        self.server_id = ledger.new_server_id(ordinal);
    }

    fn empty(ordinal: u8, earlier: Option<Self>, ledger: &mut Ledger) -> Self {
        let mut record = earlier.unwrap_or(Self {
            server_id: 0,
            uuid: None,
            origin: Origin::Empty,
            former: Vec::new(),
            intent: None,
            clone_error: None,
            failed_clones: 0,
            clone_ordered_at: None,
            marked: false,
        });
        record.begin_anew(ordinal, None, ledger);
        record.origin = Origin::Empty;
        record.intent = None;
        record
    }
}

impl Disk {
    /// What the agent does before it starts mysqld. `keep_server_id` is a flaw that tests put in.
    pub fn prepare(&mut self, ordinal: u8, keep_server_id: bool, ledger: &mut Ledger) {
        // Files that the agent keeps are for people: here they are gone, and whoever misses them finds it.
        if self
            .record
            .as_ref()
            .is_some_and(|record| record.intent == Some(Intent::Emptying))
        {
            self.data = None;
        }
        let (Some(record), Some(data)) = (&mut self.record, &mut self.data) else {
            self.record = Some(Record::empty(ordinal, self.record.take(), ledger));
            self.data = Some(Data::default());
            return;
        };
        let behind_its_back = record.uuid.is_some() && record.uuid != data.uuid;
        if record.intent.is_some() || behind_its_back {
            let server_id = record.server_id;
            record.begin_anew(ordinal, data.uuid, ledger);
            if keep_server_id {
                record.server_id = server_id;
            }
            data.uuid = None;
            if record.intent == Some(Intent::NewLife) {
                record.intent = None;
            }
        }
    }

    /// What the agent does once mysqld answers.
    pub fn arrive(&mut self, ordinal: u8, ledger: &mut Ledger) {
        let (Some(record), Some(data)) = (&mut self.record, &mut self.data) else {
            return;
        };
        let uuid = *data.uuid.get_or_insert_with(|| ledger.new_life(ordinal));
        if record.intent == Some(Intent::Cloning) {
            if !data.cloned {
                // The clone did not complete: what it left is thrown away, and an empty directory is made.
                record.clone_error = Some("the clone did not complete".into());
                record.failed_clones += 1;
                self.data = None;
                return;
            }
            record.origin = Origin::Cloned;
            record.intent = None;
            record.failed_clones = 0;
            data.channels.clear();
        } else if record.origin != Origin::Empty && record.marked {
            data.channels.iter_mut().for_each(Channel::start);
        }
        record.uuid = Some(uuid);
    }

    /// The transactions that are on this disk: in tables, or in relay logs.
    pub fn copies(&self, ledger: &Ledger) -> Bits {
        let Some(data) = &self.data else { return Bits::default() };
        let mut copies = data.contents.clone();
        data.channels
            .iter()
            .flat_map(|channel| &channel.relay_log)
            .for_each(|id| copies.put(ledger.transactions[*id].of));
        copies
    }
}

impl Data {
    /// The next value of the auto-increment column at this member.
    pub fn next_row(&self, ordinal: u8) -> u32 {
        let offset = u32::from(ordinal) + 1;
        (self.counter + 1..)
            .find(|row| row % INCREMENT == offset % INCREMENT)
            .unwrap_or_default()
    }

    /// Executes a transaction and logs it, or says why it cannot be applied.
    pub fn execute(&mut self, id: Id, ledger: &Ledger) -> Result<(), (u32, String)> {
        let transaction = &ledger.transactions[id];
        match (transaction.change.expects(), self.rows.contains_key(&transaction.row)) {
            (Some(false), true) => return Err((1062, format!("Duplicate entry '{}'", transaction.row))),
            (Some(true), false) => return Err((1032, format!("Can't find record '{}'", transaction.row))),
            _ => {}
        }
        self.log(id, self.rows.get(&transaction.row).copied());
        match transaction.change {
            Change::Insert(value) | Change::Update(value) | Change::Replace(value) => {
                self.rows.insert(transaction.row, value);
            }
            Change::Delete => {
                self.rows.remove(&transaction.row);
            }
            Change::Nothing => {}
            Change::Record(number) => {
                let record = &ledger.records[number];
                self.records
                    .insert((record.observer.clone(), record.gtid.clone()), number);
            }
        }
        if transaction.row < NAMED_ROWS {
            self.counter = self.counter.max(transaction.row);
        }
        self.executed.put(transaction.life, transaction.number);
        self.contents.put(transaction.of);
        Ok(())
    }

    pub fn log(&mut self, id: Id, before: Option<Id>) {
        self.binary_log.push(id);
        self.before.push(before);
    }

    pub fn channel(&mut self, upstream: u8) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| channel.upstream == upstream)
    }

    /// A copy of the donor as CLONE leaves it: no binary logs, all it has counts as purged.
    pub fn clone_of(donor: &Self) -> Self {
        Self {
            uuid: None,
            executed: donor.executed.clone(),
            purged: donor.executed.clone(),
            binary_log: Vec::new(),
            before: Vec::new(),
            first: 0,
            contents: donor.contents.clone(),
            rows: donor.rows.clone(),
            records: donor.records.clone(),
            kept: donor.kept.clone(),
            counter: donor.counter,
            // Their rows in `mysql` are copied, their relay logs are not.
            channels: donor.channels.iter().map(Channel::without_relay_log).collect(),
            cloned: true,
        }
    }
}
