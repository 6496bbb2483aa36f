//! Conflict steps against real servers: `MYSQL_ROOT=... cargo test --test conflicts -- --ignored`, see tests/agent.rs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "conflicts/bad_input.rs"]
mod bad_input;
#[path = "conflicts/cut.rs"]
mod cut;
#[path = "agent/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "conflicts/late.rs"]
mod late;
#[path = "conflicts/locks.rs"]
mod locks;
#[path = "conflicts/referenced.rs"]
mod referenced;
#[path = "conflicts/ring.rs"]
mod ring;
#[path = "conflicts/schema.rs"]
mod schema;
#[path = "conflicts/three.rs"]
mod three;
#[path = "conflicts/triggers.rs"]
mod triggers;
#[path = "conflicts/types.rs"]
mod types;

use multimaster::wire::agent::{Order, VERSION};

fn order(uuid: &str) -> Order {
    Order {
        version: VERSION,
        server_uuid: uuid.into(),
    }
}
