//! The contracts between processes: paths, orders, reports. Data only; [`io`] sends and receives it.

pub mod agent;
pub mod balancer;
pub mod history;
pub mod io;
pub mod lease;
