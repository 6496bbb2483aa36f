//! What people read: the status, its conditions, the state of each member, events.

pub mod conditions;
pub mod events;
pub mod fitted;
pub mod judgement;
mod reach;
pub mod room;
mod stalled;
pub mod states;
pub mod status;
pub mod unexplained;
