//! What `multimaster.conflicts` holds that a pass does not read, or cannot. It counts as open: nothing that is not known is settled.

use std::collections::BTreeMap;

use crate::names;

use super::record::UnreadRecord;
use super::sides;
use crate::decide::observed::{Member, Observed};

/// Every open record that cannot be read once: as its observer has it, if that one can be asked.
pub fn open(observed: &Observed) -> Vec<&UnreadRecord> {
    let servers = || observed.members.iter().filter_map(Member::server);
    let read_at_its_observer = |record: &UnreadRecord| {
        let mut servers = servers();
        servers.any(|server| server.uuid == record.observer && server.unread.table.is_none())
    };
    let mut all: BTreeMap<(&str, &str), &UnreadRecord> = BTreeMap::new();
    for server in servers() {
        let counts = |record: &&UnreadRecord| record.observer == server.uuid || !read_at_its_observer(record);
        for record in server.unread.records.iter().filter(counts) {
            all.entry((&record.observer, &record.gtid)).or_insert(record);
        }
    }
    all.into_values().collect()
}

/// How many more are open than a pass reads.
pub fn more(observed: &Observed) -> u64 {
    let servers = observed.members.iter().filter_map(Member::server);
    servers.map(|server| server.unread.more).max().unwrap_or_default()
}

/// Members whose conflicts cannot be known, and why.
pub fn unknown(observed: &Observed) -> Option<String> {
    let tables = observed.members.iter().filter_map(|member| {
        let why = member.server()?.unread.table.as_ref()?;
        let name = member.name(observed.name());
        Some(format!(
            "the conflicts of {name} cannot be known: its table multimaster.conflicts cannot be read: {why}. Restart its pod: \
             its agent makes a missing table and missing rights anew. If the table was altered, rename it away before"
        ))
    });
    let tables: Vec<String> = tables.collect();
    (!tables.is_empty()).then(|| tables.join("; "))
}

/// The message about one.
pub fn message_of(observed: &Observed, record: &UnreadRecord) -> String {
    let observer = sides::writer(observed, &record.observer);
    let observer = observer.map_or("a member".into(), |ordinal| names::member(observed.name(), ordinal));
    format!(
        "{observer} could not apply {}, and its record cannot be read ({}): it waits for an operator that can, or for a person to mend it",
        record.gtid, record.why
    )
}
