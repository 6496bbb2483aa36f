//! Transactions, the GTIDs that name them, and sets of either.

use std::cell::RefCell;
use std::collections::HashMap;

use multimaster::mysql::gtid::GtidSet;

/// A server UUID, by the order in which they were made.
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
            text.push_str(&uuid(life));
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
    format!("{life:08x}-0000-0000-0000-000000000000")
}

/// What one transaction does: one row is enough to see whether it was applied.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Transaction {
    pub life: Life,
    pub number: usize,
    /// Its origin: the receiver of a server with this server_id drops it.
    pub server_id: u32,
    pub row: u32,
    /// A new row, or a new value of a row that is there.
    pub inserts: bool,
    /// Ordinal of the member that acknowledged it.
    pub taken_by: u8,
}

/// Every transaction that was ever acknowledged, and every life.
#[derive(Clone, Default)]
pub struct Ledger {
    pub transactions: Vec<Transaction>,
    /// Ordinals, by life.
    pub lives: Vec<u8>,
    server_ids: u32,
}

impl Ledger {
    pub fn new_life(&mut self, ordinal: u8) -> Life {
        self.lives.push(ordinal);
        self.lives.len() - 1
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
