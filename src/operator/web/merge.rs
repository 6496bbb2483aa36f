//! Merges the histories of all HAProxy pods of a cluster. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::names;
use crate::wire::history::{self, End, Extract, ServerState, Traffic};

/// The answer of one pod: its history, or why there is none.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Name of the pod.
    pub pod: String,
    /// Its history, or the error.
    pub answer: Result<Extract, String>,
}

/// The answer. All times are RFC 3339 in UTC; servers are members, by the names of their pods.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// HAProxy pods that answered.
    pub pods: Vec<Pod>,
    /// HAProxy pods that did not answer. Their connections are missing here.
    pub missing: Vec<Missing>,
    /// A row for each member.
    pub servers: Vec<Server>,
    /// A row for each client, over all connections of the pods that answered. `limit` leaves no connection out here.
    pub clients: Vec<Client>,
    /// First the connections that have ended, by their end, then the open ones, by their beginning.
    pub connections: Vec<Connection>,
    /// Number of earlier connections that are not shown because of `limit`.
    pub older_connections: usize,
    /// The states of the servers, by time: a point for each change, and at least one a minute. A point holds until the next point of this pod and
    /// server.
    pub timeline: Vec<Point>,
}

/// An HAProxy pod that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// Its name.
    pub pod: String,
    /// Nothing since this time is missing.
    pub from: Timestamp,
}

/// An HAProxy pod that did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Its name.
    pub pod: String,
    /// Why.
    pub why: String,
}

/// A member, as all pods together see it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Its name.
    pub server: String,
    /// Its state as each pod sees it, by the pod's name.
    pub states: BTreeMap<String, ServerState>,
    /// Open connections.
    pub connections: u64,
    /// Traffic since the pods' containers began.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// A client: an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// Its address, as HAProxy sees it.
    pub client: IpAddr,
    /// Its open connections.
    pub open: u64,
    /// Its connections that have ended.
    pub ended: u64,
    /// Bytes from it, in connections that have ended.
    pub bytes_received: u64,
    /// Bytes to it, in connections that have ended.
    pub bytes_sent: u64,
    /// The members that served it.
    pub servers: BTreeSet<String>,
    /// The last time that one of its connections began or ended.
    pub last_at: Timestamp,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The HAProxy pod that had it.
    pub pod: String,
    /// The member that served it; `null`: the connection was closed before it reached one.
    pub server: Option<String>,
    /// Address of the client, as HAProxy sees it.
    pub client: IpAddr,
    /// Port of the client.
    pub port: u16,
    /// When HAProxy accepted it.
    pub started_at: Timestamp,
    /// How it ended; absent while it is open.
    #[serde(flatten)]
    pub end: Option<End>,
}

/// A server as one pod saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// The HAProxy pod that saw it.
    pub pod: String,
    /// The member.
    pub server: String,
    /// Its state.
    pub state: ServerState,
    /// Result of the last health check, in HAProxy's words: `INI` before the first, `L7OK`, `L7STS`, `L7TOUT`; empty where there is none.
    pub check: String,
    /// Open connections.
    pub connections: u64,
    /// Traffic since the pod's container began.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Merges the answers of the pods of the cluster `name` with this many members, and keeps the last `limit` connections.
pub fn merge(name: &str, members: u8, asked: Vec<Asked>, limit: usize) -> History {
    let (mut answers, mut missing) = (Vec::new(), Vec::new());
    for Asked { pod, answer } in asked {
        match answer {
            Ok(extract) => answers.push((pod, extract)),
            Err(why) => missing.push(Missing { pod, why }),
        }
    }
    let mut connections: Vec<Connection> = answers
        .iter()
        .flat_map(|(pod, extract)| extract.connections.iter().map(|of| connection(name, pod, of)))
        .collect();
    connections.sort_by_key(|connection| {
        let end = connection.end.as_ref();
        (end.is_none(), end.map_or(connection.started_at, |end| end.ended_at))
    });
    let clients = clients(&connections);
    let older_connections = connections.len().saturating_sub(limit);
    connections.drain(..older_connections);

    // HAProxy has a server line for every member that there can be.
    let seen = answers
        .iter()
        .flat_map(|(_, extract)| extract.timeline.iter().chain(&extract.servers));
    let mut known: BTreeSet<u8> = (0..members).collect();
    known.extend(
        seen.filter(|point| point.state != ServerState::Maint)
            .map(|point| point.ordinal),
    );
    let points = |of: fn(&Extract) -> &Vec<history::Point>| -> Vec<Point> {
        let points = answers
            .iter()
            .flat_map(|(pod, extract)| of(extract).iter().map(move |point| (pod, point)));
        let known = points.filter(|(_, point)| known.contains(&point.ordinal));
        known.map(|(pod, of)| point(name, pod, of)).collect()
    };
    let mut timeline = points(|extract| &extract.timeline);
    timeline.sort_by_key(|point| point.at);
    History {
        servers: servers(points(|extract| &extract.servers)),
        clients,
        connections,
        older_connections,
        timeline,
        pods: answers
            .into_iter()
            .map(|(pod, extract)| Pod {
                pod,
                from: extract.from,
            })
            .collect(),
        missing,
    }
}

fn connection(name: &str, pod: &str, connection: &history::Connection) -> Connection {
    Connection {
        pod: pod.into(),
        server: connection.ordinal.map(|ordinal| names::member(name, ordinal)),
        client: connection.client,
        port: connection.port,
        started_at: connection.started_at,
        end: connection.end.clone(),
    }
}

fn point(name: &str, pod: &str, point: &history::Point) -> Point {
    Point {
        at: point.at,
        pod: pod.into(),
        server: names::member(name, point.ordinal),
        state: point.state,
        check: point.check.clone(),
        connections: point.connections,
        traffic: point.traffic,
    }
}

fn servers(points: Vec<Point>) -> Vec<Server> {
    let mut servers = BTreeMap::new();
    for point in points {
        let server = servers.entry(point.server.clone()).or_insert_with(|| Server {
            server: point.server,
            states: BTreeMap::new(),
            connections: 0,
            traffic: Traffic::default(),
        });
        server.states.insert(point.pod, point.state);
        server.connections += point.connections;
        server.traffic = server.traffic.plus(point.traffic);
    }
    servers.into_values().collect()
}

fn clients(connections: &[Connection]) -> Vec<Client> {
    let mut clients = BTreeMap::new();
    for connection in connections {
        let client = clients.entry(connection.client).or_insert_with(|| Client {
            client: connection.client,
            open: 0,
            ended: 0,
            bytes_received: 0,
            bytes_sent: 0,
            servers: BTreeSet::new(),
            last_at: connection.started_at,
        });
        client.servers.extend(connection.server.clone());
        client.last_at = client.last_at.max(connection.started_at);
        match &connection.end {
            None => client.open += 1,
            Some(end) => {
                client.ended += 1;
                client.bytes_received += end.bytes_received;
                client.bytes_sent += end.bytes_sent;
                client.last_at = client.last_at.max(end.ended_at);
            }
        }
    }
    clients.into_values().collect()
}

#[cfg(test)]
mod tests;
