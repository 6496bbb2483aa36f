//! GTID sets in status have a limit of bytes, because the API server refuses a resource of more than 1.5 MiB. What does not fit is left out and named;
//! it is never taken for nothing. `docs/ring.md`, "Long GTID sets".

use std::collections::BTreeSet;

use crate::decide::conflicts::record::writer_of;
use crate::decide::observed::{Member, Observed};
use crate::mysql::gtid::{GtidSet, ParseGtidSetError};

/// Bytes of a set in status.
pub const MOST: usize = 16 << 10;
/// Server UUIDs that an entry names as left out.
const MOST_NAMED: usize = 100;
/// Stands for every UUID that is no member's, now or earlier, and that the set does not name. A member's is left out only by its name: a member that
/// has written nothing is in no set.
const ALL_OTHERS: &str = "*";
/// Follows the UUID of a member that is left out. It makes the text no GTID set, so that an operator that knows nothing of sets that are left out
/// does not take it for one.
const MARK: &str = ":omitted";
/// In place of a set to catch up with. It is no GTID set either.
pub const OMITTED: &str = "omitted: longer than 16 KiB";

/// What status says that a member had executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// What status has of it.
    pub set: GtidSet,
    /// Server UUIDs whose transactions it leaves out.
    omitted: BTreeSet<String>,
}

impl Executed {
    /// Reads the two fields of an entry.
    ///
    /// # Errors
    /// [`ParseGtidSetError`]: `text` is not a GTID set.
    pub fn read(text: &str, omitted: &[String]) -> Result<Self, ParseGtidSetError> {
        let mut omitted: BTreeSet<String> = omitted.iter().map(|uuid| uuid.to_ascii_lowercase()).collect();
        // In a set nothing follows a tag but numbers.
        let marked = |entry: &&str| {
            entry
                .trim()
                .strip_suffix(MARK)
                .filter(|uuid| !uuid.contains(':'))
                .is_some()
        };
        let (marked, whole): (Vec<&str>, Vec<&str>) = text.split(',').partition(marked);
        let uuids = marked.into_iter().filter_map(|entry| entry.trim().strip_suffix(MARK));
        omitted.extend(uuids.map(str::to_ascii_lowercase));
        let set = match omitted.is_empty() {
            true => text.parse()?,
            false => whole.join(",").parse()?,
        };
        Ok(Self { set, omitted })
    }

    /// Whether it does not say which transactions were executed that have the server UUID of a member.
    pub fn leaves_out_member(&self, uuid: &str) -> bool {
        self.omitted.contains(&uuid.to_ascii_lowercase())
    }

    /// The same for any server UUID.
    fn leaves_out(&self, uuid: &str) -> bool {
        let is_named = || !self.set.only(uuid).is_empty();
        self.leaves_out_member(uuid) || self.omitted.contains(ALL_OTHERS) && !is_named()
    }

    /// Whether anything is left out.
    pub fn is_cut(&self) -> bool {
        !self.omitted.is_empty()
    }

    /// Of these transactions those that were executed, and those of which it is not known.
    pub fn possibly(&self, of: &GtidSet) -> GtidSet {
        let mut possibly = of.intersection(&self.set);
        if self.is_cut() {
            possibly.add(&of.of(|uuid| self.leaves_out(uuid)));
        }
        possibly
    }

    /// As an entry has it: the text of the set, and the server UUIDs that are left out. Those of members are kept first.
    pub fn written(&self, observed: &Observed) -> (String, Vec<String>) {
        if !self.is_cut()
            && let Some(text) = self.set.within(MOST)
        {
            return (text, Vec::new());
        }
        let lives = Lives::of(observed);
        let parts = self.set.uuids().into_iter().filter(|uuid| !self.leaves_out(uuid));
        // With the comma after it.
        let length = |uuid: &str| self.set.only(uuid).within(MOST).map_or(MOST, |text| text.len()) + 1;
        let mut parts: Vec<(u8, usize, &str)> = parts.map(|uuid| (lives.rank(uuid), length(uuid), uuid)).collect();
        parts.sort_unstable();
        let marks = lives.present.len() + 1;
        let mut left = MOST.saturating_sub(marks * (36 + MARK.len() + 1));
        let (kept, too_long): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(_, length, _)| {
            let fits = *length <= left;
            left -= if fits { *length } else { 0 };
            fits
        });
        let kept: BTreeSet<&str> = kept.into_iter().map(|(_, _, uuid)| uuid).collect();
        let mut text = self.set.of(|uuid| kept.contains(uuid)).to_string();
        let earlier = self.omitted.iter().map(|uuid| (lives.rank(uuid), uuid.as_str()));
        let now = too_long.into_iter().map(|(rank, _, uuid)| (rank, uuid));
        let omitted: BTreeSet<(u8, &str)> = earlier.chain(now).collect();
        // Those of present lives, or one of a former life.
        let of_members = omitted.iter().filter(|(rank, _)| *rank < OF_OTHERS).take(marks);
        for (_, uuid) in of_members {
            let comma = if text.is_empty() { "" } else { "," };
            text.push_str(&format!("{comma}{uuid}{MARK}"));
        }
        let mut named: Vec<String> = omitted.iter().map(|(_, uuid)| (*uuid).to_owned()).collect();
        if named.len() > MOST_NAMED || self.omitted.contains(ALL_OTHERS) {
            named.retain(|uuid| uuid != ALL_OTHERS);
            named.truncate(MOST_NAMED - 1);
            named.push(ALL_OTHERS.to_owned());
        }
        (text, named)
    }

    /// What is left out stays so, and these transactions are added.
    #[must_use]
    pub fn and(mut self, set: &GtidSet, lives: &Lives) -> Self {
        let known = set.of(|uuid| match lives.rank(uuid) {
            OF_OTHERS => !self.leaves_out(uuid),
            _ => !self.leaves_out_member(uuid),
        });
        self.set.add(&known);
        self
    }
}

impl From<GtidSet> for Executed {
    fn from(set: GtidSet) -> Self {
        Self {
            set,
            omitted: BTreeSet::new(),
        }
    }
}

/// A set to catch up with, as status has it. `has`: what the member has executed, which may be left out: it will have that as well.
pub fn target(target: &GtidSet, has: &GtidSet) -> String {
    let whole = target.within(MOST);
    let text = whole.or_else(|| target.difference(has).within(MOST));
    text.unwrap_or_else(|| OMITTED.to_owned())
}

/// A set as the record of a conflict has it. Of a set that is too long it has what members have written, and the writers of other conflicts: others
/// write nothing that conflicts. A pass reads many records, each with its set.
pub fn of_writers(set: GtidSet, observed: &Observed) -> GtidSet {
    if set.within(MOST).is_some() {
        return set;
    }
    let lives = Lives::of(observed);
    let servers = observed.members.iter().filter_map(Member::server);
    let records = servers.flat_map(|server| &server.conflicts);
    let writers: BTreeSet<&str> = records.map(|record| writer_of(&record.gtid)).collect();
    set.of(|uuid| lives.rank(uuid) < OF_OTHERS || writers.contains(uuid))
}

/// The rank of a server UUID that is no member's.
const OF_OTHERS: u8 = 2;

/// Server UUIDs of this ring's members.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    present: BTreeSet<String>,
    former: BTreeSet<String>,
}

impl Lives {
    /// Those that status, servers and volumes name.
    pub fn of(observed: &Observed) -> Self {
        let statuses = || {
            let status = observed.cluster.status.iter();
            status.flat_map(|status| &status.member_statuses)
        };
        let recorded = statuses().filter_map(|status| status.server_uuid.clone());
        let servers = observed.members.iter().filter_map(Member::server);
        let former = statuses().flat_map(|status| status.former_server_uuids.clone());
        let reported = observed.members.iter().filter_map(Member::report);
        Self {
            present: recorded.chain(servers.map(|server| server.uuid.clone())).collect(),
            former: former
                .chain(reported.flat_map(|report| report.former_server_uuids.clone()))
                .collect(),
        }
    }

    /// What is kept first has the lowest.
    fn rank(&self, uuid: &str) -> u8 {
        match (self.present.contains(uuid), self.former.contains(uuid)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => OF_OTHERS,
        }
    }
}

#[cfg(test)]
mod tests;
