//! Reads, and only reads: Kubernetes objects ([`objects`]) and members ([`members`]).

pub mod credentials;
pub mod members;
pub mod objects;
pub mod pods;
