use serde_json::{Value, json};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_366_400 + seconds).unwrap()
}

fn connection(client: u8, ordinal: Option<u8>, started: i64, ended: Option<i64>) -> history::Connection {
    history::Connection {
        client: [10, 0, 9, client].into(),
        port: 5000,
        ordinal,
        started_at: at(started),
        end: ended.map(|ended| End {
            ended_at: at(ended),
            duration_milliseconds: (ended - started).unsigned_abs() * 1000,
            bytes_received: 100,
            bytes_sent: 1000,
            termination_state: "--".into(),
        }),
    }
}

fn point(ordinal: u8, seconds: i64, state: ServerState) -> history::Point {
    history::Point {
        at: at(seconds),
        ordinal,
        state,
        check: "L7OK".into(),
        connections: 1,
        traffic: Traffic {
            sessions: 2,
            bytes_received: 30,
            bytes_sent: 400,
        },
    }
}

fn pod(name: &str, connections: Vec<history::Connection>, timeline: Vec<history::Point>) -> Asked {
    let last: BTreeMap<u8, history::Point> = timeline.iter().map(|point| (point.ordinal, point.clone())).collect();
    Asked {
        pod: name.into(),
        answer: Ok(Extract {
            from: at(0),
            connections,
            servers: last.into_values().collect(),
            timeline,
        }),
    }
}

/// Two pods that answered and one that did not.
fn asked() -> Vec<Asked> {
    use ServerState::{Down, Maint, Up};
    let a = vec![
        connection(1, Some(0), 10, Some(20)),
        connection(1, Some(1), 5, None),
        connection(2, None, 12, Some(13)),
    ];
    let b = vec![connection(1, Some(2), 1, Some(15))];
    let seen_by_a = vec![point(0, 1, Up), point(1, 1, Up), point(8, 1, Maint), point(1, 9, Down)];
    let seen_by_b = vec![point(0, 2, Up), point(1, 8, Down), point(1, 11, Up)];
    let missing = Asked {
        pod: "demo-balancer-c".into(),
        answer: Err("it does not answer: timed out".into()),
    };
    vec![
        pod("demo-balancer-a", a, seen_by_a),
        pod("demo-balancer-b", b, seen_by_b),
        missing,
    ]
}

fn merged(limit: usize) -> Value {
    serde_json::to_value(merge("demo", 2, asked(), limit)).unwrap()
}

#[test]
fn pods_are_named_whether_they_answer_or_not() {
    let history = merged(100);
    let from = "2026-11-22T16:53:20Z";
    assert_eq!(
        history["pods"],
        json!([{"pod": "demo-balancer-a", "from": from}, {"pod": "demo-balancer-b", "from": from}])
    );
    assert_eq!(
        history["missing"],
        json!([{"pod": "demo-balancer-c", "why": "it does not answer: timed out"}])
    );
}

#[test]
fn servers_are_members_with_the_figures_of_all_pods() {
    let row = |server: &str, states: Value, pods: u64| {
        json!({
            "server": server, "states": states, "connections": pods,
            "sessions": 2 * pods, "bytesReceived": 30 * pods, "bytesSent": 400 * pods,
        })
    };
    let expected = json!([
        row("demo-0", json!({"demo-balancer-a": "UP", "demo-balancer-b": "UP"}), 2),
        row("demo-1", json!({"demo-balancer-a": "DOWN", "demo-balancer-b": "UP"}), 2),
    ]);
    assert_eq!(merged(100)["servers"], expected);
}

#[test]
fn clients_are_counted_over_all_pods_whatever_the_limit() {
    let expected = json!([
        {"client": "10.0.9.1", "open": 1, "ended": 2, "bytesReceived": 200, "bytesSent": 2000,
            "servers": ["demo-0", "demo-1", "demo-2"], "lastAt": "2026-11-22T16:53:40Z"},
        {"client": "10.0.9.2", "open": 0, "ended": 1, "bytesReceived": 100, "bytesSent": 1000,
            "servers": [], "lastAt": "2026-11-22T16:53:33Z"},
    ]);
    assert_eq!(merged(100)["clients"], expected);
    assert_eq!(merged(1)["clients"], expected);
}

#[test]
fn the_last_connections_are_shown_and_open_ones_are_the_very_last() {
    let servers = |history: &Value| {
        let connections = history["connections"].as_array().unwrap().iter();
        connections.map(|of| of["server"].clone()).collect::<Vec<_>>()
    };
    let all = merged(100);
    assert_eq!(
        servers(&all),
        [Value::Null, json!("demo-2"), json!("demo-0"), json!("demo-1")]
    );
    assert_eq!(all["olderConnections"], 0);
    assert_eq!(
        all["connections"][2],
        json!({
            "pod": "demo-balancer-a", "server": "demo-0", "client": "10.0.9.1", "port": 5000,
            "startedAt": "2026-11-22T16:53:30Z", "endedAt": "2026-11-22T16:53:40Z", "durationMilliseconds": 10000,
            "bytesReceived": 100, "bytesSent": 1000, "terminationState": "--",
        })
    );
    let two = merged(2);
    assert_eq!(servers(&two), [json!("demo-0"), json!("demo-1")]);
    assert_eq!(two["olderConnections"], 2);
}

#[test]
fn the_time_line_is_one_of_all_pods() {
    let history = merge("demo", 2, asked(), 100);
    let seen: Vec<_> = history
        .timeline
        .iter()
        .map(|point| {
            (
                point.at,
                point.pod.rsplit('-').next().unwrap(),
                point.server.as_str(),
                point.state,
            )
        })
        .collect();
    use ServerState::{Down, Up};
    let expected = [
        (at(1), "a", "demo-0", Up),
        (at(1), "a", "demo-1", Up),
        (at(2), "b", "demo-0", Up),
        (at(8), "b", "demo-1", Down),
        (at(9), "a", "demo-1", Down),
        (at(11), "b", "demo-1", Up),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_member_that_has_left_keeps_its_past() {
    let mut asked = asked();
    asked.push(pod(
        "demo-balancer-d",
        Vec::new(),
        vec![point(3, 1, ServerState::Up), point(3, 2, ServerState::Maint)],
    ));
    let history = merge("demo", 2, asked, 100);
    assert!(history.servers.iter().any(|server| server.server == "demo-3"));
    assert_eq!(
        history.timeline.iter().filter(|point| point.server == "demo-3").count(),
        2
    );
}
