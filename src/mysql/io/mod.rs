//! MySQL with a connection. Every wait has a deadline; for [`connection::rows`] the caller sets it.

pub mod binlog;
pub mod connection;
pub mod contact;
pub mod statements;
pub mod table;
