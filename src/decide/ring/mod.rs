//! Which members are in the ring, and what its links need: failure, healing, re-insertion, rebuilding.

pub mod behind;
pub mod founding;
pub mod health;
pub mod leftover;
pub mod lineage;
pub mod links;
pub mod long_sets;
pub mod membership;
pub mod ownership;
pub mod rebuild;
pub mod recorded;
pub mod topology;
