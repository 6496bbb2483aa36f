//! SQL from this host: to a member by its pod's address, or to a Service by its cluster address.

use std::time::Duration;

use anyhow::{Context, Result};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, OptsBuilder, Row};
use tokio::time::timeout;

use super::PATIENCE;

const CONNECT: Duration = Duration::from_secs(5);
const STATEMENT: Duration = Duration::from_secs(30);

/// Connects, over plain TCP, as applications without certificates do.
pub async fn connect(ip: &str, user: &str, password: &str) -> Result<Conn, mysql_async::Error> {
    let options = OptsBuilder::default()
        .ip_or_hostname(ip)
        .user(Some(user))
        .pass(Some(password))
        .prefer_socket(false)
        .stmt_cache_size(0);
    timeout(CONNECT, Conn::new(options))
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn late() -> mysql_async::Error {
    mysql_async::Error::Io(mysql_async::IoError::Io(std::io::ErrorKind::TimedOut.into()))
}

/// Runs a statement.
pub async fn run(conn: &mut Conn, sql: &str) -> Result<(), mysql_async::Error> {
    run_within(STATEMENT, conn, sql).await
}

/// Runs a statement that takes long, because it is large.
pub async fn run_large(conn: &mut Conn, sql: &str) -> Result<(), mysql_async::Error> {
    run_within(PATIENCE, conn, sql).await
}

async fn run_within(deadline: Duration, conn: &mut Conn, sql: &str) -> Result<(), mysql_async::Error> {
    timeout(deadline, conn.query_drop(sql))
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// All rows of a query.
pub async fn rows<T: FromRow + Send + 'static>(conn: &mut Conn, sql: &str) -> Result<Vec<T>> {
    timeout(STATEMENT, conn.query(sql))
        .await
        .with_context(|| format!("no answer: {sql}"))?
        .with_context(|| sql.to_owned())
}

/// The first value of the first row.
pub async fn value<T: mysql_async::prelude::FromValue + Send + 'static>(conn: &mut Conn, sql: &str) -> Result<T> {
    let row: Row = rows(conn, sql)
        .await?
        .into_iter()
        .next()
        .with_context(|| format!("no row: {sql}"))?;
    row.get(0).with_context(|| format!("no value: {sql}"))
}

/// A column of the first row by its name, as text; what is NULL is empty.
pub async fn column(conn: &mut Conn, sql: &str, name: &str) -> Result<String> {
    let row: Row = rows(conn, sql)
        .await?
        .into_iter()
        .next()
        .with_context(|| format!("no row: {sql}"))?;
    let text: Option<String> = row.get(name).with_context(|| format!("no {name}: {sql}"))?;
    Ok(text.unwrap_or_default())
}

/// Address of the client, as the server sees it.
pub async fn client(conn: &mut Conn) -> Result<String> {
    let query = "SELECT SUBSTRING_INDEX(HOST, ':', 1) FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()";
    value(conn, query).await
}
