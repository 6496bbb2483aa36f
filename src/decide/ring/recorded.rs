//! What earlier passes recorded in status, and decisions rest on. What of it cannot be read is never taken for nothing. `docs/ring.md`,
//! "Versions side by side".

use crate::api::MultiMasterCluster;
use crate::api::reasons::Reason;
use crate::api::status::Retry;
use crate::mysql::gtid::{GtidSet, ParseGtidSetError};
use crate::names;

use super::long_sets::{Executed, OMITTED};

use crate::decide::conflicts::holds;
use crate::decide::observed::{Member, Observed, Problem};

/// Fields of status that decisions rest on and that this version cannot read: until it can, nothing is changed that could lose something.
pub fn unreadable_fields(observed: &Observed) -> Option<Problem> {
    let status = observed.cluster.status.as_ref()?;
    let fields: Vec<String> = status.unreadable().map(|path| format!("status.{path}")).collect();
    (!fields.is_empty()).then(|| Problem {
        reason: Reason::StatusUnreadable,
        message: format!(
            "{}: this version of the operator cannot read it, so it changes nothing; start the version that wrote it, or correct it with \
             `kubectl edit mmc {} --subresource=status`",
            fields.join(", "),
            observed.name()
        ),
    })
}

/// Fields and values of the spec that this version does not know: its objects stay as a newer version has made them.
pub fn newer_spec(cluster: &MultiMasterCluster) -> Option<Problem> {
    let fields: Vec<String> = cluster.spec.unknown.iter().map(|path| format!("spec.{path}")).collect();
    (!fields.is_empty()).then(|| Problem {
        reason: Reason::NewerSpec,
        message: format!(
            "{}: this version of the operator does not know it, so it heals the ring as it was recorded, and changes nothing else; start the version \
             that knows it, or remove it",
            fields.join(", ")
        ),
    })
}

/// What status recorded as executed by each member, by ordinal: members that are away may be the only ones to know.
///
/// # Errors
/// Names a record that is not a GTID set, and the way out.
pub fn executed(observed: &Observed) -> Result<Vec<Executed>, String> {
    let ordinals = 0..u8::try_from(statuses(observed)).unwrap_or(u8::MAX);
    ordinals.map(|ordinal| executed_by(observed, ordinal)).collect()
}

/// What status recorded as executed by this member.
///
/// # Errors
/// As [`executed`].
pub fn executed_by(observed: &Observed, ordinal: u8) -> Result<Executed, String> {
    let Some(status) = observed.recorded(ordinal) else {
        return Ok(Executed::default());
    };
    let is_open = || observed.member(ordinal).is_some_and(|member| is_open(observed, member));
    match Executed::read(&status.gtid_executed, &status.gtid_executed_omitted) {
        // It says itself what it has, and this pass records that.
        Ok(executed) if executed.is_cut() && is_open() => Ok(Executed::from(executed.set)),
        Err(_) if is_open() => Ok(Executed::default()),
        Ok(executed) => Ok(executed),
        Err(error) => Err(format!(
            "{}, so it cannot be known whether a disk went back in time: no fenced member is opened, re-inserted or given a new life. Correct it \
             with `kubectl edit mmc {} --subresource=status`, or empty it if no disk was set back",
            unreadable(observed, ordinal, "gtidExecuted", &error),
            observed.name(),
        )),
    }
}

/// What status recorded that this member has to catch up with.
///
/// # Errors
/// Names the field, where that is not a GTID set. It may have been too long.
pub fn catch_up_to(observed: &Observed, ordinal: u8) -> Result<Option<GtidSet>, String> {
    let text = observed
        .recorded(ordinal)
        .and_then(|status| status.catch_up_to.as_deref());
    let set = text.map(|text| match text {
        OMITTED => Err(format!(
            "it lacks so many transactions that their names are too long for status.memberStatuses[{ordinal}].catchUpTo of {}; it waits until its \
             upstream answers",
            names::member(observed.name(), ordinal)
        )),
        text => text.parse().map_err(|error| unreadable(observed, ordinal, "catchUpTo", &error)),
    });
    set.transpose()
}

/// Status leaves out what this member has to catch up with.
pub fn is_omitted(observed: &Observed, ordinal: u8) -> bool {
    let status = observed.recorded(ordinal);
    status.is_some_and(|status| status.catch_up_to.as_deref() == Some(OMITTED))
}

/// The transaction that the applier of this channel could not apply for a reason that passes, as status recorded it, while the applier still has
/// to apply it. An attempt may be under way.
pub fn retry(observed: &Observed, ordinal: u8, upstream: u8) -> Option<&Retry> {
    let name = names::member(observed.name(), upstream);
    let mut links = observed.recorded(ordinal)?.links.iter();
    let retry = links.find(|link| link.upstream == name)?.retry.as_ref()?;
    let Some(server) = observed.member(ordinal)?.server() else {
        return Some(retry);
    };
    let channel = server.channel_from(upstream)?;
    let has = |set| holds(set, &retry.transaction);
    let is_ahead = || channel.conflict().is_none() && has(&channel.retrieved) && !has(&server.executed);
    (channel.interruption().is_some() || is_ahead()).then_some(retry)
}

/// It takes writes in the life that status knows: its history was checked before it was opened.
pub fn is_open(observed: &Observed, member: &Member) -> bool {
    let known = observed
        .recorded(member.ordinal)
        .and_then(|status| status.server_uuid.as_ref());
    member
        .with_data()
        .is_some_and(|(server, _)| !server.super_read_only && known == Some(&server.uuid))
}

fn statuses(observed: &Observed) -> usize {
    let status = observed.cluster.status.as_ref();
    status.map_or(0, |status| status.member_statuses.len())
}

fn unreadable(observed: &Observed, ordinal: u8, field: &str, error: &ParseGtidSetError) -> String {
    format!(
        "status.memberStatuses[{ordinal}].{field} of {}: {error}",
        names::member(observed.name(), ordinal)
    )
}
