//! What people read: the status, its conditions, the state of each member, events.

pub mod conditions;
pub mod events;
pub mod judgement;
pub mod states;
pub mod status;
