//! What each step comes to, one external effect after the other.

use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Setting, Step};
use multimaster::names::{LABEL_READS, LABEL_SERVING};

use crate::model::member::{Order, Statement};
use crate::operator::Effect;
use crate::random::chance;
use crate::world::World;

impl World {
    pub fn effects(&self, step: &Step, observed: &Observed) -> Vec<Effect> {
        let pod_of = |ordinal: u8| {
            let pod = observed.member(ordinal).and_then(|member| member.pod.as_ref());
            pod.map(|pod| pod.uid.clone()).unwrap_or_default()
        };
        let statements = |ordinal: u8, uuid: &str, statements: &[Statement]| -> Vec<Effect> {
            let all = std::iter::once(Statement::SameLife(uuid.into())).chain(statements.iter().cloned());
            let sql = all.map(|statement| Effect::Sql {
                ordinal,
                pod: pod_of(ordinal),
                statement,
            });
            std::iter::once(Effect::Fresh).chain(sql).collect()
        };
        let order = |ordinal: u8, uuid: &str, order: Order| {
            let order = Effect::Order {
                ordinal,
                pod: pod_of(ordinal),
                uuid: uuid.into(),
                order,
            };
            vec![Effect::Fresh, order]
        };
        let label = |label: &'static str, ordinal: u8, pod: &str, set: bool| Effect::Label {
            ordinal,
            pod: pod.into(),
            label,
            set,
        };
        let fence = [Statement::KillClients, Statement::Fence];
        match step {
            // There is no HAProxy here; whom it may send to follows from the labels.
            Step::Balance { .. } | Step::ServeBalancer { .. } | Step::WithdrawBalancer { .. } => Vec::new(),
            // A comparison is asked for by a person or after hours, which do not pass here.
            Step::Apply | Step::CreateDatabase { .. } | Step::Compare { .. } | Step::StopWrites => Vec::new(),
            // The model's applier does not say at which transaction it stopped, so nothing of this is decided.
            Step::Examine { .. } | Step::Settle { .. } | Step::NoteTaken { .. } | Step::CompareRows { .. } => {
                Vec::new()
            }
            Step::Serve { ordinal, pod_uid } => vec![label(LABEL_SERVING, *ordinal, pod_uid, true)],
            Step::Withdraw { ordinal, pod_uid, .. } => vec![label(LABEL_SERVING, *ordinal, pod_uid, false)],
            Step::ServeReads { ordinal, pod_uid } => vec![label(LABEL_READS, *ordinal, pod_uid, true)],
            Step::WithdrawReads { ordinal, pod_uid, .. } => vec![label(LABEL_READS, *ordinal, pod_uid, false)],
            Step::Found { ordinal, server_uuid } => order(*ordinal, server_uuid, Order::Found),
            Step::Clone {
                ordinal,
                server_uuid,
                donor,
            } => {
                let takes = 5 + chance(self.setup.seed, 9, *ordinal, self.now) % 40;
                order(*ordinal, server_uuid, Order::Clone { donor: *donor, takes })
            }
            Step::NewLife {
                ordinal, server_uuid, ..
            } => order(*ordinal, server_uuid, Order::NewLife),
            Step::GiveUp {
                ordinal, server_uuid, ..
            } => order(*ordinal, server_uuid, Order::GiveUp),
            Step::Attach {
                ordinal,
                server_uuid,
                upstream,
                ..
            } => statements(
                *ordinal,
                server_uuid,
                &[
                    Statement::NoChannel(*upstream),
                    Statement::ChangeSource(*upstream),
                    Statement::Start(*upstream),
                ],
            ),
            Step::Start {
                ordinal,
                server_uuid,
                upstream,
            } => statements(*ordinal, server_uuid, &[Statement::Start(*upstream)]),
            Step::Detach {
                ordinal,
                server_uuid,
                upstream,
                ..
            } => statements(
                *ordinal,
                server_uuid,
                &[
                    Statement::Stop(*upstream),
                    Statement::AllApplied(*upstream),
                    Statement::Reset(*upstream),
                ],
            ),
            Step::StopReceiver {
                ordinal,
                server_uuid,
                upstream,
            } => statements(*ordinal, server_uuid, &[Statement::StopReceiver(*upstream)]),
            Step::Fence { ordinal, server_uuid } => statements(*ordinal, server_uuid, &fence),
            Step::Restore {
                ordinal,
                server_uuid,
                setting,
            } => {
                let statement = match setting {
                    Setting::ReplicaExecMode => Statement::Strict,
                    Setting::SuperReadOnly => Statement::SuperReadOnly,
                };
                statements(*ordinal, server_uuid, &[statement])
            }
            Step::Open { ordinal, server_uuid } => statements(*ordinal, server_uuid, &[Statement::Open]),
            Step::Restart { ordinal, pod_uid, .. } => {
                let mut effects = vec![Effect::Fresh, label(LABEL_SERVING, *ordinal, pod_uid, false)];
                if let Some(server) = observed.member(*ordinal).and_then(|member| member.server()) {
                    // One step: its age is looked at once.
                    effects.extend(statements(*ordinal, &server.uuid, &fence).into_iter().skip(1));
                }
                effects.push(Effect::DeletePod {
                    ordinal: *ordinal,
                    pod: pod_uid.clone(),
                });
                effects
            }
        }
    }
}
