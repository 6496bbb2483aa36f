//! Reads the lines of HAProxy's log, and the rows of its statistics.

use std::net::IpAddr;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde::Deserialize;

use super::config;
use crate::wire::history::{ServerState, Traffic};

/// A line of the log about a connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    /// The connection has reached a server, or has found none.
    Started {
        /// Which connection.
        #[serde(flatten)]
        connection: Key,
        /// Name of the server line; `<NOSRV>` if the connection found no server.
        server: String,
    },
    /// The connection has ended.
    Ended {
        /// Which connection.
        #[serde(flatten)]
        connection: Key,
        /// Milliseconds since the connection was accepted.
        duration: i64,
        /// Bytes from the client.
        received: u64,
        /// Bytes to the client.
        sent: u64,
        /// HAProxy's termination state, two characters.
        termination: String,
    },
}

/// Identifies a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Key {
    /// Process id of the worker that has the connection.
    pub worker: u32,
    /// Address of the client.
    pub client: IpAddr,
    /// Port of the client.
    pub port: u16,
    /// When the connection was accepted, in seconds since 1970.
    accepted: i64,
    /// Milliseconds of that second.
    milliseconds: i64,
}

impl Key {
    /// When the connection was accepted.
    pub fn accepted_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.accepted.saturating_mul(1000).saturating_add(self.milliseconds))
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl Line {
    /// Reads a line of the log. `None`: the line is a message for people.
    ///
    /// # Errors
    /// When the line is about a connection and cannot be read.
    pub fn read(line: &str) -> anyhow::Result<Option<Self>> {
        if !line.starts_with('{') {
            return Ok(None);
        }
        serde_json::from_str(line)
            .with_context(|| format!("a line of HAProxy's log: {line}"))
            .map(Some)
    }
}

impl ServerState {
    /// The state by the columns `status` (`UP 1/2`, `MAINT (via ...)`) and `weight`. Weight 0 means Drain: this is how the operator drains a server.
    fn read(status: &str, weight: u64) -> anyhow::Result<Self> {
        match status.split([' ', '(']).next() {
            Some("UP") if weight == 0 => Ok(Self::Drain),
            Some("UP") => Ok(Self::Up),
            Some("DOWN") => Ok(Self::Down),
            Some("MAINT") => Ok(Self::Maint),
            Some("DRAIN") => Ok(Self::Drain),
            _ => bail!("the state {status:?} is unknown"),
        }
    }
}

/// One server's row of `show stat` in one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The member's ordinal.
    pub ordinal: u8,
    /// Its state.
    pub state: ServerState,
    /// Result of the last check, `L7OK` for example; empty where there is none.
    pub check: String,
    /// Connections that are open.
    pub connections: u64,
    /// Traffic since the worker began.
    pub traffic: Traffic,
}

/// The servers in an answer to `show stat`.
///
/// # Errors
/// When a column is missing or cannot be read.
pub fn rows(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut lines = text.lines();
    let header = lines.next().and_then(|line| line.strip_prefix("# "));
    let Some(header) = header.filter(|header| header.starts_with("pxname,")) else {
        bail!("HAProxy's statistics are: {}", text.trim());
    };
    let columns: Vec<&str> = header.split(',').collect();
    lines
        .filter(|line| !line.is_empty())
        .map(|line| row(&columns, line).with_context(|| format!("HAProxy's statistics, {line}")))
        .collect()
}

/// Reads one row. No column with commas in it stands before a column that is read here, so splitting at commas is right.
fn row(columns: &[&str], line: &str) -> anyhow::Result<Row> {
    let values: Vec<&str> = line.split(',').collect();
    let text = |name: &str| {
        let at = columns.iter().position(|column| *column == name);
        at.and_then(|at| values.get(at).copied())
            .with_context(|| format!("there is no column {name}"))
    };
    let number = |name: &str| text(name)?.parse::<u64>().with_context(|| format!("column {name}"));
    Ok(Row {
        ordinal: config::ordinal(text("svname")?).context("column svname: it is no member")?,
        state: ServerState::read(text("status")?, number("weight")?)?,
        // HAProxy puts `* ` in front while the next check is under way.
        check: text("check_status")?.trim_start_matches("* ").to_owned(),
        connections: number("scur")?,
        traffic: Traffic {
            sessions: number("stot")?,
            bytes_received: number("bin")?,
            bytes_sent: number("bout")?,
        },
    })
}

impl Traffic {
    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            bytes_received: self.bytes_received + other.bytes_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
        }
    }

    /// The larger of each figure.
    pub fn max(self, other: Self) -> Self {
        Self {
            sessions: self.sessions.max(other.sessions),
            bytes_received: self.bytes_received.max(other.bytes_received),
            bytes_sent: self.bytes_sent.max(other.bytes_sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HAProxy 3.2.26 wrote them.
    const STARTED: &str = r#"{"event": "started", "worker": 15517, "client": "127.0.0.1", "port": 46992, "accepted": 1795366464, "milliseconds": 198, "server": "m-0", "queued": 1, "connected": 0}"#;
    const ENDED: &str = r#"{"event": "ended", "worker": 15517, "client": "127.0.0.1", "port": 46992, "accepted": 1795366464, "milliseconds": 198, "queued": 1, "duration": 1002, "received": 100, "sent": 110, "termination": "cD"}"#;
    const FOR_PEOPLE: &str = "Server members/m-0 is DOWN, reason: Layer7 wrong status, code: 503, info: \"Service Unavailable\", \
         check duration: 1ms. 1 active and 0 backup servers left. 2 sessions active, 0 requeued, 0 remaining in queue.";
    const STATISTICS: &str = "\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status,check_code,check_duration,last_chk
members,m-0,0,0,2,2,,3,1200,1230,,0,,0,0,0,0,UP 1/2,100,1,0,7,3,203,19,,1,3,1,,456,,2,0,,450,* L7STS,503,1,\"a, b\"
members,m-1,0,0,0,2,2000,3,1200,1230,,0,,0,0,0,0,DOWN,100,1,0,2,1,3,4,,1,3,2,,457,,2,0,,450,L7TOUT,,400,
members,m-2,0,0,0,0,,0,0,0,,0,,0,0,0,0,UP,0,1,0,0,0,6,0,,1,3,3,,0,,2,0,,0,L7OK,200,1,
members,m-3,0,0,0,0,,0,0,0,,0,,0,0,0,0,MAINT,0,1,0,0,0,6,6,,1,3,4,,0,,2,0,,0,,,,

";

    #[test]
    fn a_connection_is_read_at_both_ends() {
        let connection = Key {
            worker: 15517,
            client: [127, 0, 0, 1].into(),
            port: 46992,
            accepted: 1_795_366_464,
            milliseconds: 198,
        };
        let started = Line::Started {
            connection,
            server: "m-0".into(),
        };
        assert_eq!(Line::read(STARTED).unwrap(), Some(started));
        let ended = Line::Ended {
            connection,
            duration: 1002,
            received: 100,
            sent: 110,
            termination: "cD".into(),
        };
        assert_eq!(Line::read(ENDED).unwrap(), Some(ended));
        assert_eq!(connection.accepted_at().to_string(), "2026-11-22T16:54:24.198Z");
    }

    #[test]
    fn lines_for_people_are_no_connections_and_broken_ones_are_told() {
        assert_eq!(Line::read(FOR_PEOPLE).unwrap(), None);
        let error = format!("{:#}", Line::read(&ENDED[..60]).unwrap_err());
        assert!(error.contains("HAProxy's log: {\"event\""), "{error}");
    }

    #[test]
    fn servers_are_read_with_their_states() {
        let rows = rows(STATISTICS).unwrap();
        let read: Vec<_> = rows
            .iter()
            .map(|row| (row.ordinal, row.state, row.check.as_str()))
            .collect();
        use ServerState::{Down, Drain, Maint, Up};
        assert_eq!(
            read,
            [
                (0, Up, "L7STS"),
                (1, Down, "L7TOUT"),
                (2, Drain, "L7OK"),
                (3, Maint, "")
            ]
        );
        let traffic = Traffic {
            sessions: 3,
            bytes_received: 1200,
            bytes_sent: 1230,
        };
        assert_eq!((rows[0].connections, rows[0].traffic), (2, traffic));
    }

    #[test]
    fn statistics_that_cannot_be_read_say_why() {
        let error = |text: &str| format!("{:#}", rows(text).unwrap_err());
        assert!(error("Can't find the target PID matching the prefix '@!7'\n").contains("target PID"));
        assert!(error("# pxname,svname,scur\nmembers,m-0,1\n").contains("there is no column status"));
        let odd = error(&STATISTICS.replace("DOWN", "NOLB"));
        assert!(odd.contains("\"NOLB\" is unknown"), "{odd}");
    }
}
