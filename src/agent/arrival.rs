//! The work after a start of mysqld: judge a clone, or start the stored links.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use mysql_async::Conn;
use tracing::{info, warn};

use super::clone;
use super::life::{Intent, Life};
use super::member::{Member, Shared};
use super::sql;
use crate::api::Positioning;
use crate::mysql::quote::literal;
use crate::wire::agent::Origin;

const DEADLINE: Duration = Duration::from_secs(10);

/// What the agent found once mysqld answered.
pub struct Arrival {
    /// Its server UUID.
    pub uuid: String,
    /// Whether a clone is complete; `None`: there was no clone to judge.
    pub clone: Option<Result<(), String>>,
}

/// Waits until mysqld answers, then judges a clone, or starts the stored links. The server stays fenced.
///
/// # Errors
/// When mysqld runs and refuses the agent's own account: the init file was not carried out to its end. Every other error is tried again.
pub async fn arrive(member: &Member, shared: &Shared, life: Life, answered: &AtomicBool) -> anyhow::Result<Arrival> {
    let mut logged = String::new();
    loop {
        match try_once(member, shared, &life, answered).await {
            Ok(arrival) => return Ok(arrival),
            Err(error) if error.is_access_denied() => bail!(
                "mysqld runs but refuses the agent's account: a statement of the init file failed; look for MY-000061 in its \
                 output ({error})"
            ),
            Err(error) => {
                // Before mysqld answers for the first time, no answer is normal. After that each error is logged once.
                let error = error.to_string();
                if answered.load(Ordering::Relaxed) && error != logged {
                    warn!(%error, "mysqld answers, but the start cannot be finished; trying again");
                    logged = error;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One attempt.
async fn try_once(member: &Member, shared: &Shared, life: &Life, answered: &AtomicBool) -> Result<Arrival, sql::Error> {
    let mut conn = shared.sql.connect(DEADLINE).await?;
    let uuid: String = sql::only(&mut conn, DEADLINE, "SELECT @@GLOBAL.server_uuid").await?;
    answered.store(true, Ordering::Relaxed);
    let clone = match life.intent {
        Some(Intent::Cloning { .. }) => Some(clone::verify(&mut conn).await?),
        _ => None,
    };
    if member.is_copy(life) {
        forget_the_original(member, &mut conn).await?;
    }
    // A copy of a volume has the server UUID of the original. Replicating from anywhere, it would push the original out there. What is not marked,
    // and what only the operator can tell, it starts.
    let is_ours = member.is_own_volume(life);
    // With FilePosition the operator starts the links, after it has checked that the disk was not set back.
    if clone.is_none() && life.origin != Origin::Empty && is_ours && member.args.positioning == Positioning::Gtid {
        let query = "SELECT CHANNEL_NAME, HOST FROM performance_schema.replication_connection_configuration";
        for (channel, host) in sql::all::<(String, String)>(&mut conn, DEADLINE, query).await? {
            if member.leads_away(&channel, &host) {
                warn!(channel, host, "the link leads to another cluster; it is not started");
                continue;
            }
            let statement = format!("START REPLICA FOR CHANNEL {}", literal(&channel));
            match sql::execute(&mut conn, DEADLINE, &statement).await {
                Ok(()) => info!(channel, "link started"),
                // The operator sees this link and decides. The other links are started all the same.
                Err(error) => warn!(channel, %error, "cannot start the link"),
            }
        }
    }
    Ok(Arrival { uuid, clone })
}

/// Removes the links of a copy to the original, if all that they have received is executed. Others stay, stopped, until the copy is adopted.
async fn forget_the_original(member: &Member, conn: &mut Conn) -> Result<(), sql::Error> {
    let query = "SELECT CHANNEL_NAME, HOST FROM performance_schema.replication_connection_configuration \
                 JOIN performance_schema.replication_connection_status USING (CHANNEL_NAME) \
                 WHERE GTID_SUBSET(RECEIVED_TRANSACTION_SET, @@GLOBAL.gtid_executed)";
    for (channel, host) in sql::all::<(String, String)>(conn, DEADLINE, query).await? {
        if member.leads_away(&channel, &host) {
            let statement = format!("RESET REPLICA ALL FOR CHANNEL {}", literal(&channel));
            sql::execute(conn, DEADLINE, &statement).await?;
            info!(
                channel,
                host, "the volume is a copy; its link to the original is removed"
            );
        }
    }
    Ok(())
}
