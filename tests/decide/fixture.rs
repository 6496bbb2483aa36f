//! Observations to start from: a whole ring of three, or three new members. Tests change what they are about.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use multimaster::api::MultiMasterCluster;
use multimaster::api::status::MemberStatus;
use multimaster::decide::observed::{Channel, ComparisonRun, Member, Observed, Pod, Probe, Receiver, Server};
use multimaster::decide::step::{ClusterAction, PodAction, Step};
use multimaster::decide::{Decision, decide};
use multimaster::wire::agent::{Mark, Origin, Phase, Report, VERSION, Volume};

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub fn uuid(ordinal: u8) -> String {
    format!("{ordinal}0000000-0000-0000-0000-000000000000")
}

pub fn cluster() -> MultiMasterCluster {
    let yaml = r"
apiVersion: multimaster.dev/v1alpha1
kind: MultiMasterCluster
metadata: {name: demo, namespace: default, uid: cluster-uid, generation: 1, resourceVersion: '1'}
spec: {members: 3, storage: {size: 1Gi}}";
    serde_yaml_ng::from_str(yaml).unwrap()
}

/// A link that replicates.
pub fn channel(upstream: u8) -> Channel {
    Channel {
        name: format!("from-{upstream}"),
        source_host: format!("demo-{upstream}.demo-members.default.svc"),
        source_port: 3306,
        source_uuid: Some(uuid(upstream)),
        receiver: Receiver::On,
        applier_running: true,
        lag_seconds: Some(0),
        receiver_file: "binlog.000002".into(),
        applied_file: "binlog.000002".into(),
        applied_offset: 1000,
        seconds_since_contact: Some(0),
        ..Channel::default()
    }
}

fn member(ordinal: u8) -> Member {
    let pod = Pod {
        uid: format!("pod-{ordinal}"),
        ip: Some(format!("10.0.0.{ordinal}")),
        scheduled: true,
        ready: true,
        running: true,
        serving: true,
        reads: true,
        revision: Some("a".into()),
        ..Pod::default()
    };
    let report = Report {
        version: VERSION,
        ordinal,
        origin: Origin::Founded,
        server_id: 160 + u32::from(ordinal) + 1,
        server_uuid: Some(uuid(ordinal)),
        former_server_uuids: Vec::new(),
        phase: Phase::Running,
        last_clone_error: None,
        clone_failures: None,
        kept: Vec::new(),
        fenced_itself: None,
        volume_full: false,
        // It has run for an hour.
        clock: 3_600_000,
        lease: None,
        volume: Some(Volume {
            mark: Some(mark(ordinal)),
        }),
        volume_usage: None,
        has_place_for_links: false,
    };
    let server = Server {
        uuid: uuid(ordinal),
        server_id: report.server_id,
        super_read_only: false,
        executed: executed(),
        channels: vec![channel((ordinal + 2) % 3)],
        binary_logs: vec!["binlog.000001".into(), "binlog.000002".into()],
        ..Server::default()
    };
    Member {
        ordinal,
        pod: Some(pod),
        claim: Some(claim(ordinal)),
        outsider: None,
        pod_refusal: None,
        agent: Probe::Reached(report),
        server: Probe::Reached(server),
        witness_probes: Vec::new(),
        since_contact: jiff::SignedDuration::ZERO,
        since_confirmed: jiff::SignedDuration::from_hours(1),
        last_seen_fenced: false,
    }
}

pub fn claim(ordinal: u8) -> String {
    format!("claim-{ordinal}")
}

/// What the volume of a member says.
pub fn mark(ordinal: u8) -> Mark {
    Mark {
        namespace: "default".into(),
        name: "demo".into(),
        cluster_uid: "cluster-uid".into(),
        claim_uid: claim(ordinal),
    }
}

/// Ten transactions of each member.
pub fn executed() -> multimaster::mysql::gtid::GtidSet {
    gtid(&format!("{}:1-10,{}:1-10,{}:1-10", uuid(0), uuid(1), uuid(2)))
}

pub fn gtid(text: &str) -> multimaster::mysql::gtid::GtidSet {
    text.parse().unwrap()
}

/// Three members that serve in a closed ring, with the status that says so.
pub fn whole() -> Observed {
    let mut observed = Observed {
        cluster: cluster(),
        update_revision: Some("a".into()),
        problems: Vec::new(),
        volumes: None,
        members: (0..3).map(member).collect(),
        balancers: Vec::new(),
        balancer_refusal: None,
        comparison: ComparisonRun::Idle,
        conflicts_wait: false,
        status_waits: false,
        looked_late: false,
    };
    settle(&mut observed, 0);
    observed
}

/// Three members as they are the first time that all have reported: fenced, empty, without links or labels.
pub fn new() -> Observed {
    let mut observed = Observed {
        cluster: cluster(),
        update_revision: Some("a".into()),
        problems: Vec::new(),
        volumes: None,
        members: (0..3).map(member).collect(),
        balancers: Vec::new(),
        balancer_refusal: None,
        comparison: ComparisonRun::Idle,
        conflicts_wait: false,
        status_waits: false,
        looked_late: false,
    };
    for ordinal in 0..3 {
        fence(&mut observed, ordinal);
        report(&mut observed, ordinal).origin = Origin::Empty;
        let server = server(&mut observed, ordinal);
        server.executed = gtid("");
        server.channels.clear();
    }
    observed
}

/// Writes the status of a decision into the resource, as a pass does.
pub fn settle(observed: &mut Observed, seconds: i64) -> Decision {
    let decision = decide(observed, at(seconds));
    observed.cluster.status = Some(decision.status.clone());
    decision
}

/// mysqld was restarted: fenced, out of the Service, pod not Ready.
pub fn fence(observed: &mut Observed, ordinal: u8) {
    server(observed, ordinal).super_read_only = true;
    let pod = pod(observed, ordinal);
    pod.serving = false;
    pod.reads = false;
    pod.ready = false;
}

pub fn server(observed: &mut Observed, ordinal: u8) -> &mut Server {
    match &mut observed.members[usize::from(ordinal)].server {
        Probe::Reached(server) => server,
        other => panic!("member {ordinal} is {other:?}"),
    }
}

pub fn report(observed: &mut Observed, ordinal: u8) -> &mut Report {
    match &mut observed.members[usize::from(ordinal)].agent {
        Probe::Reached(report) => report,
        other => panic!("agent {ordinal} is {other:?}"),
    }
}

pub fn pod(observed: &mut Observed, ordinal: u8) -> &mut Pod {
    observed.members[usize::from(ordinal)].pod.as_mut().unwrap()
}

pub fn link(observed: &mut Observed, downstream: u8) -> &mut Channel {
    &mut server(observed, downstream).channels[0]
}

/// The operator's probes of this member fail.
pub fn unreachable(observed: &mut Observed, ordinal: u8) {
    let member = &mut observed.members[usize::from(ordinal)];
    member.server = Probe::Unreachable("no answer".into());
    member.agent = Probe::Unreachable("no answer".into());
}

/// Neither the operator nor its downstream reaches this member.
pub fn lose(observed: &mut Observed, ordinal: u8) {
    unreachable(observed, ordinal);
    pod(observed, ordinal).ready = false;
    let downstream = link(observed, (ordinal + 1) % 3);
    downstream.receiver = Receiver::Connecting;
    downstream.seconds_since_contact = Some(5);
}

/// The steps without `Apply`, which is in every pass, and without the labels for reads, which `reads.rs` is about.
pub fn steps(decision: &Decision) -> Vec<&Step> {
    assert!(
        decision.steps.iter().filter(|step| step.is_risky()).count() <= 1,
        "{:?}",
        decision.steps
    );
    let matters = |step: &&Step| {
        !matches!(
            step,
            Step::Cluster(ClusterAction::Apply)
                | Step::Pod {
                    action: PodAction::ServeReads,
                    ..
                }
                | Step::Pod {
                    action: PodAction::WithdrawReads { .. },
                    ..
                }
        )
    };
    decision.steps.iter().filter(matters).collect()
}

pub fn condition<'a>(decision: &'a Decision, type_: &str) -> &'a Condition {
    decision
        .status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap()
}

pub fn member_status(decision: &Decision, ordinal: u8) -> &MemberStatus {
    &decision.status.member_statuses[usize::from(ordinal)]
}
