//! What a person says of conflicts, by the annotation `multimaster.dev/settle`.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::record::{Record, Stage};
use crate::decide::observed::Observed;
use crate::names::{self, ANNOTATION_SETTLE};

/// The word in place of a member.
pub const SETTLED: &str = "settled";

/// What a person says of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The rows of this member win.
    Winner(u8),
    /// The rows are right as they are, wherever they are.
    Settled,
}

/// What the annotation says, by the ids of conflicts.
///
/// # Errors
/// What is wrong with the annotation, and the way out.
pub fn ordered(observed: &Observed) -> Result<BTreeMap<String, Order>, String> {
    let Some(text) = observed.cluster.annotations().get(ANNOTATION_SETTLE) else {
        return Ok(BTreeMap::new());
    };
    let orders = text.split(',').map(str::trim).filter(|order| !order.is_empty());
    orders
        .map(|order| {
            let said = order.split_once('=').and_then(|(id, word)| {
                let said = match word.trim() {
                    SETTLED => Order::Settled,
                    name => {
                        let ordinal = names::ordinal_of(observed.name(), name)?;
                        observed.member(ordinal).map(|_| Order::Winner(ordinal))?
                    }
                };
                Some((id.trim().to_owned(), said))
            });
            said.ok_or_else(|| {
                format!(
                    "annotation {ANNOTATION_SETTLE}: {order:?} is not the id of a conflict, '=' and the name of a member \
                     (1f3a9c04={}) or '{SETTLED}', so nothing is settled by it",
                    names::member(observed.name(), 0)
                )
            })
        })
        .collect()
}

/// The members that a person names for rows of a record.
fn winners<'a>(orders: &'a BTreeMap<String, Order>, record: &'a Record) -> impl Iterator<Item = u8> + 'a {
    record.rows.iter().filter_map(|row| match orders.get(&row.id) {
        Some(Order::Winner(ordinal)) => Some(*ordinal),
        _ => None,
    })
}

/// The member that a person names for the rows of a record; `None`: no member, or several.
pub fn winner(orders: &BTreeMap<String, Order>, record: &Record) -> Option<u8> {
    let mut named = winners(orders, record);
    let first = named.next()?;
    named.all(|other| other == first).then_some(first)
}

/// Whether a person names several members for the rows of one record. A transaction is taken whole, so one member wins all of it.
pub fn disagree(orders: &BTreeMap<String, Order>, record: &Record) -> bool {
    winner(orders, record).is_none() && winners(orders, record).next().is_some()
}

/// Whether a person says, by the id of one of its rows, that a conflict is settled.
pub fn says_settled(orders: &BTreeMap<String, Order>, record: &Record) -> bool {
    let mut rows = record.rows.iter();
    rows.any(|row| orders.get(&row.id) == Some(&Order::Settled))
}

/// Whether a conflict is settled by such a word: its transaction is executed, and nobody else can settle it.
pub fn is_heard(record: &Record) -> bool {
    record.stage == Stage::Taken && record.for_a_person.is_some()
}
