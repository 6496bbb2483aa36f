//! Conflicts: what an applier stopped at, which rows win, and when it is settled. `docs/ring.md`, "Conflicts".
//!
//! - [`record`]: a conflict as `multimaster.conflicts` has it.  [`unread`]: records that cannot be read, or are too many to be read.
//! - [`images`]: which images of rows a record itself has.
//! - [`late`]: which writes of a losing side are late.
//! - [`orders`]: what a person says of them.
//! - [`sides`]: which records are one conflict, and which member wins.
//! - [`stages`]: the next step.
//! - [`compared`]: what follows when rows were compared.
//! - [`schema_changes`]: schema changes that two members carried out.
//! - [`past`]: how a row of the winner was before late writes.
//! - [`taking`]: how the changes of a transaction are carried out where other rows are in their way.
//! - [`mod@message`]: what people read of them.

pub mod compared;
pub mod images;
pub mod late;
pub mod message;
pub mod orders;
pub mod past;
pub mod record;
pub mod schema_changes;
pub mod sides;
pub mod stages;
pub mod taking;
pub mod unread;

pub use compared::{Outcome, outcome};
pub use late::Late;
pub use message::{count, message};
pub use orders::ordered;
pub use past::Past;
pub use record::{ConflictingRow, Record, Stage, holds, is_ours};
pub use sides::{Sides, related, writer};
pub use stages::{awaited, examined_again, next, settled};
