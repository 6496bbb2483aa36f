//! Reads Kubernetes objects ([`objects`], [`pods`], [`credentials`]) and members ([`members`]). It writes nothing.

pub mod credentials;
pub mod members;
pub mod objects;
pub mod pods;
