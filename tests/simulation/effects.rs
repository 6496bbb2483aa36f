//! What each step comes to, one external effect after the other.

use multimaster::decide::observed::Observed;
use multimaster::decide::step::{Action, BalancerAction, ClusterAction, PodAction, Setting, Step};
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
            Step::Cluster(ClusterAction::Balance { .. })
            | Step::Balancer {
                action: BalancerAction::Serve,
                ..
            }
            | Step::Balancer {
                action: BalancerAction::Withdraw { .. },
                ..
            } => Vec::new(),
            // A comparison is asked for by a person or after hours, which do not pass here.
            Step::Cluster(ClusterAction::Apply)
            | Step::Member {
                action: Action::CreateDatabase,
                ..
            }
            | Step::Cluster(ClusterAction::Compare { .. })
            | Step::Cluster(ClusterAction::StopWrites) => Vec::new(),
            Step::Member {
                ordinal,
                server_uuid,
                action:
                    action @ (Action::Examine { .. }
                    | Action::Settle { .. }
                    | Action::NoteTaken { .. }
                    | Action::NoteSettled { .. }
                    | Action::CompareRows { .. }),
            } => self.conflict_effects(*ordinal, server_uuid, action, observed),
            Step::Pod {
                ordinal,
                pod_uid,
                action: PodAction::Serve,
            } => vec![label(LABEL_SERVING, *ordinal, pod_uid, true)],
            Step::Pod {
                ordinal,
                pod_uid,
                action: PodAction::Withdraw { .. },
            } => vec![label(LABEL_SERVING, *ordinal, pod_uid, false)],
            Step::Pod {
                ordinal,
                pod_uid,
                action: PodAction::ServeReads,
            } => vec![label(LABEL_READS, *ordinal, pod_uid, true)],
            Step::Pod {
                ordinal,
                pod_uid,
                action: PodAction::WithdrawReads { .. },
            } => vec![label(LABEL_READS, *ordinal, pod_uid, false)],
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Found,
            } => order(*ordinal, server_uuid, Order::Found),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Clone { donor },
            } => {
                let takes = 5 + chance(self.setup.seed, 9, *ordinal, self.now) % 40;
                order(*ordinal, server_uuid, Order::Clone { donor: *donor, takes })
            }
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::NewLife { .. },
            } => order(*ordinal, server_uuid, Order::NewLife),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Mark { .. },
            } => order(*ordinal, server_uuid, Order::Mark),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Reclone { .. },
            } => order(*ordinal, server_uuid, Order::Reclone),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Attach { upstream, .. },
            } => statements(
                *ordinal,
                server_uuid,
                &[
                    Statement::NoChannel(*upstream),
                    Statement::ChangeSource(*upstream),
                    Statement::Start(*upstream),
                ],
            ),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Start { upstream },
            } => statements(*ordinal, server_uuid, &[Statement::Start(*upstream)]),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Detach { upstream, .. },
            } => statements(
                *ordinal,
                server_uuid,
                &[
                    Statement::Stop(*upstream),
                    Statement::AllApplied(*upstream),
                    Statement::Reset(*upstream),
                ],
            ),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::StartApplier { upstream },
            } => statements(*ordinal, server_uuid, &[Statement::StartApplier(*upstream)]),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::StopReceiver { upstream },
            } => statements(*ordinal, server_uuid, &[Statement::StopReceiver(*upstream)]),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Fence,
            } => statements(*ordinal, server_uuid, &fence),
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Restore { setting },
            } => {
                let statement = match setting {
                    Setting::ReplicaExecMode => Statement::Strict,
                    Setting::SuperReadOnly => Statement::SuperReadOnly,
                };
                statements(*ordinal, server_uuid, &[statement])
            }
            Step::Member {
                ordinal,
                server_uuid,
                action: Action::Open,
            } => statements(*ordinal, server_uuid, &[Statement::Open]),
            Step::Pod {
                ordinal,
                pod_uid,
                action: PodAction::Restart { .. },
            } => {
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
