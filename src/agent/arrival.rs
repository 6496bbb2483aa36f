//! What a start of mysqld owes once it answers: the judgement of a clone, and the stored links.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::bail;
use tracing::{info, warn};

use super::clone;
use super::life::{Intent, Life};
use super::member::{Member, Shared};
use super::sql;
use crate::api::Positioning;
use crate::mysql::quote::literal;
use crate::wire::agent::Origin;

const DEADLINE: Duration = Duration::from_secs(10);

/// What a running mysqld turned out to be.
pub struct Arrival {
    /// Its server UUID.
    pub uuid: String,
    /// `None`: there was no clone to judge.
    pub clone: Option<Result<(), String>>,
}

/// Waits until mysqld answers, then does what a start owes: judge a clone, or start the stored links, still fenced.
pub async fn arrive(member: &Member, shared: &Shared, life: Life, answered: &AtomicBool) -> anyhow::Result<Arrival> {
    let mut told = String::new();
    loop {
        match greet(member, shared, &life, answered).await {
            Ok(arrival) => return Ok(arrival),
            Err(error) if error.is_access_denied() => bail!(
                "mysqld runs but refuses the agent's account: a statement of the init file failed; look for MY-000061 in its \
                 output ({error})"
            ),
            Err(error) => {
                // Before it answers, not answering is no news; afterwards a person must see what is in the way, once.
                let error = error.to_string();
                if answered.load(Ordering::Relaxed) && error != told {
                    warn!(%error, "mysqld answers, but the start cannot be finished; trying again");
                    told = error;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn greet(member: &Member, shared: &Shared, life: &Life, answered: &AtomicBool) -> Result<Arrival, sql::Error> {
    let mut conn = shared.sql.connect(DEADLINE).await?;
    let uuid: String = sql::only(&mut conn, DEADLINE, "SELECT @@GLOBAL.server_uuid").await?;
    answered.store(true, Ordering::Relaxed);
    let clone = match life.intent {
        Some(Intent::Cloning { .. }) => Some(clone::verify(&mut conn).await?),
        _ => None,
    };
    // In FilePosition the operator first checks that the disk did not go back in time.
    if clone.is_none() && life.origin != Origin::Empty && member.args.positioning == Positioning::Gtid {
        let query = "SELECT CHANNEL_NAME FROM performance_schema.replication_connection_configuration";
        for channel in sql::all::<String>(&mut conn, DEADLINE, query).await? {
            let statement = format!("START REPLICA FOR CHANNEL {}", literal(&channel));
            match sql::execute(&mut conn, DEADLINE, &statement).await {
                Ok(()) => info!(channel, "link started"),
                // The operator sees the link and knows more; the other links are no less worth starting.
                Err(error) => warn!(channel, %error, "cannot start the link"),
            }
        }
    }
    Ok(Arrival { uuid, clone })
}
