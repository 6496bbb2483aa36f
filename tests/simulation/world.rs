//! Everything that exists in a run, and one tick of it.

use std::sync::Arc;

use jiff::Timestamp;
use multimaster::api::MultiMasterCluster;

use crate::event::{Event, Scenario, Setup};
use crate::invariants::{Invariant, Judge};
use crate::lease::Agent;
use crate::model::disk::NAMED_ROWS;
use crate::model::member::{CLUSTER_UID, Frozen, Member, Mysqld, Pod, SECOND};
use crate::model::replication::{Pace, replicate};
use crate::model::transactions::{Bits, Change, Id, Ledger, Transaction, tagged};
use crate::operator::{Decider, Operator};
use crate::random::chance;

/// What chance is asked for.
pub mod chances {
    pub const WRITE: u64 = 1;
    pub const KIND: u64 = 2;
    pub const START: u64 = 3;
    pub const POD: u64 = 4;
    pub const SLOW: u64 = 5;
}

/// Rules that tests break on purpose outside `decide`, to see that the invariants notice.
#[derive(Clone, Copy, Default)]
pub struct Flaws {
    /// A new life keeps the old server_id.
    pub keeps_server_id: bool,
    /// A channel is removed without looking at its relay logs.
    pub detaches_unchecked: bool,
    /// A new channel begins behind all that its source has.
    pub attaches_from_now: bool,
    /// What is executed already is executed again.
    pub applies_twice: bool,
    /// An order to clone is carried out whatever the directory holds.
    pub clones_over_data: bool,
    /// An applier takes a changed row for changed, and changes nothing.
    pub loses_effects: bool,
    /// Agents do not enforce the lease of the one writer.
    pub keeps_writing: bool,
    /// The writer needs every voter.
    pub asks_all: bool,
    /// Rows in conflict are deleted, not written again.
    pub deletes_all: bool,
    /// A row that a losing side has written again counts as the winner's.
    pub believes_losers: bool,
    /// A conflict is settled whatever the rows are.
    pub settles_unequal: bool,
    /// Rows are compared while writes of a side are in flight.
    pub settles_early: bool,
    /// Nothing that a member lacks is taken for undetectable.
    pub trusting: bool,
    /// Not judged, so that what follows from it is seen.
    pub blind_to: &'static [Invariant],
}

#[derive(Clone)]
pub struct World {
    pub setup: Setup,
    pub flaws: Flaws,
    pub decider: Decider,
    pub now: u64,
    pub members: Vec<Member>,
    pub ledger: Ledger,
    /// The resource in the API server.
    pub cluster: Arc<MultiMasterCluster>,
    pub operators: [Operator; 2],
    pub leader: Option<usize>,
    pub lease_until: u64,
    /// `[from][to]`: so many faults keep the first from connecting to the second.
    pub cut: [[u8; 9]; 9],
    /// The same for operators.
    pub operator_cut: [[u8; 9]; 2],
    pub template: u8,
    pub judge: Judge,
    pub trace: Option<Vec<String>>,
    uids: u64,
    pub ending: Vec<Event>,
    pub conflicts: u32,
}

impl World {
    pub fn new(setup: Setup, decider: Decider, flaws: Flaws, traced: bool) -> Self {
        Self {
            setup,
            flaws,
            decider,
            now: 0,
            members: (0..setup.members).map(Member::new).collect(),
            ledger: Ledger::default(),
            cluster: Arc::new(cluster(&setup)),
            operators: [Operator::default(), Operator::default()],
            leader: None,
            lease_until: 0,
            cut: [[0; 9]; 9],
            operator_cut: [[0; 9]; 2],
            template: 0,
            judge: Judge::new(flaws.blind_to),
            trace: traced.then(Vec::new),
            uids: 0,
            ending: Vec::new(),
            conflicts: 0,
        }
    }

    pub fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(self.now).unwrap() * 100).unwrap()
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>5}.{} {}", self.now / SECOND, self.now % SECOND, text()));
        }
    }

    /// Faults are over: none is still to come, and none lasts.
    pub fn is_calm(&self, scenario: &Scenario) -> bool {
        self.now > self.setup.faults_until
            && self.ending.is_empty()
            && scenario.events.iter().all(|event| event.at < self.now)
            && self.operators.iter().all(|operator| operator.is_well(self.now))
    }

    pub fn tick(&mut self, scenario: &Scenario) {
        let now = self.now;
        for event in scenario.events.iter().filter(|event| event.at == now) {
            self.begin(event.fault);
        }
        let (over, ending) = std::mem::take(&mut self.ending)
            .into_iter()
            .partition(|event: &Event| event.at <= self.now);
        self.ending = ending;
        for event in over {
            self.end(event.fault);
        }
        for at in 0..self.members.len() {
            self.kubelet(at);
        }
        if !self.is_calm(scenario) {
            self.clients();
        }
        self.leases();
        self.replicate();
        self.lead();
        self.watch();
        self.now += 1;
    }

    pub fn random(&self, what: u64, member: u8) -> u64 {
        chance(self.setup.seed, what, member, self.now)
    }

    /// Some probes of a slow server come too late.
    pub fn too_slow(&self, member: u8) -> bool {
        self.members[usize::from(member)].slow && self.random(chances::SLOW, member).is_multiple_of(2)
    }

    /// Every transaction that exists on some disk.
    pub fn copies(&self) -> Bits {
        self.members.iter().fold(Bits::default(), |mut all, member| {
            all.add(&member.disk.copies(&self.ledger));
            all
        })
    }

    /// Pods, containers and agents of one member.
    pub fn kubelet(&mut self, at: usize) {
        let (now, template) = (self.now, self.template);
        let starts = 5 + self.random(chances::START, u8::try_from(at).unwrap()) % 15;
        let flawed = self.flaws.keeps_server_id;
        let it = &mut self.members[at];
        let Some(pod) = &mut it.pod else {
            if now >= it.next_pod_at {
                self.uids += 1;
                it.pod = Some(Pod {
                    uid: self.uids,
                    revision: template,
                    serving: false,
                    reads: false,
                    ready: false,
                    running: false,
                    runs_at: now + starts,
                    ends_at: None,
                });
            }
            return;
        };
        if it.node_down || it.frozen == Frozen::Node {
            // Nobody tells Kubernetes anything; after 40 seconds it takes the node for lost.
            let since = *it.silent_since.get_or_insert(now);
            if now - since > 40 * SECOND {
                pod.ready = false;
            }
            return;
        }
        if pod.ends_at.is_some() && it.mysqld == Mysqld::Running && it.frozen == Frozen::No {
            it.super_read_only = true;
        }
        let Some(pod) = &mut it.pod else { return };
        if pod.ends_at.is_some_and(|ends| now >= ends) {
            it.stop_container(&self.ledger);
            it.pod = None;
            it.frozen = Frozen::No;
            it.next_pod_at = now + 5;
            return;
        }
        match it.mysqld {
            Mysqld::Down if now >= pod.runs_at => {
                it.agent = Some(Agent::new(it.ordinal, now));
                it.start_mysqld(now + starts, false, flawed, &mut self.ledger);
            }
            Mysqld::Starting { at: ready, again } if now >= ready => {
                let before = it.disk.copies(&self.ledger);
                if !it.arrive(&mut self.ledger) {
                    it.start_mysqld(now + starts, again, flawed, &mut self.ledger);
                }
                self.judge_copies(at, &before, "a failed clone was thrown away");
            }
            _ => {}
        }
        self.clone_goes_on(at, starts);
        self.readiness(at);
    }

    /// Readiness asks mysqld; one that stands still is found out after two seconds.
    pub fn readiness(&mut self, at: usize) {
        let now = self.now;
        let it = &mut self.members[at];
        let reads = it.answers() && it.agent.as_ref().is_some_and(Agent::reads);
        let (running, open) = (it.mysqld != Mysqld::Down, it.takes_writes() || reads);
        let silent = it.frozen == Frozen::Mysqld;
        let since = if silent {
            *it.silent_since.get_or_insert(now)
        } else {
            now
        };
        if !silent {
            it.silent_since = None;
        }
        if let Some(pod) = &mut it.pod {
            pod.running = running;
            pod.ready = if silent {
                pod.ready && now - since < 2 * SECOND
            } else {
                open
            };
        }
    }

    /// A clone comes to its end, or to grief.
    fn clone_goes_on(&mut self, at: usize, starts: u64) {
        let Some(cloning) = self.members[at].cloning else {
            return;
        };
        if self.members[at].frozen != Frozen::No {
            return;
        }
        let donor = usize::from(cloning.donor);
        let flawed = self.flaws.keeps_server_id;
        let alive = self.members[donor].answers() && self.cut[at][donor] == 0;
        if alive && self.now < cloning.until {
            return;
        }
        let copy = self.members[donor]
            .data()
            .filter(|_| alive)
            .map(crate::model::disk::Data::clone_of);
        let before = self.members[at].disk.copies(&self.ledger);
        let it = &mut self.members[at];
        it.stop_mysqld(&self.ledger);
        // Without a complete copy the agent throws away what there is, once it has judged it.
        it.disk.data = Some(copy.unwrap_or_default());
        it.start_mysqld(self.now + starts, true, flawed, &mut self.ledger);
        self.judge_copies(at, &before, "cloned over it");
    }

    fn clients(&mut self) {
        for ordinal in 0..self.setup.members {
            let member = &self.members[usize::from(ordinal)];
            if member.takes_writes() && self.random(chances::WRITE, ordinal) % 100 < self.setup.writes {
                self.write(ordinal, None);
            }
        }
    }

    /// A client writes, and is told that it is safe. It only changes rows that the same life made, so that nothing conflicts.
    pub fn write(&mut self, ordinal: u8, named: Option<u32>) {
        let kind = self.random(chances::KIND, ordinal) % 100;
        let member = &self.members[usize::from(ordinal)];
        let Some(data) = member.data() else { return };
        let Some(life) = data.uuid else { return };
        let mut recent = self.ledger.transactions.iter().rev().take(30);
        let own = recent
            .find(|earlier| earlier.life == life && earlier.row < NAMED_ROWS && data.rows.contains_key(&earlier.row));
        let row = match (named, own) {
            (Some(row), _) => row,
            (None, Some(own)) if kind < 30 => own.row,
            (None, _) => data.next_row(ordinal),
        };
        let is_there = data.rows.contains_key(&row);
        self.commit(ordinal, row, !is_there);
    }

    /// One transaction is acknowledged: a new row, or a change of one that is there.
    pub fn commit(&mut self, ordinal: u8, row: u32, inserts: bool) -> Option<Id> {
        let value = self.ledger.transactions.len();
        let change = match inserts {
            true => Change::Insert(value),
            false => Change::Update(value),
        };
        self.commit_as(ordinal, false, row, change)
    }

    /// One transaction under the member's own life; `ours`: the operator's, with its tag.
    pub fn commit_as(&mut self, ordinal: u8, ours: bool, row: u32, change: Change) -> Option<Id> {
        let member = &self.members[usize::from(ordinal)];
        let (record, data) = (member.disk.record.as_ref()?, member.data()?);
        let life = if ours { tagged(data.uuid?) } else { data.uuid? };
        let id = self.ledger.transactions.len();
        self.ledger.transactions.push(Transaction {
            life,
            number: data.executed.next(life),
            server_id: record.server_id,
            row,
            change,
            of: id,
            taken_by: ordinal,
        });
        self.judge_write(id);
        if let Some(data) = &mut self.members[usize::from(ordinal)].disk.data {
            data.execute(id, &self.ledger).unwrap();
        }
        Some(id)
    }

    fn replicate(&mut self) {
        for at in 0..self.members.len() {
            let slow = self.members[at].slow;
            let pace = Pace {
                received: 6,
                applied: if slow {
                    usize::from(self.now.is_multiple_of(8))
                } else {
                    3
                },
                locked: self.members[at].locked,
                applies_twice: self.flaws.applies_twice,
                loses_effects: self.flaws.loses_effects,
            };
            let cut = self.cut[at];
            let reaches = move |upstream: u8| cut[usize::from(upstream)] == 0;
            replicate(&mut self.members, at, &reaches, pace, self.now, &self.ledger);
        }
    }
}

fn cluster(setup: &Setup) -> MultiMasterCluster {
    let healing = if setup.waits { "Wait" } else { "Bypass" };
    serde_json::from_value(serde_json::json!({
        "apiVersion": "multimaster.dev/v1alpha1",
        "kind": "MultiMasterCluster",
        "metadata": {"name": "demo", "namespace": "default", "uid": CLUSTER_UID, "generation": 1, "resourceVersion": "1"},
        "spec": {
            "members": setup.members,
            "writes": if setup.single { "SingleWriter" } else { "AllMembers" },
            "isolation": {"leaseSeconds": setup.period.max(1) * 2 + 1},
            "storage": {"size": "1Gi"},
            "replication": {"healing": healing},
            "conflicts": if setup.halts { serde_json::json!({"policy": "Halt"}) } else { serde_json::json!({"policy": "Prefer", "prefer": [setup.prefers]}) },
            "failureDetection": {"periodSeconds": setup.period, "bypassAfterSeconds": setup.bypass_after, "holdOutSeconds": setup.hold_out},
        },
    }))
    .unwrap()
}
