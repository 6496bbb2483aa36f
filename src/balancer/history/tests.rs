use jiff::ToSpan;
use serde_json::json;

use super::*;
use crate::wire::history::ServerState;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_366_464 + seconds).unwrap()
}

fn line(value: serde_json::Value) -> Line {
    Line::read(&value.to_string()).unwrap().unwrap()
}

fn started(worker: u32, port: u16, seconds: i64, server: &str) -> Line {
    line(json!({
        "event": "started", "worker": worker, "client": "10.0.9.9", "port": port,
        "accepted": at(seconds).as_second(), "milliseconds": 0, "server": server,
    }))
}

/// 100 bytes there, 1000 back.
fn ended(worker: u32, port: u16, seconds: i64, duration: i64) -> Line {
    line(json!({
        "event": "ended", "worker": worker, "client": "10.0.9.9", "port": port,
        "accepted": at(seconds).as_second(), "milliseconds": 0, "duration": duration, "received": 100, "sent": 1000, "termination": "--",
    }))
}

fn row(ordinal: u8, state: ServerState, connections: u64, traffic: [u64; 3]) -> Row {
    Row {
        ordinal,
        state,
        check: "L7OK".into(),
        connections,
        traffic: of(traffic),
    }
}

fn of([sessions, bytes_received, bytes_sent]: [u64; 3]) -> Traffic {
    Traffic {
        sessions,
        bytes_received,
        bytes_sent,
    }
}

/// The last figures of a server.
fn figures(history: &History, ordinal: u8) -> (u64, Traffic) {
    let servers = history.extract(None).servers;
    let point = servers.iter().find(|point| point.ordinal == ordinal).unwrap();
    (point.connections, point.traffic)
}

use ServerState::{Down, Maint, Up};

#[test]
fn a_connection_is_open_until_it_has_ended() {
    let mut history = History::new(at(0));
    history.log(started(7, 5001, 0, "m-2"), at(0));
    let [open] = &history.extract(None).connections[..] else {
        panic!("{history:?}");
    };
    assert_eq!((open.ordinal, open.started_at, &open.end), (Some(2), at(0), &None));
    history.log(ended(7, 5001, 0, 1500), at(2));
    let extract = history.extract(None);
    assert_eq!(
        serde_json::to_value(&extract.connections).unwrap(),
        json!([{
            "client": "10.0.9.9", "port": 5001, "ordinal": 2, "startedAt": "2026-11-22T16:54:24Z", "endedAt": "2026-11-22T16:54:25.5Z",
            "durationMilliseconds": 1500, "bytesReceived": 100, "bytesSent": 1000, "terminationState": "--",
        }])
    );
    let text = serde_json::to_string(&extract).unwrap();
    assert_eq!(serde_json::from_str::<Extract>(&text).unwrap(), extract);
}

#[test]
fn who_was_served_by_nobody_is_remembered_as_such() {
    let mut history = History::new(at(0));
    history.log(started(7, 5001, 0, "<NOSRV>"), at(0));
    assert!(history.extract(None).connections.is_empty());
    history.log(ended(7, 5001, 0, 4), at(0));
    assert_eq!(history.extract(None).connections[0].ordinal, None);
}

#[test]
fn a_beginning_that_is_logged_after_the_end_leaves_nothing_open() {
    let mut history = History::new(at(0));
    history.log(ended(7, 5001, 0, 0), at(0));
    history.log(started(7, 5001, 0, "m-1"), at(0));
    let [connection] = &history.extract(None).connections[..] else {
        panic!("{history:?}");
    };
    assert_eq!(connection.ordinal, Some(1));
    assert!(connection.end.is_some());
    // The same port again, much later, is another connection.
    history.log(started(7, 5001, 60, "m-0"), at(60));
    assert_eq!(history.extract(None).connections.len(), 2);
}

#[test]
fn clients_with_ipv4_addresses_are_shown_as_such() {
    let mut history = History::new(at(0));
    let mut mapped = ended(7, 5001, 0, 0);
    if let Line::Ended { connection, .. } = &mut mapped {
        connection.client = "::ffff:10.0.9.9".parse().unwrap();
    }
    history.log(mapped, at(0));
    assert_eq!(history.extract(None).connections[0].client, IpAddr::from([10, 0, 9, 9]));
}

#[test]
fn what_is_too_old_or_too_much_is_forgotten_and_from_says_so() {
    let mut history = History::new(at(0));
    for port in 0..3 {
        history.log(ended(7, port, i64::from(port) * 100, 0), at(i64::from(port) * 100));
    }
    assert_eq!((history.extract(None).from, history.ended.len()), (at(0), 3));
    history.log(ended(7, 9, 1050, 0), at(1050));
    let ports: Vec<u16> = history.extract(None).connections.iter().map(|of| of.port).collect();
    assert_eq!(ports, [2, 9]);
    assert_eq!(history.extract(None).from, at(100));
    assert_eq!(history.extract(Some(at(1000))).connections.len(), 1);

    for number in 0..MOST_CONNECTIONS {
        let second = 1100 + i64::try_from(number).unwrap() / 100;
        history.log(ended(7, 1, second, 0), at(second));
    }
    assert_eq!(history.ended.len(), MOST_CONNECTIONS);
    assert_eq!(history.extract(None).from, at(1050));
}

#[test]
fn the_time_line_has_changes_and_a_point_a_minute() {
    let mut history = History::new(at(0));
    let states = [Up, Up, Down, Down, Maint, Up, Up];
    for (second, state) in states.into_iter().enumerate() {
        let second = i64::try_from(second).unwrap();
        history.sample(&[(7, vec![row(1, state, 0, [0, 0, 0])])], at(second));
    }
    history.sample(&[(7, vec![row(1, Up, 0, [0, 0, 0])])], at(65));
    let points = |since| history.extract(since).timeline;
    let seen: Vec<_> = points(None).iter().map(|point| (point.at, point.state)).collect();
    assert_eq!(
        seen,
        [(at(0), Up), (at(2), Down), (at(4), Maint), (at(5), Up), (at(65), Up)]
    );
    assert_eq!(points(Some(at(5))).len(), 2);
}

#[test]
fn the_time_line_is_bounded() {
    let mut history = History::new(at(0));
    let busy = |count: u64| (0..9).map(|ordinal| row(ordinal, Up, count, [0, 0, 0])).collect();
    for second in 0..2000_i64 {
        history.sample(&[(7, busy(second.unsigned_abs()))], at(second));
        assert!(history.points.len() <= MOST_POINTS);
    }
    let extract = history.extract(None);
    assert_eq!(extract.timeline[0].at, at(1999) - 15.minutes());
    assert_eq!(extract.from, at(1998) - 15.minutes());
}

#[test]
fn counters_that_begin_anew_lose_and_double_nothing() {
    let mut history = History::new(at(0));
    // One has ended, one is open; all of it counted.
    history.log(started(7, 1, 0, "m-0"), at(0));
    history.log(ended(7, 1, 0, 900), at(1));
    history.log(started(7, 2, 1, "m-0"), at(1));
    history.sample(&[(7, vec![row(0, Up, 1, [2, 150, 1500])])], at(2));
    assert_eq!(figures(&history, 0), (1, of([2, 150, 1500])));

    // A reload: the open connection stays in the old worker, and the new worker counts from zero.
    let reloaded = |new, old| [(8, vec![row(0, Up, 1, new)]), (7, vec![row(0, Up, 1, old)])];
    history.log(started(8, 3, 3, "m-0"), at(3));
    history.sample(&reloaded([1, 10, 10], [2, 160, 1600]), at(3));
    assert_eq!(figures(&history, 0), (2, of([3, 170, 1610])));

    // The old worker's last session ends, and with it the worker, before its counters could be read again.
    history.log(ended(7, 2, 1, 2900), at(4));
    for second in 4..30 {
        history.sample(&[(8, vec![row(0, Up, 1, [1, 10, 10])])], at(second));
        assert_eq!(figures(&history, 0), (1, of([3, 210, 2010])), "after {second} s");
    }
    assert_eq!((history.tallies.len(), history.workers.len()), (1, 1));
}

#[test]
fn a_worker_that_is_gone_has_nothing_open() {
    let mut history = History::new(at(0));
    history.log(started(7, 1, 0, "m-0"), at(0));
    history.sample(&[(8, Vec::new())], at(5));
    assert_eq!(history.extract(None).connections.len(), 1);
    history.sample(&[(8, Vec::new())], at(20));
    assert!(history.extract(None).connections.is_empty());
}
