//! HAProxy between applications and the members.

use multimaster::api::balancer::{Balancer as Spec, BalancerType};
use multimaster::api::reasons::Reason;
use multimaster::api::status::conditions;
use multimaster::decide::Decision;
use multimaster::decide::observed::{Balancer, Observed, Pod, Probe, Receiver};
use multimaster::decide::step::{BalancerAction, ClusterAction, PodAction, Step};
use multimaster::resources::{Settings, desired};
use multimaster::wire::balancer::{Order, Report, State};
use serde_json::json;

use crate::fixture::{condition, fence, link, pod, server, settle, steps, unreachable, whole};

/// A whole ring whose spec asks for HAProxy; there is no pod of it yet.
fn asked(balancer: serde_json::Value) -> Observed {
    let mut observed = whole();
    observed.cluster.spec.balancer = serde_json::from_value::<Spec>(balancer).unwrap();
    observed
}

/// Two pods that run and were told nothing.
fn begun() -> Observed {
    let mut observed = asked(json!({"type": "HAProxy"}));
    for (name, last) in [("demo-balancer-a", 1), ("demo-balancer-b", 2)] {
        observed.balancers.push(Balancer {
            name: name.into(),
            pod: Pod {
                uid: format!("uid-of-{name}"),
                ip: Some(format!("10.1.0.{last}")),
                running: true,
                ..Pod::default()
            },
            report: Probe::Reached(Report::default()),
        });
    }
    observed
}

/// Both follow the order and are in the Service.
pub fn balanced() -> Observed {
    let mut observed = begun();
    for seconds in 60..62 {
        let decision = settle(&mut observed, seconds);
        obey(&mut observed, &decision);
        kubelet(&mut observed);
    }
    let decision = settle(&mut observed, 62);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    observed
}

/// Carries out what a decision says of HAProxy's pods.
fn obey(observed: &mut Observed, decision: &Decision) {
    for step in &decision.steps {
        let named = |pod: &String| {
            observed
                .balancers
                .iter()
                .position(|balancer| balancer.name == *pod)
                .unwrap()
        };
        match step {
            Step::Cluster(ClusterAction::Balance { pods, order }) => {
                for at in pods.iter().map(named).collect::<Vec<_>>() {
                    observed.balancers[at].report = Probe::Reached(Report {
                        version: 1,
                        order: Some((**order).clone()),
                        problem: None,
                    });
                }
            }
            Step::Balancer {
                pod,
                action: BalancerAction::Serve,
                ..
            } => {
                let at = named(pod);
                observed.balancers[at].pod.serving = true;
            }
            Step::Balancer {
                pod,
                action: BalancerAction::Withdraw { .. },
                ..
            } => {
                let at = named(pod);
                observed.balancers[at].pod.serving = false;
            }
            _ => {}
        }
    }
}

/// Pods that follow an order are Ready.
fn kubelet(observed: &mut Observed) {
    for balancer in &mut observed.balancers {
        balancer.pod.ready = balancer.report.reached().is_some_and(|report| report.order.is_some());
    }
}

fn orders(decision: &Decision) -> Vec<&Order> {
    let orders = decision.steps.iter().filter_map(|step| match step {
        Step::Cluster(ClusterAction::Balance { order, .. }) => Some(&**order),
        _ => None,
    });
    orders.collect()
}

fn states(order: &Order) -> Vec<State> {
    order.slots.iter().map(|slot| slot.state).collect()
}

/// Labels that the application's Service selects.
fn selected(observed: &Observed) -> String {
    let settings = Settings {
        operator_image: "o".into(),
        default_mysql_image: "m".into(),
        default_haproxy_image: "h".into(),
        log_format: "Text".into(),
    };
    let service = desired(&observed.cluster, &settings, None).service;
    service.spec.unwrap().selector.unwrap()["app.kubernetes.io/component"].clone()
}

#[test]
fn the_service_leads_to_the_members_until_haproxy_serves() {
    let mut observed = asked(json!({"type": "HAProxy"}));
    let decision = settle(&mut observed, 60);
    assert_eq!(selected(&observed), "member");
    assert_eq!(
        condition(&decision, conditions::READY).reason,
        Reason::BalancerNotServing.as_ref()
    );
    assert_eq!(condition(&decision, conditions::AVAILABLE).status, "True");

    let mut observed = begun();
    let decision = settle(&mut observed, 60);
    assert!(matches!(steps(&decision)[..], [Step::Cluster(ClusterAction::Balance { pods, .. })] if pods.len() == 2));
    assert!(!decision.steps.iter().any(|step| matches!(
        step,
        Step::Balancer {
            action: BalancerAction::Serve,
            ..
        }
    )));
    obey(&mut observed, &decision);
    let decision = settle(&mut observed, 61);
    assert!(
        steps(&decision).is_empty(),
        "Kubernetes does not know yet: {:?}",
        decision.steps
    );
    kubelet(&mut observed);
    let decision = settle(&mut observed, 61);
    assert!(matches!(
        steps(&decision)[..],
        [
            Step::Balancer {
                action: BalancerAction::Serve,
                ..
            },
            Step::Balancer {
                action: BalancerAction::Serve,
                ..
            }
        ]
    ));
    assert_eq!(selected(&observed), "member");
    obey(&mut observed, &decision);
    let decision = settle(&mut observed, 62);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    assert_eq!(selected(&observed), "balancer");
    assert_eq!(condition(&decision, conditions::READY).status, "True");

    observed.cluster.spec.balancer.type_ = BalancerType::Service;
    settle(&mut observed, 63);
    assert_eq!(selected(&observed), "member");
}

#[test]
fn a_member_gets_connections_exactly_while_it_has_the_label() {
    let mut observed = balanced();
    let Probe::Reached(Report { order: Some(order), .. }) = &observed.balancers[0].report else {
        panic!("it follows no order");
    };
    use State::{Drain, Out, Serve};
    assert_eq!(states(order), [Serve, Serve, Serve, Out, Out, Out, Out, Out, Out]);
    assert_eq!(order.settings.max_connections, 250);

    // Restarted: its sessions are gone anyway.
    fence(&mut observed, 1);
    pod(&mut observed, 1).serving = true;
    let decision = settle(&mut observed, 63);
    assert!(steps(&decision).iter().any(|step| matches!(
        step,
        Step::Pod {
            ordinal: 1,
            action: PodAction::Withdraw { .. },
            ..
        }
    )));
    assert_eq!(states(orders(&decision)[0])[..3], [Serve, Out, Serve]);
    obey(&mut observed, &decision);

    // Back: with the label come the connections, in the same pass.
    pod(&mut observed, 1).serving = false;
    server(&mut observed, 1).super_read_only = false;
    let decision = settle(&mut observed, 64);
    assert!(steps(&decision).iter().any(|step| matches!(
        step,
        Step::Pod {
            ordinal: 1,
            action: PodAction::Serve,
            ..
        }
    )));
    assert_eq!(states(orders(&decision)[0])[..3], [Serve, Serve, Serve]);
    obey(&mut observed, &decision);
    pod(&mut observed, 1).serving = true;

    // It is to leave: what is open may finish.
    observed.cluster.spec.members = 2;
    let decision = settle(&mut observed, 65);
    assert_eq!(states(orders(&decision)[0])[..3], [Serve, Serve, Drain]);
    obey(&mut observed, &decision);
    pod(&mut observed, 2).serving = false;

    // Not when it does not answer once; when it surely failed.
    unreachable(&mut observed, 2);
    let decision = settle(&mut observed, 66);
    assert!(orders(&decision).is_empty(), "{:?}", decision.steps);
    pod(&mut observed, 2).ready = false;
    link(&mut observed, 0).receiver = Receiver::Connecting;
    let decision = settle(&mut observed, 67);
    assert_eq!(states(orders(&decision)[0])[..3], [Serve, Serve, Out]);
}

#[test]
fn a_suspect_member_keeps_its_connections_until_a_second_witness_agrees() {
    let mut observed = balanced();
    unreachable(&mut observed, 1);
    let decision = settle(&mut observed, 63);
    assert!(orders(&decision).is_empty(), "{:?}", decision.steps);
    pod(&mut observed, 1).ready = false;
    link(&mut observed, 2).receiver = Receiver::Connecting;
    let decision = settle(&mut observed, 64);
    assert_eq!(
        states(orders(&decision)[0])[..3],
        [State::Serve, State::Out, State::Serve]
    );
}

#[test]
fn a_pod_that_does_not_answer_leaves_the_service_unless_it_is_the_last() {
    let mut observed = balanced();
    observed.balancers[0].report = Probe::Unreachable("no answer".into());
    let decision = settle(&mut observed, 63);
    assert!(
        matches!(&steps(&decision)[..], [Step::Balancer { pod, action: BalancerAction::Withdraw { .. }, .. }] if pod == "demo-balancer-a"),
        "{:?}",
        decision.steps
    );
    assert_eq!(
        condition(&decision, conditions::READY).reason,
        Reason::BalancerNotServing.as_ref()
    );
    obey(&mut observed, &decision);
    observed.balancers[1].report = Probe::Unreachable("no answer".into());
    let decision = settle(&mut observed, 64);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
    let available = condition(&decision, conditions::AVAILABLE);
    assert_eq!(
        (available.status.as_str(), available.reason.as_str()),
        ("False", Reason::BalancerNotServing.as_ref())
    );
}

#[test]
fn nothing_is_said_to_haproxy_by_an_operator_that_sees_no_member() {
    let mut observed = balanced();
    for ordinal in 0..3 {
        unreachable(&mut observed, ordinal);
        pod(&mut observed, ordinal).ready = false;
    }
    let decision = settle(&mut observed, 63);
    assert!(steps(&decision).is_empty(), "{:?}", decision.steps);
}

#[test]
fn settings_reach_haproxy_while_it_runs() {
    let mut observed = balanced();
    let settings = json!({
        "type": "HAProxy", "algorithm": "LeastConnections", "sticky": true, "maxConnections": 101, "checkMilliseconds": 200,
        "members": [{"ordinal": 2, "weight": 10, "maxConnections": 7}],
    });
    observed.cluster.spec.balancer = serde_json::from_value(settings).unwrap();
    let decision = settle(&mut observed, 63);
    let order = orders(&decision)[0];
    assert_eq!(
        (order.settings.max_connections, order.settings.check_milliseconds),
        (50, 200)
    );
    assert_eq!((order.slots[2].weight, order.slots[2].max_connections), (10, Some(3)));
    assert_eq!((order.slots[1].weight, order.slots[1].max_connections), (100, None));
    let peers: Vec<&str> = order.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(peers, ["demo-balancer-a", "demo-balancer-b"]);
}
