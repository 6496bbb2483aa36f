//! What the operator acts on: MySQL servers, their volumes, pods, and the network between them.

pub mod disk;
pub mod member;
pub mod replication;
pub mod transactions;
