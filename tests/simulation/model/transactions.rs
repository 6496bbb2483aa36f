//! Transactions, the GTIDs that name them, and sets of either.

use std::cell::RefCell;
use std::collections::HashMap;

use multimaster::decide::conflicts::Record;
use multimaster::mysql::gtid::GtidSet;
use multimaster::names::GTID_TAG;

/// A server UUID, by the order in which they were made: an even number. The odd number after it is the UUID with the operator's tag.
pub type Life = usize;
/// A transaction, whatever its name: two transactions may wrongly have the same GTID, and never have the same number here.
pub type Id = usize;

/// A set of small numbers.
#[derive(Clone, Default, Debug, Hash)]
pub struct Bits(Vec<u64>);

impl Bits {
    pub fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub fn put(&mut self, at: usize) {
        if self.0.len() <= at / 64 {
            self.0.resize(at / 64 + 1, 0);
        }
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn contains(&self, other: &Self) -> bool {
        let word = |at| self.0.get(at).copied().unwrap_or(0);
        other.0.iter().enumerate().all(|(at, theirs)| theirs & !word(at) == 0)
    }

    pub fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (ours, theirs) in self.0.iter_mut().zip(&other.0) {
            *ours |= theirs;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.0.len() * 64).filter(|at| self.has(*at))
    }
}

/// A GTID set.
#[derive(Clone, Default, Debug, Hash)]
pub struct Set(Vec<Bits>);

impl Set {
    pub fn has(&self, life: Life, number: usize) -> bool {
        self.0.get(life).is_some_and(|bits| bits.has(number))
    }

    pub fn put(&mut self, life: Life, number: usize) {
        if self.0.len() <= life {
            self.0.resize(life + 1, Bits::default());
        }
        self.0[life].put(number);
    }

    pub fn only(&self, life: Life) -> Bits {
        self.0.get(life).cloned().unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bits::is_empty)
    }

    pub fn contains(&self, other: &Self) -> bool {
        let nothing = Bits::default();
        let ours = |life| self.0.get(life).unwrap_or(&nothing);
        other
            .0
            .iter()
            .enumerate()
            .all(|(life, theirs)| ours(life).contains(theirs))
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        if union.0.len() < other.0.len() {
            union.0.resize(other.0.len(), Bits::default());
        }
        for (ours, theirs) in union.0.iter_mut().zip(&other.0) {
            ours.add(theirs);
        }
        union
    }

    /// The number that mysqld gives to the next transaction of this life: the lowest that is free.
    pub fn next(&self, life: Life) -> usize {
        let bits = self.only(life);
        (1..).find(|number| !bits.has(*number)).unwrap_or_default()
    }

    /// As MySQL prints it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (life, bits) in self.0.iter().enumerate().filter(|(_, bits)| !bits.is_empty()) {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&name(life));
            let mut numbers = bits.iter().peekable();
            while let Some(first) = numbers.next() {
                let mut last = first;
                while let Some(next) = numbers.next_if(|next| *next == last + 1) {
                    last = next;
                }
                text.push_str(&format!(":{first}-{last}"));
            }
        }
        text
    }

    /// As the operator reads it. Members have the same few sets again and again.
    pub fn gtid_set(&self) -> GtidSet {
        thread_local! { static READ: RefCell<HashMap<String, GtidSet>> = RefCell::default(); }
        let text = self.text();
        READ.with_borrow_mut(|read| {
            if read.len() > 1000 {
                read.clear();
            }
            read.entry(text)
                .or_insert_with_key(|text| text.parse().unwrap())
                .clone()
        })
    }
}

/// The server UUID of a life.
pub fn uuid(life: Life) -> String {
    format!("{:08x}-0000-0000-0000-000000000000", life / 2)
}

/// A GTID without its number.
fn name(life: Life) -> String {
    match life % 2 {
        0 => uuid(life),
        _ => format!("{}:{GTID_TAG}", uuid(life)),
    }
}

/// What the operator writes under a life has the tag.
pub fn tagged(life: Life) -> Life {
    life | 1
}

/// What a transaction does with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The row is new, and gets this value.
    Insert(Id),
    /// The row is there, and gets this value.
    Update(Id),
    /// The row is there, and goes.
    Delete,
    /// A row that is there goes, and comes back with this value: what a re-assertion writes.
    Replace(Id),
    /// An empty transaction.
    Nothing,
    /// It writes this record of the ledger to the table of conflicts.
    Record(usize),
}

impl Change {
    /// Whether it needs the row to be there, or not to be there.
    pub fn expects(self) -> Option<bool> {
        match self {
            Self::Insert(_) => Some(false),
            Self::Update(_) | Self::Delete | Self::Replace(_) => Some(true),
            Self::Nothing | Self::Record(_) => None,
        }
    }

    /// The value of the row afterwards; `None`: the row is not there then, or is not changed.
    pub fn value(self) -> Option<Id> {
        match self {
            Self::Insert(value) | Self::Update(value) | Self::Replace(value) => Some(value),
            Self::Delete | Self::Nothing | Self::Record(_) => None,
        }
    }

    /// The form in which it is carried out where the row is there, or is not: `src/decide/conflicts/taking.rs`.
    pub fn taken(self, is_there: bool) -> Self {
        match (self, is_there) {
            (Self::Insert(value), true) => Self::Update(value),
            (Self::Update(_) | Self::Delete, false) => Self::Nothing,
            (Self::Replace(value), false) => Self::Insert(value),
            (change, _) => change,
        }
    }
}

/// One transaction. One row is enough to see whether it was applied.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Transaction {
    pub life: Life,
    pub number: usize,
    /// Its origin: the receiver of a server with this server_id drops it.
    pub server_id: u32,
    pub row: u32,
    pub change: Change,
    /// The transaction that a client or the operator wrote. A member that took it in another form logged that form under the same GTID.
    pub of: Id,
    /// Ordinal of the member that acknowledged it.
    pub taken_by: u8,
}

/// Every transaction that was ever acknowledged, and every life.
#[derive(Clone, Default)]
pub struct Ledger {
    pub transactions: Vec<Transaction>,
    /// Ordinals, by life.
    pub lives: Vec<u8>,
    /// All states of conflict records that were ever written.
    pub records: Vec<Record>,
    server_ids: u32,
}

impl Ledger {
    pub fn new_life(&mut self, ordinal: u8) -> Life {
        self.lives.push(ordinal);
        2 * (self.lives.len() - 1)
    }

    /// As MySQL writes it.
    pub fn gtid(&self, id: Id) -> String {
        let transaction = &self.transactions[id];
        format!("{}:{}", name(transaction.life), transaction.number)
    }

    /// The same transaction in the form in which a member carried it out.
    pub fn in_form(&mut self, id: Id, change: Change) -> Id {
        let transaction = self.transactions[id];
        if transaction.change == change {
            return id;
        }
        self.transactions.push(Transaction { change, ..transaction });
        self.transactions.len() - 1
    }

    /// Two lives never share one; the low four bits tell the ordinal.
    pub fn new_server_id(&mut self, ordinal: u8) -> u32 {
        self.server_ids += 1;
        (self.server_ids << 4) | (u32::from(ordinal) + 1)
    }

    pub fn name(&self, id: Id) -> String {
        let transaction = &self.transactions[id];
        format!("{:x}:{}", transaction.life, transaction.number)
    }
}
