//! What an operator sees: its caches of Kubernetes' objects, which may be behind, and its probes, which are not.

use jiff::SignedDuration;
use multimaster::api::MultiMasterCluster;
use multimaster::decide::conflicts::record::Unread;
use multimaster::decide::observed::{
    Channel, ComparisonRun, Member, Observed, Pod, Probe, Receiver, Server, SqlError, WitnessProbe,
};
use multimaster::decide::serve::opening::note_fenced;
use multimaster::decide::serve::voters::note_confirmation;
use multimaster::names;
use multimaster::wire::agent::Report;

use crate::model::disk;
use crate::model::member::{self, Mysqld, SECOND, claim};
use crate::model::replication::silence;
use crate::model::transactions::{Ledger, uuid};
use crate::world::World;

type Pods = Vec<Option<member::Pod>>;

impl World {
    pub fn pods(&self) -> Pods {
        self.members.iter().map(|member| member.pod.clone()).collect()
    }

    /// One look at everything. A first session with a server kills those of the other operator.
    pub fn observe(&mut self, operator: usize) -> Observed {
        let (cluster, pods) = self.cached(operator);
        let silent = std::mem::take(&mut self.operators[operator].silent);
        let members: Vec<Member> = (0..self.setup.members)
            .map(|ordinal| self.look(operator, ordinal, &pods, silent.contains(&ordinal), cluster.writer()))
            .collect();
        self.operators[operator].silent = members
            .iter()
            .filter(|member| matches!(member.server, Probe::Unreachable(_)))
            .map(|member| member.ordinal)
            .collect();
        Observed {
            cluster,
            update_revision: Some(revision(self.template)),
            problems: Vec::new(),
            volumes: None,
            members,
            balancers: Vec::new(),
            balancer_refusal: None,
            comparison: ComparisonRun::Idle,
            conflicts_wait: false,
            status_waits: false,
            looked_late: false,
        }
    }

    /// The resource and the pods as this operator's caches have them.
    pub fn cached(&self, operator: usize) -> (MultiMasterCluster, Pods) {
        let stale = self.operators[operator].stale.as_ref();
        match stale.filter(|stale| self.now < stale.until) {
            Some(stale) => (MultiMasterCluster::clone(&stale.cluster), stale.pods.clone()),
            None => (MultiMasterCluster::clone(&self.cluster), self.pods()),
        }
    }

    pub fn cached_version(&self, operator: usize) -> Option<String> {
        let stale = self.operators[operator].stale.as_ref();
        let stale = stale.filter(|stale| self.now < stale.until);
        stale
            .map_or(&self.cluster, |stale| &stale.cluster)
            .metadata
            .resource_version
            .clone()
    }

    fn look(&mut self, operator: usize, ordinal: u8, pods: &Pods, was_silent: bool, writer: Option<u8>) -> Member {
        let at = usize::from(ordinal);
        let cached = pods[at].as_ref();
        let (mut agent, mut server) = (Probe::NoAddress, Probe::NoAddress);
        if let Some(pod) = cached {
            (agent, server) = match self.is_connected(operator, ordinal, pod.uid) {
                true => {
                    self.tell(operator, ordinal, pod.uid);
                    (self.report(at), self.probe(operator, ordinal, pod.uid))
                }
                false => (
                    Probe::Unreachable("no answer".into()),
                    Probe::Unreachable("no answer".into()),
                ),
            };
        }
        if !matches!(server, Probe::Reached(_)) {
            self.members[at].sessions[operator] = None;
        }
        let reported = matches!(agent, Probe::Reached(_));
        let mut member = Member {
            ordinal,
            since_contact: self.since_contact(operator, ordinal, cached.filter(|_| reported).map(|pod| pod.uid)),
            pod: cached.map(pod),
            claim: Some(claim(ordinal)),
            outsider: None,
            pod_refusal: None,
            agent,
            server,
            witness_probes: match was_silent && cached.is_some() {
                true => self.witness_probes(operator, ordinal, pods),
                false => Vec::new(),
            },
            since_confirmed: SignedDuration::ZERO,
            last_seen_fenced: false,
        };
        note_fenced(&mut self.operators[operator].fenced, &mut member);
        let now = SignedDuration::from_millis(i64::try_from(self.now * 100).unwrap());
        note_confirmation(
            &mut self.operators[operator].last_confirmations,
            &mut member,
            writer,
            now,
        );
        member
    }

    /// Packets get from this operator to the container of this pod, and something there answers them.
    pub fn is_connected(&self, operator: usize, ordinal: u8, pod: u64) -> bool {
        let member = &self.members[usize::from(ordinal)];
        let present = member.pod.as_ref().is_some_and(|present| present.uid == pod);
        present && member.agent_answers() && self.operator_cut[operator][usize::from(ordinal)] == 0
    }

    fn report(&self, at: usize) -> Probe<Report> {
        match self.members[at].report(self.now) {
            Some(report) => Probe::Reached(self.with_lease(at, report)),
            None => Probe::Unreachable("it has not looked at its volume yet".into()),
        }
    }

    fn probe(&mut self, operator: usize, ordinal: u8, pod: u64) -> Probe<Server> {
        let at = usize::from(ordinal);
        if !self.members[at].answers() || self.too_slow(ordinal) {
            return Probe::Unreachable("no answer within the deadline".into());
        }
        if self.members[at].refuses {
            return Probe::Alive("Too many connections".into());
        }
        let boot = self.members[at].boot;
        if self.operators[operator].introduced.insert(pod) {
            self.members[at].sessions = [None; 2];
        }
        self.members[at].sessions[operator] = Some(boot);
        match server(&self.members[at], self.now, &self.ledger) {
            Some(server) => Probe::Reached(server),
            None => Probe::Unreachable("no data directory".into()),
        }
    }

    /// What the agents that this operator reaches see of a member, through the member's agent.
    fn witness_probes(&self, operator: usize, ordinal: u8, pods: &Pods) -> Vec<WitnessProbe> {
        let look = |by: u8| {
            let pod = pods[usize::from(by)].as_ref()?;
            let asked = self.is_connected(operator, by, pod.uid);
            let reaches = self.cut[usize::from(by)][usize::from(ordinal)] == 0;
            let answered = reaches && self.members[usize::from(ordinal)].answers();
            asked.then_some(WitnessProbe { by, answered })
        };
        (0..self.setup.members).filter_map(look).collect()
    }
}

pub fn revision(template: u8) -> String {
    format!("template-{template}")
}

fn pod(pod: &member::Pod) -> Pod {
    Pod {
        uid: format!("pod-{}", pod.uid),
        ip: Some(format!("10.0.0.{}", pod.uid)),
        scheduled: true,
        ready: pod.ready,
        hindrance: None,
        restarted: None,
        running: pod.running,
        terminating: pod.ends_at.is_some(),
        serving: pod.serving,
        reads: pod.reads,
        revision: Some(revision(pod.revision)),
        problem: None,
        last_words: None,
    }
}

/// What an operator reads from the server of this member.
pub fn server(member: &member::Member, now: u64, ledger: &Ledger) -> Option<Server> {
    let (data, record) = (member.data()?, member.disk.record.as_ref()?);
    debug_assert_eq!(member.mysqld, Mysqld::Running);
    Some(Server {
        uuid: uuid(data.uuid?),
        server_id: record.server_id,
        super_read_only: member.super_read_only,
        half_fenced: member.half_fenced,
        idempotent: member.idempotent,
        executed: data.executed.gtid_set(),
        purged: data.purged.gtid_set(),
        client_sessions: 0,
        channels: data.channels.iter().map(|it| channel(it, now, ledger)).collect(),
        binary_logs: vec!["binlog.000001".into()],
        conflicts: data
            .records
            .values()
            .map(|number| ledger.records[*number].clone())
            .collect(),
        unread: Unread::default(),
        has_image_table: true,
    })
}

fn channel(channel: &disk::Channel, now: u64, ledger: &Ledger) -> Channel {
    let error = |(number, text): &(u32, String)| SqlError {
        number: *number,
        text: text.clone(),
    };
    let blocked = channel
        .relay_log
        .front()
        .filter(|_| channel.applier_error.is_some() && !channel.applier);
    Channel {
        name: names::channel(channel.upstream),
        source_host: names::member_host("demo", "default", channel.upstream),
        source_port: names::MYSQL_PORT,
        source_uuid: channel.source.map(uuid),
        receiver: match (channel.receiver, &channel.connection) {
            (false, _) => Receiver::Off,
            (true, None) => Receiver::Connecting,
            (true, Some(_)) => Receiver::On,
        },
        applier_running: channel.applier,
        retrieved: channel.retrieved.gtid_set(),
        receiver_error: channel.receiver_error.as_ref().map(error),
        applier_error: channel.applier_error.as_ref().map(error),
        lag_seconds: i64::try_from(channel.relay_log.len()).ok(),
        receiver_file: "binlog.000001".into(),
        applied_file: "binlog.000001".into(),
        applied_offset: 4,
        seconds_since_contact: silence(channel, now),
        blocked: blocked.map(|id| ledger.gtid(*id)),
        seconds_since_error: i64::try_from(now.saturating_sub(channel.failed_at) / SECOND).ok(),
    }
}
