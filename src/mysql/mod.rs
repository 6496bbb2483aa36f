//! What is MySQL's own. Without a connection but in [`io`].

pub mod gtid;
pub mod io;
pub mod quote;
pub mod rows;
pub mod schema;
pub mod settings;
pub mod transaction;
