//! Fences the agent's own server when the member is cut off, if the operator's last [`LeaseRenewal`] has the policy Fence
//! (`docs/ring.md`, "Isolation"). Cut off: the agent reaches neither the operator, nor the API server, nor any other member.
//!
//! The agent never opens the server again. The operator opens it, like every member that it finds fenced.

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
use crate::mysql::io::contact::Contacts;
use crate::mysql::io::statements::LAST_CONTACT;
use crate::wire::agent::{PATH_LIVE, Phase};
use crate::wire::lease::LeaseRenewal;

/// From one check to the next. So `afterSeconds` checks in a row take that many seconds.
const PERIOD: Duration = Duration::from_secs(1);
/// Deadline of one check. It is shorter than the period, so that the next check begins in time although nothing answers.
const DEADLINE: Duration = Duration::from_millis(700);
/// Checks that begin further apart than this are not in a row: the agent or the machine was frozen, and may have had contact meanwhile.
const FROZEN: Duration = Duration::from_secs(3);
/// Heartbeats come every second. A channel whose last contact is less than this ago has a source.
const CONTACT_SECONDS: i64 = 2;

/// Counts the checks in a row without any contact.
#[derive(Debug, Default)]
pub struct Solitude {
    checks: u16,
    last: Option<Instant>,
}

impl Solitude {
    /// Adds a check that began at this time. Returns how many checks in a row, this one included, were without contact.
    pub fn count(&mut self, begun: Instant, contact: bool) -> u16 {
        let was_frozen = self.last.is_some_and(|last| begun.duration_since(last) > FROZEN);
        self.checks = match contact {
            true => 0,
            false if was_frozen => 1,
            false => self.checks.saturating_add(1),
        };
        self.last = Some(begun);
        self.checks
    }

    /// The agent was busy until this time. It was not frozen.
    pub fn busy_until(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

/// Checks every second for as long as the agent runs.
pub async fn watch(member: Arc<Member>, shared: Arc<Shared>, http: reqwest::Client) -> Infallible {
    let (mut solitude, mut contacts) = (Solitude::default(), Contacts::default());
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let begun = Instant::now();
        forget_if_open(&shared).await;
        let asked = shared.take_contact();
        let Some(renewal) = shared
            .renewal()
            .filter(|renewal| renewal.policy == IsolationPolicy::Fence)
        else {
            solitude = Solitude::default();
            continue;
        };
        let contact =
            asked || has_contact(&member, &shared.sql, &mut contacts, &http, &renewal).await || shared.take_contact();
        let seconds = solitude.count(begun, contact);
        if seconds >= renewal.after_seconds {
            fence_if_open(&shared, seconds).await;
            solitude.busy_until(Instant::now());
        }
    }
}

/// Whether the API server, a source, or another member's agent is reached; all are tried at the same time.
async fn has_contact(
    member: &Member,
    sql: &Sql,
    contacts: &mut Contacts,
    http: &reqwest::Client,
    renewal: &LeaseRenewal,
) -> bool {
    let attempts: FuturesUnordered<BoxFuture<'_, bool>> = FuturesUnordered::new();
    attempts.push(api_server_accepts(member).boxed());
    attempts.push(has_a_source(sql, contacts).boxed());
    for address in &renewal.members {
        attempts.push(agent_answers(member, http, *address).boxed());
    }
    let any = async { attempts.any(async |reached| reached).await };
    timeout(DEADLINE, any).await.unwrap_or(false)
}

async fn api_server_accepts(member: &Member) -> bool {
    match &member.args.api_host {
        Some(host) => TcpStream::connect((host.as_str(), member.args.api_port)).await.is_ok(),
        None => false,
    }
}

/// Any answer counts, whatever the state of that member's mysqld: packets go there and back.
async fn agent_answers(member: &Member, http: &reqwest::Client, address: IpAddr) -> bool {
    let at = SocketAddr::new(address, member.args.probe_port);
    http.get(format!("http://{at}{PATH_LIVE}")).send().await.is_ok()
}

/// Whether a channel had contact with its source just now. An open connection of a receiver or of a downstream proves nothing.
async fn has_a_source(sql: &Sql, contacts: &mut Contacts) -> bool {
    let read = async {
        let mut conn = sql.connect(DEADLINE).await?;
        let statuses: Vec<Row> = sql::all(&mut conn, DEADLINE, "SHOW REPLICA STATUS").await?;
        let times: Vec<Row> = sql::all(&mut conn, DEADLINE, LAST_CONTACT).await?;
        Ok::<_, sql::Error>((statuses, times))
    };
    let Ok((statuses, times)) = read.await else {
        return false;
    };
    let seconds = match contacts.seconds_since(&statuses, &times, Instant::now()) {
        Ok(seconds) => seconds,
        Err(error) => {
            warn!(%error, "cannot read when a channel had its last contact with its source");
            return false;
        }
    };
    let recent = |seconds: Option<i64>| seconds.is_some_and(|seconds| seconds < CONTACT_SECONDS);
    seconds.into_iter().any(recent)
}

async fn fence_if_open(shared: &Shared, seconds: u16) {
    // During a clone `read_only` keeps clients out, and before mysqld answers it is fenced.
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
    // Reported first: after a deadline the server may still become fenced.
    shared.set_fenced_itself(Some(FencedItself {
        cut_off_since: Time(now - SignedDuration::from_secs(seconds.into())),
        at: Time(now),
    }));
    match sql::fence(&shared.sql, DEADLINE).await {
        Ok(()) => warn!("cut off from the operator, the API server and every member for {seconds} s: fenced"),
        Err(error) => warn!(%error, "cut off for {seconds} s, and cannot fence; trying again in a second"),
    }
}

/// Removes the note that the agent has fenced its server, once the server is open again.
async fn forget_if_open(shared: &Shared) {
    let noted = shared.report().is_some_and(|report| report.fenced_itself.is_some());
    let open = async || matches!(shared.sql.probe(DEADLINE).await, Ok(state) if !state.super_read_only);
    if noted && open().await {
        info!("open again after it had fenced itself");
        shared.set_fenced_itself(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts after a sequence of checks, each begun this many tenths of a second after the one before.
    fn counts(checks: &[(u64, bool)]) -> Vec<u16> {
        let (mut solitude, mut now) = (Solitude::default(), Instant::now());
        let mut count = |(after, contact): &(u64, bool)| {
            now += Duration::from_millis(after * 100);
            solitude.count(now, *contact)
        };
        checks.iter().map(&mut count).collect()
    }

    #[test]
    fn checks_without_contact_add_up() {
        assert_eq!(counts(&[(0, false), (10, false), (17, false)]), [1, 2, 3]);
    }

    #[test]
    fn one_contact_begins_the_count_anew() {
        assert_eq!(
            counts(&[(0, false), (10, false), (10, true), (10, false)]),
            [1, 2, 0, 1]
        );
    }

    #[test]
    fn time_in_which_the_agent_was_frozen_does_not_count() {
        assert_eq!(
            counts(&[(0, false), (10, false), (36_000, false), (10, false)]),
            [1, 2, 1, 2]
        );
    }

    #[test]
    fn a_long_attempt_to_fence_is_not_a_freeze() {
        let (mut solitude, begun) = (Solitude::default(), Instant::now());
        assert_eq!(solitude.count(begun, false), 1);
        let ended = begun + Duration::from_secs(12);
        solitude.busy_until(ended);
        assert_eq!(solitude.count(ended + PERIOD, false), 2);
    }

    #[test]
    fn it_does_not_overflow() {
        let mut solitude = Solitude {
            checks: u16::MAX,
            last: None,
        };
        assert_eq!(solitude.count(Instant::now(), false), u16::MAX);
    }
}
