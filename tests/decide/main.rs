//! Decisions from tables: what was observed, what must be done, without any cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod fixture;

mod balance;
mod behind;
mod comparison;
mod conditions;
mod conflicts;
mod copies;
mod endpoints;
mod fencing;
mod founding;
mod healing;
mod isolation;
mod late;
mod links;
mod long_sets;
mod loss;
mod ownership;
mod purity;
mod reads;
mod rebuild;
mod restart;
mod restore;
mod retry;
mod room;
mod scale;
mod sides;
mod unexplained;
mod unread;
mod versions;
mod volumes;
mod voters;
mod writer;
