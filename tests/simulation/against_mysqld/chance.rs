//! A history by chance, of what can be done to both at any time. Nothing in it uses a GTID again: the tables do that.

use super::operation::Operation::{self, *};
use crate::model::disk::Channel;
use crate::model::member::{Member, Mysqld};
use crate::random::Random;
use crate::world::World;

/// The next operation of a history.
pub fn next(random: &mut Random, world: &World) -> Operation {
    let members = u64::from(world.setup.members);
    loop {
        let at = u8::try_from(random.below(members)).unwrap();
        let upstream = u8::try_from((u64::from(at) + 1 + random.below(members - 1)) % members).unwrap();
        let member = &world.members[usize::from(at)];
        if member.mysqld == Mysqld::Down {
            return Up(at);
        }
        if let Some(operation) = operation(random.below(14), at, upstream, member, world) {
            return operation;
        }
    }
}

fn operation(kind: u64, at: u8, upstream: u8, member: &Member, world: &World) -> Option<Operation> {
    let channel = member
        .data()?
        .channels
        .iter()
        .find(|channel| channel.upstream == upstream);
    let is = |condition: fn(&Channel) -> bool| channel.is_some_and(condition);
    let all_up = world.members.iter().all(|member| member.mysqld != Mysqld::Down);
    match kind {
        0..=4 if !member.takes_writes() => Some(Open(at)),
        0..=3 => Some(Insert(at)),
        // Keys of its own: a conflict would stop everything.
        4 => Some(Put(at, 10 * u32::from(at) + u32::from(upstream))),
        5 => Some(Kill(at)),
        6 if channel.is_none() => Some(Attach(at, upstream)),
        6 | 7 if is(|channel| !channel.receiver || !channel.applier) => Some(Start(at, upstream)),
        8 if is(|channel| channel.receiver) => Some(StopReceiver(at, upstream)),
        9 if is(|channel| channel.applier) => Some(StopAppliers(at)),
        10 if is(|channel| !channel.receiver) => Some(PointAnew(at, upstream)),
        11 if channel.is_some() => Some(Detach(at, upstream)),
        12 if all_up => Some(Down(at)),
        13 => Some(NewLife(at)),
        _ => None,
    }
}
