//! Which members get clients: the writer, reads, HAProxy's servers, fencing by hand, restarts.

pub mod balance;
pub mod drain;
pub mod endpoints;
pub mod fencing;
pub mod lag;
pub mod opening;
pub mod reads;
pub mod restart;
pub mod voters;
pub mod writer;
