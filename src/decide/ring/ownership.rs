//! Whose is the data of a member? A volume has the mark of the cluster and of the claim that it belongs to, and a copy of it has the same mark. So
//! has a copy the server UUID: two servers with one UUID push each other out of every link.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::status::MemberState;
use crate::decide::observed::{Member, Observed, Outsider, Ownership, Probe, Server};
use crate::decide::step::{Action, Step};
use crate::mysql::gtid::GtidSet;
use crate::names::{self, ANNOTATION_ADOPT};
use crate::wire::agent::{Mark, Report};

/// Judges the data of one member.
pub fn of(observed: &Observed, member: &Member) -> Ownership {
    let Some((server, report)) = member.with_data().or_else(|| member.empty()) else {
        return Ownership::Ours;
    };
    let Some(volume) = &report.volume else {
        return Ownership::Ours;
    };
    let ours = member.claim.as_ref().map(|claim| mark(observed, claim));
    match (&volume.mark, ours) {
        (None, None) if is_known(observed, member, (server, report)) => Ownership::Ours,
        (None, Some(ours)) if is_known(observed, member, (server, report)) => Ownership::ToMark(ours),
        (None, None) => Ownership::Unknown,
        (Some(theirs), None) if !is_of(observed, theirs) => copy(theirs),
        (Some(theirs), None) => match theirs.cluster_uid == uid(observed) && has_its_ordinal(member, report) {
            true => Ownership::Ours,
            false => Ownership::Unknown,
        },
        (Some(theirs), Some(ours)) if *theirs == ours => Ownership::Ours,
        (theirs, Some(ours)) => {
            let is_of_this_name = theirs.as_ref().is_some_and(|theirs| is_of(observed, theirs));
            let is = |field: fn(&Mark) -> &String| theirs.as_ref().is_some_and(|theirs| field(theirs) == field(&ours));
            // The resource was made again, on the volumes that it had.
            if is_of_this_name && is(|mark| &mark.claim_uid) {
                return Ownership::ToMark(ours);
            }
            // A volume of this ring was copied and put in its place.
            let is_this_rings = is_of_this_name && is(|mark| &mark.cluster_uid);
            // What is open has been checked.
            if is_this_rings && !server.super_read_only && has_its_ordinal(member, report) {
                return Ownership::ToMark(ours);
            }
            let copy = match theirs {
                Some(theirs) => copy(theirs),
                None => Ownership::Copy {
                    of: "that of a cluster that is not known".into(),
                    uid: server.uuid.clone(),
                },
            };
            let is_joining = theirs.is_none() && has_been_here(observed, member, server);
            let harms_nobody = is_this_rings || is_joining || server.executed.is_empty();
            match harms_nobody || is_adopted(observed, &copy) {
                true => Ownership::ToAdopt(ours),
                false => copy,
            }
        }
    }
}

/// Sets members with the data of others apart: their servers and agents say nothing from now on. So no decision rests on what a copy says, and
/// [`Member::outsider`] has what is known of it.
pub fn apart(observed: &mut Observed) {
    let judged = |member: &Member| match was_quarantined(observed, member) {
        true => Ownership::Unknown,
        false => of(observed, member),
    };
    let judged: Vec<Ownership> = observed.members.iter().map(judged).collect();
    for (at, ownership) in judged.into_iter().enumerate() {
        if !matches!(ownership, Ownership::Ours | Ownership::ToMark(_)) {
            set_apart(observed, at, ownership);
        }
    }
    // By history only after them: it is compared with that of members of this ring.
    for ordinal in strangers(observed) {
        set_apart(observed, ordinal.into(), Ownership::Stranger);
    }
}

/// It does not say now whose data it has, and was apart before.
fn was_quarantined(observed: &Observed, member: &Member) -> bool {
    let state = observed.recorded(member.ordinal).map(|status| status.state);
    let is_silent = member.outsider.is_none() && member.with_data().is_none() && member.empty().is_none();
    is_silent && state == Some(MemberState::Quarantined)
}

fn set_apart(observed: &mut Observed, at: usize, ownership: Ownership) {
    let says_nothing = || "its volume is not this cluster's".to_owned();
    let Some(member) = observed.members.get_mut(at) else {
        return;
    };
    let server = member.server();
    member.outsider = Some(Outsider {
        ownership,
        server_uuid: server.map_or_else(String::new, |server| server.uuid.clone()),
        is_open: server.is_some_and(|server| !server.super_read_only),
    });
    if member.server().is_some() {
        member.server = Probe::Alive(says_nothing());
        member.agent = Probe::Alive(says_nothing());
    }
    let ordinal = member.ordinal;
    for other in &mut observed.members {
        other.witness_probes.retain(|probe| probe.by != ordinal);
    }
}

/// Ordinals of the members whose history is that of another cluster.
fn strangers(observed: &Observed) -> Vec<u8> {
    if observed.epoch() > 0 {
        let members = observed.members.iter();
        let strangers = members.filter(|member| is_stranger(observed, member));
        return strangers.map(|member| member.ordinal).collect();
    }
    // No ring says which history is the right one. Once all have reported, there must be one.
    let members = &observed.members;
    if !members
        .iter()
        .all(|member| member.with_data().is_some() || member.empty().is_some())
    {
        return Vec::new();
    }
    let histories = members
        .iter()
        .filter_map(|member| Some((member.ordinal, &member.with_data()?.0.executed)));
    let histories: Vec<(u8, &GtidSet)> = histories.filter(|(_, executed)| !executed.is_empty()).collect();
    let mut one: Vec<(u8, &GtidSet)> = histories.iter().take(1).copied().collect();
    while let Some(next) = histories.iter().find(|(ordinal, executed)| {
        let is_in = one.iter().any(|(known, _)| known == ordinal);
        !is_in && one.iter().any(|(_, known)| !known.intersection(executed).is_empty())
    }) {
        one.push(*next);
    }
    match one.len() == histories.len() {
        true => Vec::new(),
        false => histories.iter().map(|(ordinal, _)| *ordinal).collect(),
    }
}

/// A data directory that this cluster has never seen, with a history that it shares with no member: another cluster's volume.
fn is_stranger(observed: &Observed, member: &Member) -> bool {
    let Some((server, report)) = member.with_data() else {
        return false;
    };
    if has_the_mark(observed, member, report)
        || remembers(observed, member.ordinal, server, report)
        || server.executed.is_empty()
    {
        return false;
    }
    let mut histories = observed
        .others(member.ordinal)
        .filter_map(Member::server)
        .map(|other| &other.executed)
        .filter(|set| !set.is_empty())
        .peekable();
    histories.peek().is_some() && histories.all(|history| server.executed.difference(history) == server.executed)
}

/// Marked for this cluster and this claim. So its history is this ring's, even if nobody has it any more: it may be a copy of a member that was
/// lost just after, before status had the copy's server UUID.
fn has_the_mark(observed: &Observed, member: &Member, report: &Report) -> bool {
    let theirs = report.volume.as_ref().and_then(|volume| volume.mark.as_ref());
    let ours = member.claim.as_ref().map(|claim| mark(observed, claim));
    ours.is_some() && theirs == ours.as_ref()
}

/// The members whose volumes are copies, and the way out.
pub fn copies(observed: &Observed) -> Option<String> {
    let mut copies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for member in &observed.members {
        let outsider = member.outsider.as_ref();
        let is_one = |outsider: &&Outsider| outsider.ownership != Ownership::Stranger || observed.epoch() == 0;
        if let Some(outsider) = outsider.filter(is_one) {
            let why = why(observed, member.ordinal, outsider);
            copies.entry(why).or_default().push(member.name(observed.name()));
        }
    }
    let copies: Vec<String> = copies
        .into_iter()
        .map(|(why, members)| format!("{}: {why}", members.join(", ")))
        .collect();
    (!copies.is_empty()).then(|| copies.join("; "))
}

/// Why nothing is done with a member, and the way out.
pub fn why(observed: &Observed, ordinal: u8, outsider: &Outsider) -> String {
    match &outsider.ownership {
        Ownership::Copy { of, .. } => format!(
            "its volume is a copy of {of}. It replicates from nobody and serves nobody. Give it back the volume it had, or an empty one. To begin \
             with the data of this copy: {}",
            adoption(observed)
        ),
        Ownership::Stranger if observed.epoch() == 0 => {
            "its volume has nothing in common with that of another member, so they are not of one ring. Give all members volumes of one ring, or empty \
             ones where nothing is lost"
                .into()
        }
        Ownership::Stranger => {
            "its volume has a history that this cluster has never seen; give it back the volume it had, or an empty one"
                .into()
        }
        Ownership::Unknown => {
            let before = observed.recorded(ordinal);
            let before = before.filter(|before| before.state == MemberState::Quarantined);
            let before = before.and_then(|before| before.message.clone());
            before.unwrap_or_else(|| "the claim of its volume could not be read yet".into())
        }
        _ => "its volume is a copy, and becomes this cluster's; its data gets a new life".into(),
    }
}

/// The command that adopts all copies of this cluster.
fn adoption(observed: &Observed) -> String {
    let uid = |member: &Member| match &member.outsider.as_ref()?.ownership {
        Ownership::Copy { uid, .. } => Some(uid.clone()),
        _ => None,
    };
    let uids: BTreeSet<String> = named(observed)
        .map(str::to_owned)
        .chain(observed.members.iter().filter_map(uid))
        .collect();
    let uids: Vec<String> = uids.into_iter().collect();
    format!(
        "kubectl annotate -n {} mmc {} --overwrite {ANNOTATION_ADOPT}={}",
        observed.namespace(),
        observed.name(),
        uids.join(",")
    )
}

/// The next copy to adopt.
pub fn adopt(observed: &Observed) -> Option<Step> {
    observed.members.iter().find_map(|member| {
        let outsider = member.outsider.as_ref()?;
        let Ownership::ToAdopt(mark) = &outsider.ownership else {
            return None;
        };
        let mark = mark.clone();
        let action = Action::Mark { mark, new_life: true };
        Some(Step::member(member.ordinal, &outsider.server_uuid, action))
    })
}

/// The next empty volume to mark: before it is cloned, because what is cloned without a mark has a server UUID that nobody knows.
pub fn mark_empty(observed: &Observed) -> Option<Step> {
    marked(observed, |member| member.empty().is_some())
}

/// The next volume to mark. Nothing waits for it: where it fails, its volume is full for example, the rest goes on.
pub fn mark_next(observed: &Observed) -> Option<Step> {
    marked(observed, |member| {
        member.report().is_some_and(|report| !report.volume_full)
    })
}

fn marked(observed: &Observed, is_meant: impl Fn(&Member) -> bool) -> Option<Step> {
    let mut members = observed.members.iter().filter(|member| is_meant(member));
    members.find_map(|member| {
        let Ownership::ToMark(mark) = of(observed, member) else {
            return None;
        };
        let action = Action::Mark { mark, new_life: false };
        Some(Step::member(member.ordinal, &member.server()?.uuid, action))
    })
}

/// A copy that a person has opened.
pub fn fence(observed: &Observed) -> Option<Step> {
    observed.members.iter().find_map(|member| {
        let outsider = member.outsider.as_ref().filter(|outsider| outsider.is_open)?;
        let is_certain = outsider.ownership != Ownership::Unknown;
        is_certain.then(|| Step::member(member.ordinal, &outsider.server_uuid, Action::Fence))
    })
}

/// Data without a mark is this ring's if no link leads to another cluster and status knows the server. So it is from before volumes had marks.
fn is_known(observed: &Observed, member: &Member, (server, report): (&Server, &Report)) -> bool {
    let is_remembered = || remembers(observed, member.ordinal, server, report);
    !server.channels.iter().any(|channel| observed.leads_away(channel))
        && has_its_ordinal(member, report)
        && (server.executed.is_empty() || is_remembered())
}

/// Status knows this life of the member, or an earlier one that the volume knows too.
fn remembers(observed: &Observed, ordinal: u8, server: &Server, report: &Report) -> bool {
    let lives = report.former_server_uuids.iter().chain([&server.uuid]);
    observed.recorded(ordinal).is_some_and(|status| {
        let knows =
            |uuid: &String| status.server_uuid.as_ref() == Some(uuid) || status.former_server_uuids.contains(uuid);
        lives.into_iter().any(knows)
    })
}

/// Data without a mark that status does not know, and that shares its history with a living ring: of a member that has left it, with a version
/// from before volumes had marks.
fn has_been_here(observed: &Observed, member: &Member, server: &Server) -> bool {
    let shares = |other: &Member| {
        let other = other.with_data().map(|(other, _)| &other.executed);
        other.is_some_and(|other| !server.executed.intersection(other).is_empty())
    };
    let is_ours = |other: &&Member| matches!(of(observed, other), Ownership::Ours);
    observed.epoch() > 0
        && !server.channels.iter().any(|channel| observed.leads_away(channel))
        && observed.others(member.ordinal).filter(is_ours).any(shares)
}

/// A server_id has the ordinal of the member that it was made for. The volume of another member is a copy, too.
fn has_its_ordinal(member: &Member, report: &Report) -> bool {
    names::ordinal_in(report.server_id) == Some(member.ordinal)
}

fn copy(theirs: &Mark) -> Ownership {
    let Mark {
        namespace,
        name,
        cluster_uid,
        ..
    } = theirs;
    Ownership::Copy {
        of: format!("that of {name} in the namespace {namespace} (UID {cluster_uid})"),
        uid: cluster_uid.clone(),
    }
}

/// A person has named this copy.
fn is_adopted(observed: &Observed, copy: &Ownership) -> bool {
    let Ownership::Copy { uid, .. } = copy else {
        return false;
    };
    named(observed).any(|named| named == uid)
}

fn named(observed: &Observed) -> impl Iterator<Item = &str> {
    let annotations = observed.cluster.metadata.annotations.as_ref();
    let named = annotations.and_then(|annotations| annotations.get(ANNOTATION_ADOPT));
    let named = named.into_iter().flat_map(|named| named.split(','));
    named.map(str::trim).filter(|named| !named.is_empty())
}

fn is_of(observed: &Observed, mark: &Mark) -> bool {
    mark.is_of(observed.namespace(), observed.name())
}

fn mark(observed: &Observed, claim: &str) -> Mark {
    Mark {
        namespace: observed.namespace().into(),
        name: observed.name().into(),
        cluster_uid: uid(observed).into(),
        claim_uid: claim.into(),
    }
}

fn uid(observed: &Observed) -> &str {
    observed.cluster.metadata.uid.as_deref().unwrap_or_default()
}
