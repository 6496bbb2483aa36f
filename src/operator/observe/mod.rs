//! Reads Kubernetes objects ([`objects`], [`pods`], [`storage`], [`credentials`]), what controllers say ([`controllers`]) and members ([`members`]). It
//! writes nothing.

pub mod controllers;
pub mod credentials;
pub mod members;
pub mod objects;
pub mod pods;
pub mod storage;
