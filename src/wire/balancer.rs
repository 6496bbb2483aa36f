//! What the operator tells a balancer's pod, and what that says of itself: the contract between the two.
//!
//! All calls go to [`crate::names::AGENT_PORT`] over TLS with the bearer token of the credentials Secret.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::api::balancer::{Algorithm, Timeouts};

/// What operators and HAProxy pods of this version can say and understand. 0: those of before there was a number.
pub const VERSION: u32 = 1;

/// `GET`: answers a [`Report`].
pub const PATH_REPORT: &str = "/v1/report";
/// `POST` an [`Order`]: from its answer on HAProxy does what it says.
pub const PATH_ORDER: &str = "/v1/order";

/// Everything that HAProxy is to do. The whole of it is said each time something of it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// [`VERSION`] of the operator.
    #[serde(default)]
    pub version: u32,
    /// What only a reload changes.
    pub settings: Settings,
    /// All HAProxy pods of the cluster, this one included, by name. They tell each other which client is with which member.
    pub peers: Vec<Peer>,
    /// One for each ordinal that a member can have, so that a ring that grows needs no reload.
    pub slots: Vec<Slot>,
}

impl Order {
    /// HAProxy does the same by both, whoever gave them. A pod of before there were versions says its order without one.
    pub fn means(&self, other: &Self) -> bool {
        let of_one_version = Self {
            version: self.version,
            ..other.clone()
        };
        *self == of_one_version
    }
}

/// What only a reload of HAProxy changes.
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
    /// How long it waits for what.
    pub timeouts: Timeouts,
}

/// Another HAProxy pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Name of the pod.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// The place of one member, whether there is such a member or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// The member's ordinal.
    pub ordinal: u8,
    /// Address of its pod; `None` while it has none.
    pub address: Option<IpAddr>,
    /// What may be sent there.
    pub state: State,
    /// Its share of new connections.
    pub weight: u8,
    /// Connections of this pod with this member, if that is limited.
    pub max_connections: Option<u32>,
}

/// What may be sent to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// New connections.
    Serve,
    /// Nothing new; open sessions go on.
    Drain,
    /// Nothing; open sessions are closed.
    Out,
}

/// What a balancer's pod says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`] of the pod.
    #[serde(default)]
    pub version: u32,
    /// What HAProxy does now; `None` before the first order, and after one that was carried out in part.
    pub order: Option<Order>,
    /// Why the last order was not followed.
    pub problem: Option<String>,
}

impl Default for Report {
    /// Of a pod that has heard nothing yet.
    fn default() -> Self {
        Self {
            version: VERSION,
            order: None,
            problem: None,
        }
    }
}
