//! Is this member cut off from everybody? Then the agent fences its own server, if the operator's terms say so (`docs/ring.md`,
//! "Isolation").
//!
//! It never opens the server again: the operator does, as for every member that it finds fenced.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mysql_async::Row;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::member::{Member, Shared};
use super::sql::{self, Sql};
use crate::api::IsolationPolicy;
use crate::api::status::FencedItself;
use crate::mysql::io::hearing::Hearing;
use crate::mysql::io::statements::SILENCE;
use crate::wire::agent::{PATH_LIVE, Phase, Terms};

/// From one look to the next: `afterSeconds` looks in a row are that many seconds.
const PERIOD: Duration = Duration::from_secs(1);
/// Of one look. Within a period, so that looks come in time also when nobody answers.
const DEADLINE: Duration = Duration::from_millis(700);
/// Looks that begin further apart than this are not in a row: the agent or the machine stood still, and somebody may have been there.
const STOOD_STILL: Duration = Duration::from_secs(3);
/// Heartbeats come every second; a channel that heard something within this time has a source.
const HEARD_SECONDS: i64 = 2;

/// Counts the looks in a row that found nobody.
#[derive(Debug, Default)]
pub struct Solitude {
    looks: u16,
    last: Option<Instant>,
}

impl Solitude {
    /// Adds a look that began at this time. Answers how many in a row, this one included, have found nobody.
    pub fn look(&mut self, begun: Instant, found: bool) -> u16 {
        let stood_still = self.last.is_some_and(|last| begun.duration_since(last) > STOOD_STILL);
        self.looks = match found {
            true => 0,
            false if stood_still => 1,
            false => self.looks.saturating_add(1),
        };
        self.last = Some(begun);
        self.looks
    }

    /// The agent was busy until this time: it did not stand still.
    pub fn busy_until(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

/// Looks every second for as long as the agent runs.
pub async fn watch(member: Arc<Member>, shared: Arc<Shared>, http: reqwest::Client) -> Infallible {
    let (mut solitude, mut hearing) = (Solitude::default(), Hearing::default());
    let mut looks = interval(PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let begun = Instant::now();
        forget_if_open(&shared).await;
        let heard = shared.take_heard();
        let Some(terms) = shared.terms().filter(|terms| terms.policy == IsolationPolicy::Fence) else {
            solitude = Solitude::default();
            continue;
        };
        let found =
            heard || finds_somebody(&member, &shared.sql, &mut hearing, &http, &terms).await || shared.take_heard();
        let seconds = solitude.look(begun, found);
        if seconds >= terms.after_seconds {
            fence_if_open(&shared, seconds).await;
            solitude.busy_until(Instant::now());
        }
    }
}

/// Whether anybody at all is there, asked at the same time.
async fn finds_somebody(
    member: &Member,
    sql: &Sql,
    hearing: &mut Hearing,
    http: &reqwest::Client,
    terms: &Terms,
) -> bool {
    let looks: FuturesUnordered<BoxFuture<'_, bool>> = FuturesUnordered::new();
    looks.push(api_server_accepts(member).boxed());
    looks.push(hears_a_source(sql, hearing).boxed());
    for address in &terms.members {
        looks.push(agent_answers(member, http, *address).boxed());
    }
    let any = async { looks.any(async |found| found).await };
    timeout(DEADLINE, any).await.unwrap_or(false)
}

async fn api_server_accepts(member: &Member) -> bool {
    match &member.args.api_host {
        Some(host) => TcpStream::connect((host.as_str(), member.args.api_port)).await.is_ok(),
        None => false,
    }
}

/// Whatever it answers, and whatever its mysqld does: packets go there and back.
async fn agent_answers(member: &Member, http: &reqwest::Client, address: IpAddr) -> bool {
    let at = SocketAddr::new(address, member.args.probe_port);
    http.get(format!("http://{at}{PATH_LIVE}")).send().await.is_ok()
}

/// A connection that is still there proves nothing, neither a receiver's nor that of a downstream: only what was heard does.
async fn hears_a_source(sql: &Sql, hearing: &mut Hearing) -> bool {
    let read = async {
        let mut conn = sql.connect(DEADLINE).await?;
        let statuses: Vec<Row> = sql::all(&mut conn, DEADLINE, "SHOW REPLICA STATUS").await?;
        let told: Vec<Row> = sql::all(&mut conn, DEADLINE, SILENCE).await?;
        Ok::<_, sql::Error>((statuses, told))
    };
    let Ok((statuses, told)) = read.await else { return false };
    let silences = match hearing.silences(&statuses, &told, Instant::now()) {
        Ok(silences) => silences,
        Err(error) => {
            warn!(%error, "cannot tell whether a source is heard");
            return false;
        }
    };
    let heard = |seconds: Option<i64>| seconds.is_some_and(|seconds| seconds < HEARD_SECONDS);
    silences.into_iter().any(heard)
}

async fn fence_if_open(shared: &Shared, seconds: u16) {
    // During a clone clients are kept out by other means, and before mysqld answers it is fenced.
    if shared.phase() != Phase::Running {
        return;
    }
    match shared.sql.probe(DEADLINE).await {
        Ok(state) if state.super_read_only => return,
        Ok(_) => {}
        Err(error) => {
            warn!(%error, "cut off for {seconds} s, and mysqld does not answer; trying to fence it again in a second");
            return;
        }
    }
    let now = Timestamp::now();
    // Said before it is done: after a deadline the server may become fenced nevertheless.
    shared.set_fenced_itself(Some(FencedItself {
        cut_off_since: Time(now - SignedDuration::from_secs(seconds.into())),
        at: Time(now),
    }));
    match sql::fence(&shared.sql, DEADLINE).await {
        Ok(()) => warn!("cut off from the operator, the API server and every member for {seconds} s: fenced"),
        Err(error) => warn!(%error, "cut off for {seconds} s, and cannot fence; trying again in a second"),
    }
}

/// Once somebody has opened the server, that it fenced itself is past.
async fn forget_if_open(shared: &Shared) {
    let said = shared.report().is_some_and(|report| report.fenced_itself.is_some());
    let open = async || matches!(shared.sql.probe(DEADLINE).await, Ok(state) if !state.super_read_only);
    if said && open().await {
        info!("open again after it had fenced itself");
        shared.set_fenced_itself(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a history of looks, each begun so many tenths of a second after the last, comes to.
    fn counts(looks: &[(u64, bool)]) -> Vec<u16> {
        let (mut solitude, mut now) = (Solitude::default(), Instant::now());
        let mut count = |(after, found): &(u64, bool)| {
            now += Duration::from_millis(after * 100);
            solitude.look(now, *found)
        };
        looks.iter().map(&mut count).collect()
    }

    #[test]
    fn looks_that_find_nobody_add_up() {
        assert_eq!(counts(&[(0, false), (10, false), (17, false)]), [1, 2, 3]);
    }

    #[test]
    fn whoever_is_found_acquits() {
        assert_eq!(
            counts(&[(0, false), (10, false), (10, true), (10, false)]),
            [1, 2, 0, 1]
        );
    }

    #[test]
    fn time_in_which_nothing_could_be_seen_does_not_count() {
        assert_eq!(
            counts(&[(0, false), (10, false), (36_000, false), (10, false)]),
            [1, 2, 1, 2]
        );
    }

    #[test]
    fn an_attempt_to_fence_that_took_long_is_not_a_standstill() {
        let (mut solitude, begun) = (Solitude::default(), Instant::now());
        assert_eq!(solitude.look(begun, false), 1);
        let ended = begun + Duration::from_secs(12);
        solitude.busy_until(ended);
        assert_eq!(solitude.look(ended + PERIOD, false), 2);
    }

    #[test]
    fn it_does_not_overflow() {
        let mut solitude = Solitude {
            looks: u16::MAX,
            last: None,
        };
        assert_eq!(solitude.look(Instant::now(), false), u16::MAX);
    }
}
