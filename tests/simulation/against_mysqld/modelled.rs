//! Operations on the model.

use super::operation::Operation;
use crate::event::{Fault, Scenario, Setup};
use crate::model::disk::NAMED_ROWS;
use crate::model::member::{Mysqld, Order, SECOND, Statement};
use crate::model::transactions::{Id, uuid};
use crate::world::{Flaws, World};
use multimaster::decide::decide;

/// After so long in the model nothing moves any more, whatever was done.
const SETTLES_WITHIN: u64 = 15 * SECOND;

/// Members without operators and without clients.
pub struct Modelled {
    pub world: World,
    scenario: Scenario,
}

impl Modelled {
    pub fn new(members: u8) -> Self {
        let setup = Setup {
            seed: 0,
            fences: false,
            single: false,
            halts: true,
            prefers: 0,
            members,
            waits: false,
            period: 1,
            bypass_after: 5,
            hold_out: 0,
            writes: 0,
            faults_until: 0,
        };
        let mut world = World::new(setup, decide, Flaws::default(), false);
        for operator in &mut world.operators {
            operator.runs_at = u64::MAX;
        }
        let scenario = Scenario {
            setup,
            events: Vec::new(),
        };
        let mut modelled = Self { world, scenario };
        modelled.settle();
        modelled
    }

    fn settle(&mut self) {
        for _ in 0..SETTLES_WITHIN {
            self.world.tick(&self.scenario);
        }
    }

    /// Carries it out and waits until nothing moves. What was written has a number.
    pub fn perform(&mut self, operation: Operation) -> Result<Option<Id>, String> {
        let written = self.begin(operation);
        self.settle();
        written
    }

    fn begin(&mut self, operation: Operation) -> Result<Option<Id>, String> {
        let nothing = |()| None;
        let attach = |upstream| {
            vec![
                Statement::NoChannel(upstream),
                Statement::ChangeSource(upstream),
                Statement::Start(upstream),
            ]
        };
        let detach = |upstream| {
            vec![
                Statement::Stop(upstream),
                Statement::AllApplied(upstream),
                Statement::Reset(upstream),
            ]
        };
        match operation {
            Operation::Found(member) => {
                self.order(member, Order::Mark)?;
                self.order(member, Order::Found).map(nothing)
            }
            Operation::Clone(member, donor) => {
                self.order(member, Order::Mark)?;
                self.order(member, Order::Clone { donor, takes: SECOND }).map(nothing)
            }
            Operation::NewLife(member) => self.order(member, Order::NewLife).map(nothing),
            Operation::Reclone(member) => self.order(member, Order::Reclone).map(nothing),
            Operation::Open(member) => self.send(member, vec![Statement::Open]).map(nothing),
            Operation::Fence(member) => self.send(member, vec![Statement::Fence]).map(nothing),
            Operation::Attach(member, upstream) => self.send(member, attach(upstream)).map(nothing),
            Operation::Start(member, upstream) => self.send(member, vec![Statement::Start(upstream)]).map(nothing),
            Operation::StopReceiver(member, upstream) => {
                self.send(member, vec![Statement::StopReceiver(upstream)]).map(nothing)
            }
            Operation::PointAnew(member, upstream) => {
                self.send(member, vec![Statement::ChangeSource(upstream)]).map(nothing)
            }
            Operation::Detach(member, upstream) => self.send(member, detach(upstream)).map(nothing),
            Operation::Insert(member) => Ok(self.insert(member)),
            Operation::Put(member, row) => {
                self.world.write(member, Some(NAMED_ROWS + row));
                Ok(Some(self.world.ledger.transactions.len() - 1))
            }
            Operation::StopAppliers(member) => {
                self.world.begin(Fault::StopThreads {
                    member,
                    receivers: false,
                    appliers: true,
                });
                Ok(None)
            }
            Operation::Purge(member) => {
                self.world.begin(Fault::Purge { member });
                Ok(None)
            }
            Operation::Kill(member) => {
                self.world.begin(Fault::CrashMysqld { member });
                Ok(None)
            }
            Operation::Down(member) => {
                let lasts = u64::MAX / 2;
                self.world.begin(Fault::CrashContainer { member, lasts });
                Ok(None)
            }
            Operation::Up(_) | Operation::Copy(_) | Operation::SetBack(_) | Operation::NewUuidOnly(_) => {
                self.while_down(operation);
                Ok(None)
            }
        }
    }

    fn while_down(&mut self, operation: Operation) {
        let now = self.world.now;
        let (Operation::Up(at) | Operation::Copy(at) | Operation::SetBack(at) | Operation::NewUuidOnly(at)) = operation
        else {
            return;
        };
        let member = &mut self.world.members[usize::from(at)];
        assert_eq!(
            member.mysqld,
            Mysqld::Down,
            "{operation:?} is for a member that is down"
        );
        match operation {
            Operation::Up(_) => member.pod.as_mut().unwrap().runs_at = now,
            Operation::Copy(_) => member.snapshot = Some(member.disk.clone()),
            Operation::SetBack(_) => member.disk = member.snapshot.clone().unwrap(),
            _ => {
                member.disk.record.as_mut().unwrap().uuid = None;
                member.disk.data.as_mut().unwrap().uuid = None;
            }
        }
    }

    fn insert(&mut self, member: u8) -> Option<Id> {
        let row = self.world.members[usize::from(member)].data()?.next_row(member);
        self.world.commit(member, row, true)
    }

    fn send(&mut self, member: u8, statements: Vec<Statement>) -> Result<(), String> {
        let mut statements = statements.iter();
        statements.try_for_each(|statement| self.world.execute(member, statement))
    }

    fn order(&mut self, member: u8, order: Order) -> Result<(), String> {
        let it = &mut self.world.members[usize::from(member)];
        let life = it.data().and_then(|data| data.uuid).ok_or("no server UUID")?;
        let pod = format!("pod-{}", it.pod.as_ref().map_or(0, |pod| pod.uid));
        self.world.order(0, member, &pod, &uuid(life), order)
    }
}
