//! What examining a transaction found.

use crate::decide::conflicts::ConflictingRow;
use crate::mysql::transaction::Transaction;

/// The result of examining a transaction.
#[derive(Default)]
pub(super) struct Finding {
    /// The rows that are in its way, and its own rows.
    pub(super) rows: Vec<ConflictingRow>,
    /// Why only a person can settle it, and what to do.
    pub(super) for_a_person: Option<String>,
    /// Whether it is a statement, and what it wants is so already, the same on both sides.
    pub(super) identical: bool,
    /// The transaction itself.
    pub(super) transaction: Transaction,
}

impl Finding {
    pub(super) fn for_a_person(why: String) -> Self {
        Self {
            for_a_person: Some(why),
            ..Self::default()
        }
    }
}
