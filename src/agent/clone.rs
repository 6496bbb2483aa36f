//! One attempt to make this empty member a copy of a donor, and the judgement of the result.
//!
//! The statement's own answer proves little: after a success mysqld exits before it answers. Only `performance_schema.clone_status` after the
//! restart shows the result. The agent never repeats a clone without having read it.

#![allow(clippy::disallowed_methods, reason = "CLONE takes as long as it takes")]

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tracing::info;

use super::member::Member;
use super::sql::{self, Error, Sql};
use crate::mysql::gtid::{GtidSet, ParseGtidSetError};
use crate::mysql::quote::literal;
use crate::names::accounts::AGENT;

const DEADLINE: Duration = Duration::from_secs(10);

/// Why a clone did not succeed.
#[derive(Debug)]
pub struct Failed {
    /// For the report.
    pub why: String,
    /// Whether the directory is as it was before the clone. If not, the agent throws it away.
    pub untouched: bool,
}

/// Orders the clone and returns when mysqld is about to exit, or when it is clear that it will not.
///
/// # Errors
/// [`Failed`] when the member holds transactions, when mysqld or the donor refuses the clone, or when the clone fails after it has begun.
pub async fn run(member: &Member, sql: &Sql, donor: &str, port: u16) -> Result<(), Failed> {
    let mut conn = match prepare(member, sql, (donor, port)).await {
        Ok(conn) => conn,
        Err(why) => {
            return Err(Failed { why, untouched: true });
        }
    };
    info!(donor, port, "cloning");
    let statement = format!(
        "CLONE INSTANCE FROM {}@{}:{} IDENTIFIED BY {} REQUIRE SSL",
        literal(AGENT),
        literal(donor),
        port,
        literal(&sql.password())
    );
    match conn.query_drop(statement).await.map_err(Error::Mysql) {
        Err(error) if error.is_refusal() => {
            let why = format!("CLONE INSTANCE from {donor}: {error}");
            let untouched = matches!(nothing_was_dropped(&mut conn).await, Ok(true)) && fence(&mut conn).await.is_ok();
            Err(Failed { why, untouched })
        }
        // mysqld answered, or the connection ended: either mysqld exits to start with the donor's data, or it continues to clone without this
        // session.
        _ => until_it_is_over(sql).await,
    }
}

/// Checks and statements before the clone. The member's data is not changed yet.
async fn prepare(member: &Member, sql: &Sql, (donor, port): (&str, u16)) -> Result<Conn, String> {
    let mut conn = sql.connect(DEADLINE).await.map_err(|error| error.to_string())?;
    let executed: Option<String> = sql::first(&mut conn, DEADLINE, "SELECT @@GLOBAL.gtid_executed")
        .await
        .map_err(|error| error.to_string())?;
    let executed = executed.ok_or("mysqld does not say what it has executed")?;
    let executed: GtidSet = executed.parse().map_err(|error: ParseGtidSetError| error.to_string())?;
    // The life record says Empty, but a person may have opened the server by hand and written.
    if !executed.is_empty() {
        return Err(format!(
            "this member holds transactions ({}); it is not cloned over",
            executed.brief()
        ));
    }
    let donors = format!(
        "SET GLOBAL clone_valid_donor_list={}",
        literal(&format!("{donor}:{port}"))
    );
    // Without an authority the donor's certificate is not verified, and whoever has its address gets the account's password (manual, "Cloning
    // Remote Data").
    let authority = member.args.tls.join("ca.crt");
    let authority = format!("SET GLOBAL clone_ssl_ca={}", literal(&authority.to_string_lossy()));
    // CLONE is refused under super_read_only (1290), so read_only alone keeps applications out.
    for statement in [
        "SET GLOBAL read_only=ON",
        &donors,
        &authority,
        "SET GLOBAL super_read_only=OFF",
    ] {
        sql::execute(&mut conn, DEADLINE, statement)
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(conn)
}

async fn fence(conn: &mut Conn) -> Result<(), Error> {
    sql::execute(conn, DEADLINE, "SET GLOBAL super_read_only=ON").await
}

/// Whether a refused clone left the directory as it was. CLONE drops the recipient's data only after the donor has accepted.
async fn nothing_was_dropped(conn: &mut Conn) -> Result<bool, Error> {
    let dropped: Option<u64> = sql::first(
        conn,
        DEADLINE,
        "SELECT COUNT(*) FROM performance_schema.clone_progress WHERE STAGE='DROP DATA' AND STATE<>'Not Started'",
    )
    .await?;
    Ok(dropped == Some(0))
}

/// Waits until the clone has failed without its session, or mysqld ends. The caller sees mysqld's end and drops this future.
async fn until_it_is_over(sql: &Sql) -> Result<(), Failed> {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Ok(mut conn) = sql.connect(DEADLINE).await else {
            continue;
        };
        if let Ok(Some((state, error))) = status(&mut conn).await
            && state == "Failed"
        {
            return Err(Failed {
                why: error,
                untouched: false,
            });
        }
    }
}

async fn status(conn: &mut Conn) -> Result<Option<(String, String)>, Error> {
    let query = "SELECT STATE, CONCAT('error ', ERROR_NO, ': ', ERROR_MESSAGE) FROM performance_schema.clone_status \
                 WHERE DESTINATION='LOCAL INSTANCE' ORDER BY ID DESC LIMIT 1";
    sql::first(conn, DEADLINE, query).await
}

/// Judges the clone after the restart: is the directory a complete copy? If it is, the donor's links, which were copied too, are removed.
///
/// # Errors
/// [`Error`] when mysqld does not answer or refuses a statement. A clone that is not complete is the inner `Err`, with the reason.
pub async fn verify(conn: &mut Conn) -> Result<Result<(), String>, Error> {
    match status(conn).await? {
        Some((state, _)) if state == "Completed" => {}
        Some((state, error)) => {
            return Ok(Err(format!("the clone is {state} after the restart; {error}")));
        }
        None => {
            return Ok(Err("the clone did not begin before mysqld or the agent ended".into()));
        }
    }
    // This is not written to the binary log. Without it the links would replicate what the donor's links replicate.
    sql::execute(conn, DEADLINE, "RESET REPLICA ALL").await?;
    Ok(Ok(()))
}
