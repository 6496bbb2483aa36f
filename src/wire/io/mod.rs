//! How what is in [`super`] travels: the ports of an agent or balancer, and the client that asks them.

pub mod client;
pub mod ports;
