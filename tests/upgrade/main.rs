//! What earlier versions left behind is read by this one, and means the same. `docs/ring.md`, "Versions side by side".
//!
//! A folder for each commit whose rings may still run, as it was captured from rings that ran (`tests/e2e/capture.rs`):
//!
//! - `crds.yaml`, `rbac.yaml`: what was installed.
//! - `rings/<case>/`: a ring: the resource with its status, objects that the API server does not let change, the Secrets' keys (every value is
//!   made up), and for each member `life.json`, what its agent and its server said, and its records of conflicts.
//! - `written/`: what exists for moments only, or on the wire, as the code of that commit wrote it (`write.rs`).
//!
//! A file there is never changed. A commit whose rings are to go on gets a folder of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../decide/fixture.rs"]
#[allow(dead_code)]
mod fixture;

mod conflicts;
mod crds;
mod decisions;
mod kept;
mod life;
mod marks;
mod objects;
mod rights;
mod wire;
mod write;

/// Commits whose rings go on.
const VERSIONS: [&str; 1] = ["b2239ad"];
