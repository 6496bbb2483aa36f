//! Whose is the data of a member? A volume has the mark of the cluster and of the claim that it belongs to, and a copy of it has the same mark. So
//! has a copy the server UUID: two servers with one UUID push each other out of every link.

use crate::decide::observed::{Member, Observed, Server};
use crate::decide::step::{Action, Step};
use crate::names::{self, ANNOTATION_ADOPT};
use crate::wire::agent::Mark;

/// Whose the data of a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This ring's, or that of an agent which knows of no marks.
    Ours,
    /// This ring's, and its mark does not say so yet.
    Unmarked(Mark),
    /// A copy that becomes this ring's, with a new life: a person says so, or it is another claim of this ring, or there is no data.
    Adopted(Mark),
    /// A copy.
    Copy {
        /// Whose copy it is, for people.
        of: String,
        /// What the annotation names to have it adopted.
        uid: String,
    },
    /// The operator has not read yet which claim it is.
    Unknown,
}

/// Judges the data of one member.
pub fn of(observed: &Observed, member: &Member) -> Ownership {
    let Some((server, report)) = member.with_data().or_else(|| member.empty()) else {
        return Ownership::Ours;
    };
    let Some(volume) = &report.volume else {
        return Ownership::Ours;
    };
    let claim = member.claim.as_ref();
    let ours = claim.map(|claim| mark(observed, claim));
    let is_open = !server.super_read_only;
    match (&volume.mark, ours) {
        // Without a claim nothing is marked, and what is open stays so: it may be known in the next pass.
        (None, None) => Ownership::Ours,
        (None, Some(ours)) if is_known(observed, member, server) => Ownership::Unmarked(ours),
        (Some(theirs), None) if !is_of(observed, theirs) => copy(theirs),
        (Some(theirs), None) if is_open || theirs.cluster_uid == uid(observed) => Ownership::Ours,
        (Some(_), None) => Ownership::Unknown,
        (Some(theirs), Some(ours)) if *theirs == ours => Ownership::Ours,
        // The resource was made again, on the volumes that it had.
        (Some(theirs), Some(ours)) if is_of(observed, theirs) && theirs.claim_uid == ours.claim_uid => {
            Ownership::Unmarked(ours)
        }
        // A volume of this ring was copied and put in its place. What is open has been checked.
        (Some(theirs), Some(ours)) if is_of(observed, theirs) && theirs.cluster_uid == ours.cluster_uid => {
            if is_open {
                Ownership::Unmarked(ours)
            } else {
                Ownership::Adopted(ours)
            }
        }
        (theirs, Some(ours)) => {
            let copy = match theirs {
                Some(theirs) => copy(theirs),
                None => Ownership::Copy {
                    of: "that of a cluster that is not known".into(),
                    uid: server.uuid.clone(),
                },
            };
            if member.empty().is_some() || is_adopted(observed, &copy) {
                return Ownership::Adopted(ours);
            }
            copy
        }
    }
}

impl Ownership {
    /// Nothing may be done with it but to say what it is.
    pub fn is_of_others(&self) -> bool {
        matches!(self, Self::Copy { .. } | Self::Adopted(_) | Self::Unknown)
    }

    /// Why nothing is done with it, and the way out.
    pub fn why(&self, observed: &Observed) -> Option<String> {
        match self {
            Self::Copy { of, uid } => Some(format!(
                "its volume is a copy of {of}. It replicates from nobody and serves nobody. Give it back the volume it had, or an empty one. To begin \
                 with the data of this copy: kubectl annotate -n {} mmc {} {ANNOTATION_ADOPT}={uid}",
                namespace(observed),
                observed.name()
            )),
            Self::Adopted(_) => Some("its volume is a copy that is adopted; it gets a new life".into()),
            Self::Unknown => Some("the claim of its volume was not read yet".into()),
            Self::Ours | Self::Unmarked(_) => None,
        }
    }
}

/// The next volume to mark, or copy to adopt.
pub fn step(observed: &Observed) -> Option<Step> {
    observed.members.iter().find_map(|member| {
        let (mark, new_life) = match of(observed, member) {
            Ownership::Unmarked(mark) => (mark, false),
            Ownership::Adopted(mark) => (mark, true),
            _ => return None,
        };
        let uuid = &member.server()?.uuid;
        Some(Step::member(member.ordinal, uuid, Action::Mark { mark, new_life }))
    })
}

/// Why the data of a member is that of others.
pub fn why(observed: &Observed, member: &Member) -> Option<String> {
    of(observed, member).why(observed)
}

/// Data without a mark is this ring's if no channel leads to another cluster and status knows the server. So it is from before volumes had marks.
fn is_known(observed: &Observed, member: &Member, server: &Server) -> bool {
    let leads_away = server
        .channels
        .iter()
        .any(|channel| names::is_of_another_cluster(&channel.source_host, observed.name(), namespace(observed)));
    let remembers = |uuid: &String| {
        observed.recorded(member.ordinal).is_some_and(|status| {
            status.server_uuid.as_ref() == Some(uuid) || status.former_server_uuids.contains(uuid)
        })
    };
    let former = member.report().map(|report| report.former_server_uuids.as_slice());
    let is_new = server.executed.is_empty() || !server.super_read_only;
    !leads_away && (is_new || remembers(&server.uuid) || former.unwrap_or_default().iter().any(remembers))
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
    let annotations = observed.cluster.metadata.annotations.as_ref();
    let named = annotations.and_then(|annotations| annotations.get(ANNOTATION_ADOPT));
    named.is_some_and(|named| named.split(',').any(|named| named.trim() == uid))
}

fn is_of(observed: &Observed, mark: &Mark) -> bool {
    mark.is_of(namespace(observed), observed.name())
}

fn mark(observed: &Observed, claim: &str) -> Mark {
    Mark {
        namespace: namespace(observed).into(),
        name: observed.name().into(),
        cluster_uid: uid(observed).into(),
        claim_uid: claim.into(),
    }
}

fn namespace(observed: &Observed) -> &str {
    observed.cluster.metadata.namespace.as_deref().unwrap_or_default()
}

fn uid(observed: &Observed) -> &str {
    observed.cluster.metadata.uid.as_deref().unwrap_or_default()
}
