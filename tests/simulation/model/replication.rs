//! Receivers and appliers: GTID auto-position, and what it drops without a word.

use super::disk::{Channel, Connection, Data};
use super::member::{Member, Mysqld, SECOND};
use super::transactions::{Change, Ledger, tagged};

/// `replica_net_timeout`, and a little.
const NET_TIMEOUT: u64 = 35;
/// Error numbers of a receiver that gives up.
pub const FATAL: u32 = 13114;

/// How much is moved in one tick.
#[derive(Clone, Copy)]
pub struct Pace {
    pub received: usize,
    pub applied: usize,
    /// A client holds locks on the rows.
    pub locked: bool,
    /// A flaw that tests put in: what is executed already is executed again.
    pub applies_twice: bool,
    /// Another: a row that should be changed stays as it was.
    pub loses_effects: bool,
}

/// One tick of every channel of one member. `reaches` says whether it can talk to this upstream.
pub fn replicate(
    members: &mut [Member],
    at: usize,
    reaches: &dyn Fn(u8) -> bool,
    pace: Pace,
    now: u64,
    ledger: &Ledger,
) {
    if !members[at].answers() {
        return;
    }
    let Some(mut data) = members[at].disk.data.take() else {
        return;
    };
    let server_id = members[at].disk.record.as_ref().map_or(0, |record| record.server_id);
    let mut channels = std::mem::take(&mut data.channels);
    for channel in &mut channels {
        if channel.receiver && usize::from(channel.upstream) != at {
            let source = &members[usize::from(channel.upstream)];
            receive(
                channel,
                source,
                &data,
                server_id,
                reaches(channel.upstream),
                pace,
                now,
                ledger,
            );
        }
        if channel.applier {
            apply(channel, &mut data, pace, now, ledger);
        }
    }
    data.channels = channels;
    members[at].disk.data = Some(data);
}

#[allow(clippy::too_many_arguments)]
fn receive(
    channel: &mut Channel,
    source: &Member,
    replica: &Data,
    server_id: u32,
    reached: bool,
    pace: Pace,
    now: u64,
    ledger: &Ledger,
) {
    let reached = reached && !source.node_down && source.pod.is_some();
    let Some(connection) = &mut channel.connection else {
        if reached && source.answers() {
            connect(channel, source, replica, now);
        }
        return;
    };
    let lives = source.mysqld == Mysqld::Running && source.boot == connection.boot;
    if reached && !lives {
        // The kernel of a host that lives says so at once.
        channel.connection = None;
        return;
    }
    if !reached || !source.answers() {
        if now.saturating_sub(channel.heard) > NET_TIMEOUT {
            channel.connection = None;
        }
        return;
    }
    channel.heard = now;
    let Some(theirs) = source.data() else { return };
    if connection.cursor < theirs.first {
        fail(channel, "purged required binary logs");
        return;
    }
    let mut received = 0;
    while received < pace.received {
        let Some(id) = theirs.binary_log.get(connection.cursor) else {
            break;
        };
        connection.cursor += 1;
        let transaction = ledger.transactions[*id];
        if connection.had.has(transaction.life, transaction.number) || transaction.server_id == server_id {
            continue;
        }
        received += 1;
        channel.retrieved.put(transaction.life, transaction.number);
        channel.relay_log.push_back(*id);
    }
}

fn connect(channel: &mut Channel, source: &Member, replica: &Data, now: u64) {
    let Some(theirs) = source.data() else { return };
    let had = replica.executed.union(&channel.retrieved);
    let own = theirs.uuid.unwrap_or_default();
    channel.source = Some(own);
    let has_more = |life| !theirs.executed.only(life).contains(&had.only(life));
    if has_more(own) || has_more(tagged(own)) {
        fail(channel, "Replica has more GTIDs than the source has");
    } else if !had.contains(&theirs.purged) {
        fail(channel, "purged required binary logs");
    } else {
        channel.heard = now;
        channel.receiver_error = None;
        channel.connection = Some(Connection {
            boot: source.boot,
            cursor: theirs.first,
            had,
        });
    }
}

fn fail(channel: &mut Channel, why: &str) {
    channel.stop_receiver();
    channel.receiver_error = Some((FATAL, why.into()));
}

fn apply(channel: &mut Channel, data: &mut Data, pace: Pace, now: u64, ledger: &Ledger) {
    for _ in 0..pace.applied {
        let Some(id) = channel.relay_log.front().copied() else {
            return;
        };
        let transaction = ledger.transactions[id];
        let executed = data.executed.has(transaction.life, transaction.number);
        let inserts = matches!(transaction.change, Change::Insert(_));
        if executed && pace.applies_twice && !inserts {
            data.log(id, None);
        }
        let locked = (
            1205,
            "Lock wait timeout exceeded; try restarting transaction".to_owned(),
        );
        let applied = match executed {
            true => Ok(()),
            false if pace.locked => Err(locked),
            false => data.execute(id, ledger),
        };
        if let Err(error) = applied {
            channel.applier = false;
            (channel.applier_error, channel.failed_at) = (Some(error), now);
            return;
        }
        if pace.loses_effects && !inserts && id % 7 == 0 {
            data.rows.insert(transaction.row, 0);
        }
        channel.relay_log.pop_front();
    }
}

/// Whole seconds since anything was heard from the source.
pub fn silence(channel: &Channel, now: u64) -> Option<i64> {
    channel.source?;
    i64::try_from(now.saturating_sub(channel.heard) / SECOND).ok()
}
