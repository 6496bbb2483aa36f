//! What the processes say to each other: paths, orders, reports. Data only; [`io`] carries it.

pub mod agent;
pub mod balancer;
pub mod history;
pub mod io;
