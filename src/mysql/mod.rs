//! MySQL's own formats and rules, without a connection. [`io`] has the connections.

pub mod alter_table;
pub mod column;
pub mod ddl;
pub mod definition;
pub mod errors;
pub mod goal;
pub mod gtid;
pub mod io;
pub mod quote;
pub mod row_events;
pub mod rows;
pub mod schema;
pub mod settings;
pub mod tokens;
pub mod transaction;
