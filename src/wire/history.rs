//! Which member served which client: the answer of an HAProxy pod. The operator merges the answers of all pods.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `GET`: answers an [`Extract`]. `?since=` and a time in RFC 3339 leave out connections that ended and points that were before that time.
pub const PATH_HISTORY: &str = "/v1/history";

/// A connection of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Address of the client, as HAProxy sees it.
    pub client: IpAddr,
    /// Port of the client.
    pub port: u16,
    /// Ordinal of the member that served it; `None`: it was closed before it reached one.
    pub ordinal: Option<u8>,
    /// When HAProxy accepted it.
    pub started_at: Timestamp,
    /// How it ended; absent while it is open.
    #[serde(flatten)]
    pub end: Option<End>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// When.
    pub ended_at: Timestamp,
    /// Milliseconds since HAProxy accepted it.
    pub duration_milliseconds: u64,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// HAProxy's termination state: `--` normal, `cD` the server closed it and the client did not, or the client was idle, `sQ` there was no place
    /// for it within `queueSeconds`, and others.
    pub termination_state: String,
}

/// The state of a server from this time until its next point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// When the state was seen.
    pub at: Timestamp,
    /// Ordinal of the member.
    pub ordinal: u8,
    /// Its state.
    pub state: ServerState,
    /// Result of the last health check, in HAProxy's words: `INI` before the first, `L7OK`, `L7STS`, `L7TOUT`; empty where there is none.
    pub check: String,
    /// Connections that are open.
    pub connections: u64,
    /// Traffic since the pod's container began, in all workers of HAProxy.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// The answer of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extract {
    /// Nothing since this time is missing.
    pub from: Timestamp,
    /// The connections that have ended, by the time of their end, then all open ones.
    pub connections: Vec<Connection>,
    /// The last point of every server.
    pub servers: Vec<Point>,
    /// All points, by time.
    pub timeline: Vec<Point>,
}

/// State of a server, in HAProxy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServerState {
    /// Its checks pass. It gets connections.
    Up,
    /// Its checks fail. Its connections are closed.
    Down,
    /// The operator has taken it out.
    Maint,
    /// No new connections; open ones stay.
    Drain,
}

/// Figures that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Connections that have reached the server.
    pub sessions: u64,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes to clients.
    pub bytes_sent: u64,
}
