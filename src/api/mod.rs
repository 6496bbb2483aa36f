//! The kinds: what people write and what they read.
//!
//! - [`cluster`]: `MultiMasterCluster`; [`ring`] and [`balancer`] are parts of its spec, [`status`] is what the operator says of it.
//! - [`reasons`]: of conditions and events.
//! - [`schema`]: the CustomResourceDefinitions.

pub mod as_read;
pub mod balancer;
#[allow(
    dead_code,
    reason = "KubeSchema makes a copy of each struct, of which only the schema is used"
)]
pub mod cluster;
mod limits;
mod newer;
pub mod reasons;
pub mod ring;
pub mod schema;
#[allow(
    dead_code,
    reason = "KubeSchema makes a copy of each struct, of which only the schema is used"
)]
pub mod status;
mod stored;
pub mod voters;

pub use cluster::*;
pub use ring::*;
pub use schema::crd;
