//! What an earlier operator, agent or HAProxy pod says to one of this version in the middle of a rollout.

use std::net::IpAddr;

use axum::extract::Query;
use axum::http::Uri;
use multimaster::api::IsolationPolicy;
use multimaster::operator::web::merge::{Asked, merge};
use multimaster::wire::agent::{
    CloneOrder, EmptyOrder, Order, Origin, PATH_REPORT, Phase, Report, VERSION, WitnessAnswer,
};
use multimaster::wire::balancer::{self, State};
use multimaster::wire::history::Extract;
use multimaster::wire::lease::LeaseRenewal;
use serde::de::DeserializeOwned;

use crate::VERSIONS;
use crate::kept::{Ring, ring, rings, texts};

#[test]
fn an_agents_report_means_the_same() {
    for version in VERSIONS {
        for ring in rings(version) {
            let observed = ring.observed();
            for ordinal in 0..3 {
                let Some(report) = ring.find::<Report>(&format!("member-{ordinal}/report.json")) else {
                    continue;
                };
                assert_eq!(
                    (report.ordinal, &report.phase),
                    (ordinal, &Phase::Running),
                    "{}",
                    ring.name
                );
                assert!(report.version <= VERSION && report.is_understood(), "{}", ring.name);
                assert!(report.clock > 0, "{}", ring.name);
                assert!(report.fenced_itself.is_none() && !report.volume_full, "{}", ring.name);
                assert_eq!(
                    report.lease.is_some(),
                    observed.cluster.has_single_writer(),
                    "{}",
                    ring.name
                );
                let member = &observed.members[usize::from(ordinal)];
                assert!(member.with_data().is_some(), "{}: {member:?}", ring.name);
            }
        }
        let ring = ring(version, "single-writer");
        let writer = ring.cluster().writer().unwrap();
        for ordinal in 0..3 {
            let lease = ring
                .read::<Report>(&format!("member-{ordinal}/report.json"))
                .lease
                .unwrap();
            assert_eq!((lease.writer, lease.held), (writer, ordinal == writer));
        }
    }
}

#[test]
fn an_agents_report_in_every_phase() {
    for version in VERSIONS {
        let wire = texts(version, "written/wire");
        for name in [
            "initialising",
            "starting",
            "running",
            "cloning",
            "restarting",
            "stopping",
            "stopping-fenced",
        ] {
            let report: Report = read(&wire[&format!("report-{name}")]);
            let right = match &report.phase {
                Phase::Initialising => name == "initialising",
                Phase::Starting => name == "starting",
                Phase::Running => name == "running",
                Phase::Cloning { donor } => name == "cloning" && donor == "10.244.2.7",
                Phase::Restarting { reason } => name == "restarting" && reason.contains("\"quoted\" and \\"),
                Phase::Unknown => false,
                Phase::Stopping { fenced } => name == if *fenced { "stopping-fenced" } else { "stopping" },
            };
            assert!(right, "{version}/{name}: {report:?}");
            assert_eq!(
                (report.ordinal, report.origin, report.server_id),
                (1, Origin::Cloned, 0x1234_5672)
            );
            assert_eq!((report.former_server_uuids.len(), report.kept.len()), (1, 1));
            assert!(report.last_clone_error.is_some() && report.volume_full && report.clock == 73_512);
            assert_eq!(report.clone_failures, None, "agents of then did not count them");
            assert_eq!(report.volume_usage, None, "agents of then did not read it");
            let fenced = report.fenced_itself.unwrap();
            assert_eq!(fenced.cut_off_since.0.to_string(), "2026-01-02T03:04:05Z");
            let lease = report.lease.unwrap();
            assert_eq!(
                (lease.writer, lease.held, lease.since_confirmed_milliseconds),
                (2, false, Some(1500))
            );
        }
    }
}

#[test]
fn an_operators_orders_are_understood() {
    for version in VERSIONS {
        let wire = texts(version, "written/wire");
        let uuid = read::<Order>(&wire["order"]).server_uuid;
        assert_eq!(uuid.len(), 36);
        let clone: CloneOrder = read(&wire["clone"]);
        assert_eq!(
            (clone.server_uuid, clone.donor_address, clone.donor_uuid),
            (uuid.clone(), "10.244.2.7".to_owned(), None)
        );
        let empty: EmptyOrder = read(&wire["empty"]);
        assert_eq!(empty.server_uuid, uuid);
        assert!(empty.held_elsewhere.contains(&format!("{uuid}:77").parse().unwrap()));
        assert!(read::<WitnessAnswer>(&wire["look"]).answered);
    }
}

#[test]
fn an_operators_terms_are_understood() {
    for version in VERSIONS {
        let wire = texts(version, "written/wire");
        for case in ["serving", "single-writer", "away"] {
            let cluster = ring(version, case).cluster();
            let lines: Vec<&str> = wire[&format!("terms-{case}")].lines().collect();
            assert_eq!(lines.len(), 6, "{version}/{case}");
            for (n, line) in lines.iter().enumerate() {
                let ordinal = u8::try_from(n % 3).unwrap();
                let uri: Uri = format!("{PATH_REPORT}?{line}").parse().unwrap();
                let Query(terms) = Query::<LeaseRenewal>::try_from_uri(&uri).unwrap();
                assert_eq!(terms.policy, IsolationPolicy::KeepWriting, "{line}");
                assert_eq!(terms.after_seconds, cluster.spec.isolation.after_seconds, "{line}");
                assert_eq!(terms.clock, (n >= 3).then_some(73_512), "{line}");
                assert_eq!(terms.writer, cluster.writer(), "{line}");
                let address = |other: &u8| IpAddr::from([10, 244, 1, *other]);
                let others = || (0..3).filter(|other| *other != ordinal);
                assert_eq!(
                    terms.members,
                    others().map(|other| address(&other)).collect::<Vec<_>>(),
                    "{line}"
                );
                if terms.writer.is_some() {
                    assert_eq!(terms.lease_seconds, cluster.spec.isolation.lease_seconds, "{line}");
                    assert_eq!(terms.ring, terms.members, "{line}");
                    assert!(terms.reads, "{line}");
                }
            }
        }
    }
}

#[test]
fn a_haproxy_pod_is_told_and_tells_the_same() {
    for version in VERSIONS {
        let ring = ring(version, "single-writer");
        let cluster = ring.cluster();
        let writer = cluster.writer().unwrap();
        let mut asked = Vec::new();
        for n in 0..2 {
            let report: balancer::Report = ring.read(&format!("balancer-{n}/report.json"));
            let order = report.order.unwrap();
            assert_eq!(report.problem, None);
            assert!(
                order.settings.sticky && order.settings.max_connections == 50,
                "{order:?}"
            );
            assert_eq!((order.peers.len(), order.slots.len()), (2, 9));
            for slot in order.slots {
                let expected = if slot.ordinal == writer {
                    State::Serve
                } else {
                    State::Out
                };
                assert_eq!(slot.state, expected, "{slot:?}");
                assert_eq!(slot.address.is_some(), slot.ordinal < 3, "{slot:?}");
                assert_eq!(slot.weight, cluster.spec.balancer.weight(slot.ordinal));
            }
            asked.push(Asked {
                pod: format!("pod-{n}"),
                answer: Ok(extract(&ring, n)),
            });
        }
        let history = merge("writer", 3, asked, 1000);
        assert_eq!((history.pods.len(), history.servers.len()), (2, 3));
        assert!(!history.connections.is_empty() && !history.timeline.is_empty());
        let served: u64 = history.servers.iter().map(|server| server.traffic.sessions).sum();
        assert!(served > 0, "{:?}", history.servers);
    }
}

fn extract(ring: &Ring, n: u8) -> Extract {
    ring.read(&format!("balancer-{n}/history.json"))
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}
