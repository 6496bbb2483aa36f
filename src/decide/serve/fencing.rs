//! Members that a person wants fenced: the annotation `multimaster.dev/fence: demo-1,demo-2` on the resource.

use std::collections::BTreeSet;

use kube::ResourceExt;

use crate::api::status::MemberState;
use crate::names::{self, ANNOTATION_FENCE};

use crate::decide::observed::Observed;

/// Ordinals of the members that are to be fenced. One wrong name, or all of them, and nothing changes.
///
/// # Errors
/// What is wrong with the annotation, and the way out.
pub fn ordered(observed: &Observed) -> Result<BTreeSet<u8>, String> {
    let Some(text) = observed.cluster.annotations().get(ANNOTATION_FENCE) else {
        return Ok(BTreeSet::new());
    };
    let members = || observed.members.iter().map(|member| member.name(observed.name()));
    let mut ordered = BTreeSet::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let ordinal = names::ordinal_of(observed.name(), name).filter(|ordinal| observed.member(*ordinal).is_some());
        let Some(ordinal) = ordinal else {
            let members: Vec<String> = members().collect();
            return Err(format!(
                "annotation {ANNOTATION_FENCE}: {name:?} is not a member, so nothing changes; the members are {}",
                members.join(", ")
            ));
        };
        ordered.insert(ordinal);
    }
    if ordered.len() == observed.members.len() {
        return Err(format!(
            "annotation {ANNOTATION_FENCE}: names every member, so nothing changes, because no member would serve; leave one out"
        ));
    }
    Ok(ordered)
}

/// It was fenced because a person wanted it, as status says.
pub fn was_fenced(observed: &Observed, ordinal: u8) -> bool {
    observed
        .recorded(ordinal)
        .is_some_and(|status| status.state == MemberState::Fenced)
}
