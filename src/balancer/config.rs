//! HAProxy's configuration for an order.
//!
//! Two proxies in a row. `clients` accepts every client, and lets as many through to `members` at the same time as the limit says. A client beyond
//! the limit waits in its queue for `queueSeconds`, then its connection is closed. A limit on the listening side would leave the client in the
//! kernel's backlog for ever. `members` balances and checks.
//!
//! Each proxy logs a connection once: `members` when the connection has reached a member, `clients` when it has ended. HAProxy writes one line per
//! proxy and connection, so a single proxy could log that a connection is open, or its bytes, but not both.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use crate::api::balancer::Algorithm;
use crate::names;
use crate::wire::agent::PATH_WRITABLE;
use crate::wire::balancer::{Order, Slot, State};

/// Name of the proxy that balances.
pub const MEMBERS: &str = "members";
/// The fewest and the most milliseconds that a member has to answer a check. Two failed checks take the member out within three periods.
const CHECK_TIMEOUT: (u16, u16) = (400, 800);
/// Milliseconds after which HAProxy checks a member again that failed one check.
const CHECK_AGAIN: u16 = 250;
/// Milliseconds after which HAProxy closes the client's side when the member has closed the connection. Otherwise the connection of a pool that does
/// not notice would count for the limit, and look open, until the pool uses it again.
const CLIENT_FIN: u16 = 1000;
/// Clients whose member HAProxy remembers, in units of 1,024. If there are more, HAProxy forgets those that it has not seen for longest.
const CLIENTS: &str = "100k";

/// This pod: the folder of HAProxy's sockets, its name and its address.
#[derive(Clone, Copy, Debug)]
pub struct ThisPod<'a> {
    /// Folder of the sockets.
    pub run: &'a Path,
    /// Name of this pod.
    pub name: &'a str,
    /// Its address. HAProxy listens on all addresses of this family; if it is IPv6, on those of IPv4 too.
    pub ip: IpAddr,
}

impl ThisPod<'_> {
    fn listen(&self, port: u16) -> String {
        match self.ip {
            IpAddr::V4(_) => format!("bind *:{port}"),
            IpAddr::V6(_) => format!("bind :::{port} v4v6"),
        }
    }
}

/// Name of a member's server line.
pub fn server(ordinal: u8) -> String {
    format!("m-{ordinal}")
}

/// The member of a server line.
pub fn ordinal(server: &str) -> Option<u8> {
    server.strip_prefix("m-")?.parse().ok()
}

/// The address of a slot's member; `0.0.0.0` for a slot without a member.
pub fn address(slot: &Slot) -> String {
    slot.address
        .map_or_else(|| "0.0.0.0".into(), |address| address.to_string())
}

/// The whole file.
pub fn config(order: &Order, pod: ThisPod<'_>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut text, order, pod);
    text
}

fn write(text: &mut String, order: &Order, pod: ThisPod<'_>) -> std::fmt::Result {
    let (settings, timeouts) = (&order.settings, &order.settings.timeouts);
    let (run, name) = (pod.run.display(), pod.name);
    writeln!(
        text,
        "# Written anew at every order of the operator.
global
    log stdout len 4096 format raw local0
    localpeer {name}

defaults
    mode tcp
    log global
    timeout connect {connect}ms
    timeout client {idle}s
    timeout server {idle}s
    timeout queue {queue}s
    timeout check {check}ms
    retries 3
    option redispatch 1
    option clitcpka
    option srvtcpka
    option contstats
",
        connect = timeouts.connect_milliseconds,
        idle = timeouts.idle_seconds,
        queue = timeouts.queue_seconds,
        check = settings.check_milliseconds.clamp(CHECK_TIMEOUT.0, CHECK_TIMEOUT.1),
    )?;
    if settings.sticky {
        writeln!(text, "peers balancers")?;
        for peer in &order.peers {
            let address = match peer.address {
                IpAddr::V6(address) => format!("[{address}]"),
                IpAddr::V4(address) => address.to_string(),
            };
            writeln!(text, "    peer {} {address}:{}", peer.name, names::BALANCER_PEER_PORT)?;
        }
        writeln!(text)?;
    }
    writeln!(
        text,
        "listen clients
    log-format \"{ENDED}\"
    timeout client-fin {fin}ms
    {listen}
    server gate unix@{run}/gate.sock send-proxy-v2 maxconn {limit}

listen {MEMBERS}
    bind unix@{run}/gate.sock accept-proxy
    balance {algorithm}
    log-format \"{STARTED}\"
    option logasap
    option httpchk
    http-check send meth GET uri {PATH_WRITABLE}
    default-server check port {probe} inter {check}ms fastinter {fast}ms fall 2 rise 2 on-marked-down shutdown-sessions",
        fin = CLIENT_FIN,
        listen = pod.listen(names::MYSQL_PORT),
        limit = settings.max_connections,
        algorithm = match settings.algorithm {
            Algorithm::RoundRobin => "roundrobin",
            Algorithm::LeastConnections => "leastconn",
            // With another hash-type HAProxy refuses to change weights while it runs.
            Algorithm::Source => "source\n    hash-type consistent",
        },
        probe = names::AGENT_PROBE_PORT,
        check = settings.check_milliseconds,
        fast = CHECK_AGAIN.min(settings.check_milliseconds),
    )?;
    if settings.sticky {
        writeln!(
            text,
            "    stick-table type ipv6 size {CLIENTS} peers balancers\n    stick on src"
        )?;
    }
    for slot in &order.slots {
        let limit = slot.max_connections.map(|limit| format!(" maxconn {limit}"));
        writeln!(
            text,
            "    server {} {}{}:{} weight {}{}{}",
            server(slot.ordinal),
            // In the file, unlike at the socket, HAProxy needs this prefix to find the port.
            if matches!(slot.address, Some(IpAddr::V6(_))) {
                "ipv6@"
            } else {
                ""
            },
            address(slot),
            names::MYSQL_PORT,
            weight(slot),
            limit.unwrap_or_default(),
            if slot.state == State::Out { " disabled" } else { "" },
        )?;
    }
    writeln!(
        text,
        "
frontend statistics
    mode http
    no log
    timeout client 10s
    {listen}
    http-request use-service prometheus-exporter if {{ path /metrics }}
    stats enable
    stats uri /",
        listen = pod.listen(names::BALANCER_STATISTICS_PORT)
    )
}

/// The weight for HAProxy. A server of weight 0 gets no new connection and keeps its sessions.
pub fn weight(slot: &Slot) -> u8 {
    match slot.state {
        State::Serve => slot.weight,
        State::Drain | State::Out => 0,
    }
}

/// The line for a connection that has reached a member, or has found none: one JSON object in the log, see [`super::statistics::Line`].
const STARTED: &str = "%{+json}o %(event)[str(started)] %(worker)pid %(client)ci %(port)cp %(accepted)Ts %(milliseconds)ms %(server)s \
     %(queued)Tw %(connected)Tc";
/// The line for a connection that has ended: one JSON object in the log.
const ENDED: &str = "%{+json}o %(event)[str(ended)] %(worker)pid %(client)ci %(port)cp %(accepted)Ts %(milliseconds)ms %(queued)Tw \
     %(duration)Tt %(received)U %(sent)B %(termination)ts";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::balancer::Timeouts;
    use crate::wire::balancer::{Peer, Settings};

    /// Two members of three serve, one drains; a place for a fourth.
    pub fn order() -> Order {
        let slot = |ordinal: u8, state| Slot {
            ordinal,
            address: (ordinal < 3).then(|| IpAddr::from([10, 0, 0, ordinal])),
            state,
            weight: 100,
            max_connections: (ordinal == 1).then_some(20),
        };
        Order {
            version: crate::wire::balancer::VERSION,
            settings: Settings {
                algorithm: Algorithm::LeastConnections,
                sticky: true,
                max_connections: 250,
                check_milliseconds: 1000,
                timeouts: Timeouts::default(),
            },
            peers: vec![
                Peer {
                    name: "demo-balancer-a".into(),
                    address: [10, 0, 1, 1].into(),
                },
                Peer {
                    name: "demo-balancer-b".into(),
                    address: "fd00::2".parse().unwrap(),
                },
            ],
            slots: vec![
                slot(0, State::Serve),
                slot(1, State::Serve),
                slot(2, State::Drain),
                slot(3, State::Out),
            ],
        }
    }

    #[test]
    fn the_configuration_says_what_the_order_says() {
        let pod = ThisPod {
            run: Path::new("/run/multimaster"),
            name: "demo-balancer-a",
            ip: [10, 0, 1, 1].into(),
        };
        insta::assert_snapshot!(config(&order(), pod));
    }

    #[test]
    fn without_stickiness_there_are_no_peers() {
        let mut order = order();
        order.settings.sticky = false;
        let pod = ThisPod {
            run: Path::new("/run/multimaster"),
            name: "demo-balancer-a",
            ip: [10, 0, 1, 1].into(),
        };
        let text = config(&order, pod);
        assert!(!text.contains("stick") && !text.contains("peers"), "{text}");
    }
}
