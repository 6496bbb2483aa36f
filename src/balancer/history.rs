//! What a balancer's pod remembers: which member served which client, and when a member was in which state.
//!
//! Bounded by time ([`RETENTION`]) and by number ([`MOST_CONNECTIONS`], [`MOST_POINTS`]). Pure: the caller passes the time.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::config;
use super::statistics::{Key, Line, Row};
use crate::wire::history::{Connection, End, Extract, Point, Traffic};

/// How long ended connections and points of the time line are kept.
pub const RETENTION: SignedDuration = SignedDuration::from_mins(15);
/// The most ended connections that are kept.
pub const MOST_CONNECTIONS: usize = 10_000;
/// The most open connections that are kept; `spec.balancer.maxConnections` goes no higher.
const MOST_OPEN: usize = 100_000;
/// The most points of the time line that are kept: one a second for nine servers in all of [`RETENTION`].
pub const MOST_POINTS: usize = 10_000;
/// The longest time between two points of a server. So a server that does not change has points in every part of the time line, too.
const AT_LEAST: SignedDuration = SignedDuration::from_secs(60);
/// How long after a worker was listed last its lines may still come from the log.
const LAST_LINES: SignedDuration = SignedDuration::from_secs(10);
/// How long after a connection's end its beginning may be logged. Reason: two threads log a client that ends at once.
const LATE: SignedDuration = SignedDuration::from_secs(1);

/// Traffic of one server in one worker, by the log and by the statistics.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    logged: Traffic,
    counted: Traffic,
}

impl Tally {
    /// The larger of both figures. Neither is ever too large: statistics lack the traffic after the last sample, the log lacks open connections.
    fn traffic(self) -> Traffic {
        self.logged.max(self.counted)
    }
}

/// The history of this pod.
#[derive(Clone, Debug)]
pub struct History {
    /// Nothing that ended or was since then is missing.
    from: Timestamp,
    /// By worker, client address and client port.
    open: BTreeMap<(u32, IpAddr, u16), Connection>,
    /// In the order in which their ends were logged.
    ended: VecDeque<Connection>,
    points: VecDeque<Point>,
    last: BTreeMap<u8, Point>,
    /// By worker and ordinal.
    tallies: BTreeMap<(u32, u8), Tally>,
    /// Traffic of workers that are gone, by ordinal.
    past: BTreeMap<u8, Traffic>,
    /// When each worker was seen last, by process id.
    workers: BTreeMap<u32, Timestamp>,
}

impl History {
    /// An empty history that begins now.
    pub fn new(at: Timestamp) -> Self {
        Self {
            from: at,
            open: BTreeMap::new(),
            ended: VecDeque::new(),
            points: VecDeque::new(),
            last: BTreeMap::new(),
            tallies: BTreeMap::new(),
            past: BTreeMap::new(),
            workers: BTreeMap::new(),
        }
    }

    /// Notes a line of the log.
    pub fn log(&mut self, line: Line, at: Timestamp) {
        match line {
            Line::Started { connection, server } => {
                self.workers.entry(connection.worker).or_insert(at);
                // A connection that found no server has ended, and its end is logged too.
                if let Some(ordinal) = config::ordinal(&server) {
                    self.start(connection, ordinal);
                }
            }
            Line::Ended {
                connection,
                duration,
                received,
                sent,
                termination,
            } => {
                self.workers.entry(connection.worker).or_insert(at);
                let duration = duration.max(0);
                let end = End {
                    ended_at: connection
                        .accepted_at()
                        .saturating_add(SignedDuration::from_millis(duration))
                        .unwrap_or(at),
                    duration_milliseconds: duration.unsigned_abs(),
                    bytes_received: received,
                    bytes_sent: sent,
                    termination_state: termination,
                };
                self.end(connection, end);
            }
        }
        self.prune(at);
    }

    fn start(&mut self, key: Key, ordinal: u8) {
        self.tally(key.worker, ordinal).logged.sessions += 1;
        let mut connection = connection(key);
        connection.ordinal = Some(ordinal);
        let is_late = |ended: &&mut Connection| {
            ended.ordinal.is_none() && (ended.client, ended.port) == (connection.client, connection.port)
        };
        let mut recent = self.ended.iter_mut().rev().take_while(|ended| {
            let end = ended.end.as_ref();
            end.is_some_and(|end| key.accepted_at().duration_since(end.ended_at) <= LATE)
        });
        if let Some(ended) = recent.find(is_late) {
            ended.ordinal = Some(ordinal);
        } else if self.open.len() < MOST_OPEN {
            self.open.insert((key.worker, connection.client, key.port), connection);
        }
    }

    fn end(&mut self, key: Key, end: End) {
        let mut connection = connection(key);
        connection.ordinal = self
            .open
            .remove(&(key.worker, connection.client, key.port))
            .and_then(|open| open.ordinal);
        if let Some(ordinal) = connection.ordinal {
            let logged = &mut self.tally(key.worker, ordinal).logged;
            logged.bytes_received += end.bytes_received;
            logged.bytes_sent += end.bytes_sent;
        }
        connection.end = Some(end);
        self.ended.push_back(connection);
    }

    fn tally(&mut self, worker: u32, ordinal: u8) -> &mut Tally {
        self.tallies.entry((worker, ordinal)).or_default()
    }

    /// Notes the statistics of the workers. The first worker is the present one; the others finish their sessions.
    pub fn sample(&mut self, workers: &[(u32, Vec<Row>)], at: Timestamp) {
        for (worker, rows) in workers {
            self.workers.insert(*worker, at);
            for row in rows {
                self.tally(*worker, row.ordinal).counted = row.traffic;
            }
        }
        self.forget_workers(at);
        let Some((_, present)) = workers.first() else { return };
        for row in present {
            let rows = workers.iter().flat_map(|(_, rows)| rows);
            let point = Point {
                at,
                ordinal: row.ordinal,
                state: row.state,
                check: row.check.clone(),
                connections: rows
                    .filter(|other| other.ordinal == row.ordinal)
                    .map(|other| other.connections)
                    .sum(),
                traffic: self.traffic(row.ordinal),
            };
            let is_known = self.last.get(&row.ordinal).is_some_and(|last| {
                let unchanged = Point {
                    at: last.at,
                    ..point.clone()
                };
                *last == unchanged && at.duration_since(last.at) < AT_LEAST
            });
            if !is_known {
                self.last.insert(row.ordinal, point.clone());
                self.points.push_back(point);
            }
        }
        self.prune(at);
    }

    fn traffic(&self, ordinal: u8) -> Traffic {
        let tallies = self.tallies.iter().filter(|((_, of), _)| *of == ordinal);
        let past = self.past.get(&ordinal).copied().unwrap_or_default();
        tallies.fold(past, |all, (_, tally)| all.plus(tally.traffic()))
    }

    /// Keeps the traffic of workers that are gone, and drops their open connections: these have ended, logged or not.
    fn forget_workers(&mut self, at: Timestamp) {
        let is_gone = |seen: &Timestamp| at.duration_since(*seen) > LAST_LINES;
        for worker in self
            .workers
            .extract_if(.., |_, seen| is_gone(seen))
            .map(|(worker, _)| worker)
        {
            self.open.retain(|(of, ..), _| *of != worker);
            for ((_, ordinal), tally) in self.tallies.extract_if(.., |(of, _), _| *of == worker) {
                let past = self.past.entry(ordinal).or_default();
                *past = past.plus(tally.traffic());
            }
        }
    }

    fn prune(&mut self, at: Timestamp) {
        let oldest = at.saturating_sub(RETENTION).unwrap_or(Timestamp::MIN);
        let ended_at = |connection: &Connection| connection.end.as_ref().map_or(at, |end| end.ended_at);
        let too_many = |length: usize, most: usize| length > most;
        while let Some(first) = self.ended.front()
            && (too_many(self.ended.len(), MOST_CONNECTIONS) || ended_at(first) < oldest)
        {
            self.from = self.from.max(ended_at(first));
            self.ended.pop_front();
        }
        while let Some(first) = self.points.front()
            && (too_many(self.points.len(), MOST_POINTS) || first.at < oldest)
        {
            self.from = self.from.max(first.at);
            self.points.pop_front();
        }
    }

    /// The history since a time; without a time the whole history.
    pub fn extract(&self, since: Option<Timestamp>) -> Extract {
        let since = since.unwrap_or(Timestamp::MIN);
        let ended = self.ended.iter().filter(|connection| {
            let end = connection.end.as_ref();
            end.is_some_and(|end| end.ended_at >= since)
        });
        Extract {
            from: self.from,
            connections: ended.chain(self.open.values()).cloned().collect(),
            servers: self.last.values().cloned().collect(),
            timeline: self.points.iter().filter(|point| point.at >= since).cloned().collect(),
        }
    }
}

fn connection(key: Key) -> Connection {
    Connection {
        // Where there is IPv6, HAProxy shows an IPv4 client as a mapped IPv6 address.
        client: key.client.to_canonical(),
        port: key.port,
        ordinal: None,
        started_at: key.accepted_at(),
        end: None,
    }
}

#[cfg(test)]
mod tests;
