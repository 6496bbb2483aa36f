//! Sends and receives the data of [`super`]: the ports of an agent or balancer, and their client.

pub mod client;
pub mod limits;
pub mod ports;
