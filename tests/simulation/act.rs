//! What a step does to a server and to an agent, with the same conditions that `src/operator/act/sql.rs` reads again.

use multimaster::wire::agent::Origin;

use crate::invariants::Invariant;
use crate::model::disk::Channel;
use crate::model::member::{Accepted, Frozen, Late, Order, Statement};
use crate::model::transactions::uuid;
use crate::operator::is_pod;
use crate::random::chance;
use crate::world::World;

impl World {
    /// Sends one statement over the session that the observation of this pass used.
    pub fn send(&mut self, operator: usize, ordinal: u8, pod: &str, statement: &Statement) -> Result<(), String> {
        let at = usize::from(ordinal);
        let member = &mut self.members[at];
        let session = is_pod(member.pod.as_ref(), pod) && member.sessions[operator] == Some(member.boot);
        if !session || member.node_down || self.operator_cut[operator][at] > 0 {
            return Err(format!("{statement:?} at {ordinal}: the session is gone"));
        }
        if member.frozen != Frozen::No {
            member.late.push(Late {
                operator,
                statement: statement.clone(),
            });
            return Err(format!("{statement:?} at {ordinal}: no answer"));
        }
        let result = self.execute(ordinal, statement);
        if !matches!(statement, Statement::SameLife(_) | Statement::NoChannel(_)) || result.is_err() {
            self.say(|| format!("  operator {operator} at {ordinal}: {statement:?}: {result:?}"));
        }
        result
    }

    /// One statement as the server executes it.
    pub fn execute(&mut self, ordinal: u8, statement: &Statement) -> Result<(), String> {
        let at = usize::from(ordinal);
        let unchecked = self.flaws.detaches_unchecked;
        let from_now = self.flaws.attaches_from_now;
        let before = self.members[at].disk.copies(&self.ledger);
        let newest: Vec<_> = self
            .members
            .iter()
            .map(|member| member.data().map(|data| data.executed.clone()))
            .collect();
        let Some(data) = &mut self.members[at].disk.data else {
            return Err("no data directory".into());
        };
        let no_channel = || Err("there is no such channel".to_owned());
        match statement {
            Statement::SameLife(wanted) => match data.uuid {
                Some(life) if uuid(life) == *wanted => {}
                _ => return Err("server_uuid is another one".into()),
            },
            Statement::NoChannel(upstream) => {
                if data.channel(*upstream).is_some() {
                    return Err("the channel exists".into());
                }
            }
            Statement::ChangeSource(upstream) => match data.channel(*upstream) {
                Some(channel) if channel.receiver => return Err("3021: the receiver runs".into()),
                // Without a warning.
                Some(channel) if !channel.applier => {
                    channel.relay_log.clear();
                    channel.retrieved = Default::default();
                }
                Some(_) => {}
                None => data.channels.push(Channel {
                    upstream: *upstream,
                    retrieved: newest[usize::from(*upstream)]
                        .clone()
                        .filter(|_| from_now)
                        .unwrap_or_default(),
                    ..Channel::default()
                }),
            },
            Statement::Start(upstream) => {
                match data.channel(*upstream) {
                    Some(channel) => {
                        channel.start();
                        if self.members[at].idempotent {
                            self.fail(Invariant::I12, || {
                            format!("{ordinal} starts to apply what {upstream} writes, and overwrites what is in its way")
                        });
                        }
                    }
                    None => return no_channel(),
                }
            }
            Statement::StartApplier(upstream) => match data.channel(*upstream) {
                Some(channel) => channel.start_applier(),
                None => return no_channel(),
            },
            Statement::Stop(upstream) => match data.channel(*upstream) {
                Some(channel) => channel.stop(),
                None => return no_channel(),
            },
            Statement::StopReceiver(upstream) => match data.channel(*upstream) {
                Some(channel) => channel.stop_receiver(),
                None => return no_channel(),
            },
            Statement::AllApplied(upstream) => {
                let executed = data.executed.clone();
                match data.channel(*upstream) {
                    Some(channel) if executed.contains(&channel.retrieved) || unchecked => {}
                    Some(_) => return Err("the channel holds something that is not executed".into()),
                    None => return no_channel(),
                }
            }
            Statement::Reset(upstream) => {
                if data
                    .channel(*upstream)
                    .is_some_and(|channel| channel.receiver || channel.applier)
                {
                    return Err("3081: the channel runs".into());
                }
                data.channels.retain(|channel| channel.upstream != *upstream);
            }
            Statement::KillClients => {}
            Statement::Fence => {
                let member = &mut self.members[at];
                (member.super_read_only, member.half_fenced) = (true, false);
            }
            Statement::Strict => self.members[at].idempotent = false,
            Statement::SuperReadOnly => self.members[at].half_fenced = false,
            Statement::Open => {
                self.judge_opening(ordinal);
                let member = &mut self.members[at];
                (member.super_read_only, member.half_fenced) = (false, false);
            }
        }
        self.judge_copies(at, &before, "deleted by a statement");
        Ok(())
    }

    /// Orders something of an agent. No session is needed: only the server UUID protects a new life.
    pub fn order(&mut self, operator: usize, ordinal: u8, pod: &str, uuid: &str, order: Order) -> Result<(), String> {
        let at = usize::from(ordinal);
        let here = is_pod(self.members[at].pod.as_ref(), pod);
        let uid = self.members[at].pod.as_ref().map_or(0, |pod| pod.uid);
        if !here || !self.is_connected(operator, ordinal, uid) {
            return Err(format!("{order:?} to {ordinal}: no answer"));
        }
        if self.flaws.clones_over_data
            && matches!(order, Order::Clone { .. })
            && let Some(record) = &mut self.members[at].disk.record
        {
            record.origin = Origin::Empty;
            if let Some(data) = &mut self.members[at].disk.data {
                data.executed = Default::default();
            }
        }
        let was_empty = self.members[at]
            .disk
            .record
            .as_ref()
            .is_some_and(|record| record.origin == Origin::Empty);
        let result = self.members[at].order(uuid, order, self.now);
        self.say(|| format!("  operator {operator} at {ordinal}: {order:?}: {result:?}"));
        if result? == Accepted::Restarts {
            let starts = self.now + 5 + chance(self.setup.seed, 10, ordinal, self.now) % 15;
            let flawed = self.flaws.keeps_server_id;
            self.members[at].stop_mysqld(&self.ledger);
            self.members[at].start_mysqld(starts, true, flawed, &mut self.ledger);
        }
        if order == Order::Found && was_empty && self.cluster.status.as_ref().is_some_and(|status| status.epoch > 0) {
            self.fail(Invariant::Founding, || format!("{ordinal} was founded after epoch 0"));
        }
        Ok(())
    }
}
