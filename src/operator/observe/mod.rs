//! Reads Kubernetes objects ([`objects`], [`pods`], [`storage`], [`credentials`]), what controllers say ([`controllers`], [`remembered`]) and members ([`members`]), and notes whether it had a processor meanwhile ([`lateness`]). It
//! writes nothing.

pub mod controllers;
pub mod credentials;
pub mod lateness;
pub mod members;
pub mod objects;
pub mod pods;
pub mod remembered;
pub mod storage;
