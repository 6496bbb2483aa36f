//! The contract between operator and HAProxy pods: the operator's order and the pod's report.
//!
//! All calls go to [`crate::names::AGENT_PORT`] over TLS with the bearer token of the credentials Secret.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::api::balancer::{Algorithm, Timeouts};

/// Version of this contract. 0: an operator or pod from before there was a number.
pub const VERSION: u32 = 1;

/// `GET`: answers a [`Report`].
pub const PATH_REPORT: &str = "/v1/report";
/// `POST` an [`Order`]. When the pod answers 200, HAProxy follows the order.
pub const PATH_ORDER: &str = "/v1/order";

/// Everything that HAProxy is to do. Every order is whole: a change is sent with everything that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// Settings that need a reload.
    pub settings: Settings,
    /// All HAProxy pods of the cluster, this one included, by name. They exchange which client is with which member.
    pub peers: Vec<Peer>,
    /// One slot for each ordinal that a member can have, so that a ring can grow without a reload.
    pub slots: Vec<Slot>,
}

impl Order {
    /// Whether HAProxy does the same by both orders. Their versions do not count: a pod from before there were versions reports its order without
    /// one.
    pub fn means(&self, other: &Self) -> bool {
        let of_one_version = Self {
            version: self.version,
            ..other.clone()
        };
        *self == of_one_version
    }
}

/// Settings that need a reload of HAProxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How a member is chosen.
    pub algorithm: Algorithm,
    /// Whether clients stay with their member.
    pub sticky: bool,
    /// Connections of this pod.
    pub max_connections: u32,
    /// Milliseconds between two checks of a member.
    pub check_milliseconds: u16,
    /// How long HAProxy waits for a connection, in its queue, and for data.
    pub timeouts: Timeouts,
}

/// One HAProxy pod of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Name of the pod.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// The server line for one ordinal, whether there is such a member or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// The member's ordinal.
    pub ordinal: u8,
    /// Address of its pod; `None` while it has none.
    pub address: Option<IpAddr>,
    /// What HAProxy may send to the member.
    pub state: State,
    /// Its share of new connections.
    pub weight: u8,
    /// The most connections of this pod with this member; `None`: no limit.
    pub max_connections: Option<u32>,
}

/// What HAProxy may send to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// New connections and open sessions.
    Serve,
    /// No new connections; open sessions stay.
    Drain,
    /// Nothing: open sessions are closed.
    Out,
}

/// The report of an HAProxy pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`] of the pod.
    #[serde(default)]
    pub version: u32,
    /// The order that HAProxy follows now; `None` before the first order, and after an order that was carried out in part.
    pub order: Option<Order>,
    /// Why the last order was not carried out.
    pub problem: Option<String>,
}

impl Default for Report {
    /// The report of a pod without an order.
    fn default() -> Self {
        Self {
            version: VERSION,
            order: None,
            problem: None,
        }
    }
}
