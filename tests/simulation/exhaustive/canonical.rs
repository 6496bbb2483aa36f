//! What makes two worlds the same: all that can change what happens next, without the names of moments, pods and runs.
//!
//! Of a time only its age counts, and only as far as anything waits for it. When something that is due comes is chance here, so its moment does
//! not count. Of a pod counts whether somebody means the present one. What decisions never read is left out: texts for people, and since when
//! a state or a condition lasts. So the worlds that can be reached are finitely many although time goes on.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use multimaster::api::status::MultiMasterClusterStatus;

use crate::model::disk::{Channel, Data, Disk};
use crate::model::member::{Member, Mysqld, SECOND};
use crate::operator::{Effect, Operator, is_pod};
use crate::world::World;

/// Nothing else asks for how long it is that something was heard: `NET_TIMEOUT` and the seconds of silence that witnesses count are shorter.
const HEARD: u64 = 4 * SECOND;
/// GTID sets are recorded at most every five seconds.
const RECORDED: u64 = 5 * SECOND;
/// A member outside the ring may take writes for six seconds.
const OUTSIDE: u64 = 7 * SECOND;
/// An observation is too old for a risky step after two and a half.
const LOOKED: u64 = 3 * SECOND;

pub fn digest(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

impl Hash for World {
    fn hash<H: Hasher>(&self, to: &mut H) {
        for member in &self.members {
            self.hash_member(member, to);
        }
        (&self.ledger.transactions, &self.ledger.lives).hash(to);
        self.hash_status(self.cluster.status.as_ref(), to);
        // Which of the operators leads does not matter, only which of them does what.
        for at in self.by_rank() {
            self.hash_operator(&self.operators[at], to);
            self.operator_cut[at].hash(to);
        }
        (&self.cut, self.template, self.leader.is_some()).hash(to);
        for event in &self.ending {
            event.fault.hash(to);
        }
        let judge = &self.judge;
        (judge.failure.as_ref().map(|failure| failure.invariant), judge.tainted).hash(to);
        (&judge.lost_with_disks, &judge.hidden).hash(to);
        for since in judge.outside_since {
            self.age(since, OUTSIDE).hash(to);
        }
    }
}

impl World {
    fn age(&self, at: Option<u64>, most: u64) -> Option<u64> {
        at.map(|at| self.now.saturating_sub(at).min(most))
    }

    /// The leader first.
    fn by_rank(&self) -> [usize; 2] {
        let leader = self.leader.unwrap_or(0);
        [leader, 1 - leader]
    }

    fn hash_member<H: Hasher>(&self, member: &Member, to: &mut H) {
        if let Some(pod) = &member.pod {
            (
                pod.revision,
                pod.serving,
                pod.reads,
                pod.ready,
                pod.running,
                pod.ends_at.is_some(),
            )
                .hash(to);
        }
        let running = match member.mysqld {
            Mysqld::Down => 0,
            Mysqld::Starting { again, .. } => 1 + u8::from(again),
            Mysqld::Running => 3,
        };
        (member.pod.is_some(), running, member.super_read_only).hash(to);
        (member.half_fenced, member.idempotent).hash(to);
        (member.frozen, member.node_down, member.slow, member.refuses).hash(to);
        (member.cloning.map(|cloning| cloning.donor), member.snapshot.is_some()).hash(to);
        self.age(member.silent_since, 2 * SECOND).hash(to);
        for at in self.by_rank() {
            (member.sessions[at] == Some(member.boot)).hash(to);
            let introduced = |uid| self.operators[at].introduced.contains(&uid);
            member.pod.as_ref().is_some_and(|pod| introduced(pod.uid)).hash(to);
        }
        for late in &member.late {
            (Some(late.operator) == self.leader, &late.statement).hash(to);
        }
        self.hash_disk(&member.disk, to);
    }

    fn hash_disk<H: Hasher>(&self, disk: &Disk, to: &mut H) {
        (disk.record.is_some(), disk.data.is_some()).hash(to);
        if let Some(record) = &disk.record {
            (record.server_id, record.uuid, record.origin as u8).hash(to);
            (&record.former, record.intent, &record.clone_error, record.marked).hash(to);
            // Further ones only make the pause longer, and no pause is waited for here.
            record.failed_clones.min(3).hash(to);
        }
        if let Some(data) = &disk.data {
            self.hash_data(data, to);
        }
    }

    fn hash_data<H: Hasher>(&self, data: &Data, to: &mut H) {
        (data.uuid, &data.executed, &data.purged, &data.binary_log, data.first).hash(to);
        (&data.contents, &data.rows, data.counter, data.cloned).hash(to);
        data.channels.len().hash(to);
        for channel in &data.channels {
            self.hash_channel(channel, to);
        }
    }

    fn hash_channel<H: Hasher>(&self, channel: &Channel, to: &mut H) {
        (channel.upstream, &channel.retrieved, &channel.relay_log, channel.source).hash(to);
        (channel.receiver, &channel.receiver_error).hash(to);
        (channel.applier, &channel.applier_error).hash(to);
        let source = &self.members[usize::from(channel.upstream)];
        let connection = channel.connection.as_ref();
        connection
            .map(|it| (it.boot == source.boot, it.cursor, &it.had))
            .hash(to);
        self.age(Some(channel.heard), HEARD).hash(to);
    }

    fn hash_operator<H: Hasher>(&self, operator: &Operator, to: &mut H) {
        operator.silent.hash(to);
        let Some(pass) = &operator.pass else { return };
        self.age(Some(pass.looked), LOOKED).hash(to);
        for effect in &pass.effects {
            self.hash_effect(effect, to);
            if matches!(effect, Effect::WriteStatus) {
                (pass.version == self.cluster.metadata.resource_version).hash(to);
                self.hash_status(Some(&pass.decision.status), to);
            }
        }
    }

    fn hash_effect<H: Hasher>(&self, effect: &Effect, to: &mut H) {
        let present = |ordinal: &u8, uid: &str| is_pod(self.members[usize::from(*ordinal)].pod.as_ref(), uid);
        std::mem::discriminant(effect).hash(to);
        match effect {
            Effect::WriteStatus | Effect::Fresh => {}
            Effect::Label {
                ordinal,
                pod,
                label,
                set,
            } => (ordinal, present(ordinal, pod), label, set).hash(to),
            Effect::Sql {
                ordinal,
                pod,
                statement,
            } => (ordinal, present(ordinal, pod), statement).hash(to),
            Effect::Order {
                ordinal,
                pod,
                uuid,
                order,
            } => (ordinal, present(ordinal, pod), uuid, order).hash(to),
            Effect::DeletePod { ordinal, pod } => (ordinal, present(ordinal, pod)).hash(to),
            Effect::Conflict { ordinal, part } => (ordinal, part).hash(to),
        }
    }

    /// What later decisions read of a status, and what says that there is something to write.
    fn hash_status<H: Hasher>(&self, status: Option<&MultiMasterClusterStatus>, to: &mut H) {
        let Some(status) = status else { return };
        let now = self.time();
        let age = |at: Timestamp, most: u64| {
            let ticks = u64::try_from(now.duration_since(at).as_millis() / 100);
            ticks.unwrap_or(0).min(most)
        };
        let after = u64::from(self.setup.bypass_after) * SECOND;
        (status.epoch, status.phase as u8, &status.ring).hash(to);
        status.recorded_at.as_ref().map(|at| age(at.0, RECORDED)).hash(to);
        for member in &status.member_statuses {
            (member.state as u8, member.bypassed, member.writable).hash(to);
            member.absent_since.as_ref().map(|at| age(at.0, after)).hash(to);
            (&member.server_uuid, &member.former_server_uuids, member.server_id).hash(to);
            (&member.gtid_executed, &member.catch_up_to).hash(to);
            for link in &member.links {
                (&link.upstream, link.io_running, link.sql_running, link.lag_seconds).hash(to);
            }
        }
        for condition in &status.conditions {
            (&condition.status, &condition.reason).hash(to);
        }
    }
}
