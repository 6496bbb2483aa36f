//! May the volumes of the members have the size of the spec? `docs/ring.md`, "Volumes".

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::observed::Problem;
use crate::api::MultiMasterCluster;
use crate::api::reasons::Reason;
use crate::api::status::conditions;
use crate::resources::quantity::nanos;

/// The claim of a member's volume. Sizes are quantities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// The size that it asks for.
    pub asks: String,
    /// The size of its volume. `None`: it has no volume yet.
    pub has: Option<String>,
    /// Its StorageClass.
    pub class: Option<String>,
    /// Why the volume did not grow, as Kubernetes says.
    pub failure: Option<String>,
}

/// What is to be done about the size of one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Nothing: it has the size that is wanted.
    Nothing,
    /// The claim is to ask for the size.
    Ask,
    /// The claim asks for it, and the volume has not grown yet. Or there is no volume yet, and the claim can ask for more once there is.
    Awaited,
    /// Nothing: the volume is larger, and cannot shrink.
    TooLarge,
}

impl Claim {
    /// What is to be done, so that its volume has the size that is wanted. A claim that asks in vain for more, and whose volume has what is wanted, is
    /// left alone: so growth that does not come about is taken back.
    pub fn growth(&self, wanted: &str) -> Growth {
        // Kubernetes refuses to change a claim that has no volume yet.
        let is_awaited = |wanted, asks| self.has.is_none() && wanted > asks;
        // A wanted size that is no quantity is not valid, and the API server has no others.
        let (Some(wanted), Some(asks), Some(has)) = (nanos(wanted), nanos(&self.asks), nanos(self.has())) else {
            return Growth::Nothing;
        };
        // A driver may round up.
        if is_awaited(wanted, asks) {
            Growth::Awaited
        } else if wanted < asks.min(has) {
            Growth::TooLarge
        } else if wanted <= has {
            Growth::Nothing
        } else if wanted == asks {
            Growth::Awaited
        } else {
            Growth::Ask
        }
    }

    fn has(&self) -> &str {
        self.has.as_ref().unwrap_or(&self.asks)
    }

    /// The smallest size that is not too small.
    fn least(&self) -> &str {
        match nanos(&self.asks) < nanos(self.has()) {
            true => &self.asks,
            false => self.has(),
        }
    }
}

/// Why the volume of one of the claims does not get the size that is wanted: the StorageClass, the API server or the driver refuses it.
pub fn refused(claims: &[Claim], claim: &Claim, wanted: &str, why: &str) -> Problem {
    let size = claim.has();
    // Others may have grown meanwhile.
    let fits = |other: &Claim| {
        other.growth(size) == Growth::Nothing || other.has.is_none() && other.growth(size) == Growth::Awaited
    };
    let may_go_back = claims.iter().all(fits);
    let way_out = match may_go_back {
        true => format!("Set it back to {size}, or remove the cause"),
        false => "Remove the cause".to_owned(),
    };
    problem(format!(
        "{wanted} is refused for the claim {}, whose volume has {size}: {why}. {way_out}: the operator tries again",
        claim.name,
    ))
}

/// What is said of a StorageClass without `allowVolumeExpansion: true`.
pub fn forbids_growth(class: &str) -> String {
    format!("the StorageClass {class:?} does not let volumes grow (allowVolumeExpansion)")
}

/// What is told of these claims without asking for anything: a volume that is larger, or one that does not grow.
pub fn told(claims: &[Claim], wanted: &str) -> Option<Problem> {
    claims.iter().find_map(|claim| match claim.growth(wanted) {
        Growth::TooLarge => Some(too_large(claims, claim, wanted)),
        Growth::Awaited => claim.failure.as_ref().map(|why| refused(claims, claim, wanted, why)),
        Growth::Nothing | Growth::Ask => None,
    })
}

/// What status says. With a new generation, and so with a new size, all conditions are Unknown first.
pub fn recorded(cluster: &MultiMasterCluster) -> Option<Problem> {
    let mut conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let reason = Reason::VolumeSizeRefused;
    let is_it = |condition: &&Condition| condition.type_ == conditions::STALLED && condition.reason == reason.as_ref();
    let message = conditions.find(is_it)?.message.clone();
    Some(Problem { reason, message })
}

fn too_large(claims: &[Claim], claim: &Claim, wanted: &str) -> Problem {
    let least = claims.iter().map(Claim::least).max_by_key(|size| nanos(size));
    if claim.has.is_none() {
        return problem(format!(
            "is {wanted}, and the claim {} asks for {}; it has no volume yet, and cannot ask for less. If the ring is new, delete this resource and \
             its claims, and create it again; otherwise set it to {}",
            claim.name,
            claim.asks,
            least.unwrap_or(claim.least()),
        ));
    }
    problem(format!(
        "is {wanted}, and the volume of the claim {} has {}; a volume cannot shrink: set it to {}",
        claim.name,
        claim.has(),
        least.unwrap_or(claim.least()),
    ))
}

fn problem(message: String) -> Problem {
    Problem {
        reason: Reason::VolumeSizeRefused,
        message: format!("spec.storage.size: {message}"),
    }
}
