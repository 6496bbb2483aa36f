//! Conflicts: what an applier stopped at, who wins, and when it is settled. `docs/ring.md`, "Conflicts".
//!
//! - [`record`]: a conflict as `multimaster.conflicts` has it.  [`unread`]: records that cannot be read, or are too many to be read.
//! - [`sides`]: which records are one conflict, and who wins.
//! - [`stages`]: the next step.
//! - [`message`]: what people are told.

pub mod message;
pub mod record;
pub mod sides;
pub mod stages;
pub mod unread;

pub use message::{count, told};
pub use record::{ConflictingRow, Record, Stage, is_ours};
pub use sides::{group, losers, open, ordered, winner, writer};
pub use stages::{awaited, next};
