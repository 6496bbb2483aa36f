//! What people are told of each step: `kubectl describe` reads like a story.

use crate::decide::observed::Observed;
use crate::decide::step::{Remedy, Setting, Step};
use crate::names;

/// Reason and text of the event that a person would want to read.
pub fn sentence(observed: &Observed, step: &Step) -> Option<(&'static str, String)> {
    let name = |ordinal: &u8| names::member(observed.name(), *ordinal);
    Some(match step {
        // What a comparison finds is told from status.
        Step::Apply | Step::Compare { .. } | Step::StopWrites => return None,
        Step::Serve { ordinal, .. } => ("Serving", format!("{} is in the Service", name(ordinal))),
        Step::Withdraw { ordinal, why, .. } => ("Withdrawn", format!("{} is out of the Service: {why}", name(ordinal))),
        Step::ServeReads { ordinal, .. } => ("ServingReads", format!("{} is in the Service for reads", name(ordinal))),
        Step::WithdrawReads { ordinal, why, .. } => (
            "ReadsWithdrawn",
            format!("{} is out of the Service for reads: {why}", name(ordinal)),
        ),
        // Every change of it has another event: of the member, or of the spec.
        Step::Balance { .. } => return None,
        Step::ServeBalancer { pod, .. } => ("BalancerServing", format!("{pod} is in the Service")),
        Step::WithdrawBalancer { pod, why, .. } => ("BalancerWithdrawn", format!("{pod} is out of the Service: {why}")),
        Step::Found { ordinal, .. } => ("Founded", format!("{} is a founder of the ring", name(ordinal))),
        Step::Clone { ordinal, donor, .. } => (
            "Cloning",
            format!(
                "{} has an empty volume and is rebuilt as a copy of {}",
                name(ordinal),
                name(donor)
            ),
        ),
        Step::NewLife { ordinal, lost, .. } => (
            "NewLife",
            format!(
                "{} came back without its own {lost}; it gets a new server UUID, and they flow back",
                name(ordinal)
            ),
        ),
        Step::GiveUp { ordinal, .. } => (
            "GivenUp",
            format!(
                "{} needs what every other member has purged; it gives up its data and is rebuilt as a copy",
                name(ordinal)
            ),
        ),
        Step::Attach {
            ordinal,
            upstream,
            start,
            ..
        } => (
            "LinkAttached",
            format!("{} replicates from {} {start}", name(ordinal), name(upstream)),
        ),
        Step::Start { ordinal, upstream, .. } => (
            "LinkStarted",
            format!(
                "{} replicates from {} again, from where it stopped",
                name(ordinal),
                name(upstream)
            ),
        ),
        Step::Detach {
            ordinal, upstream, why, ..
        } => (
            "LinkDetached",
            format!("{} stopped replicating from {}: {why}", name(ordinal), name(upstream)),
        ),
        Step::StopReceiver { ordinal, upstream, .. } => (
            "ReceiverStopped",
            format!(
                "{} has another upstream than {} now and applies what it still has from it",
                name(ordinal),
                name(upstream)
            ),
        ),
        Step::Fence { ordinal, .. } if observed.is_bypassed(*ordinal) => (
            "Fenced",
            format!(
                "{} answers again and is fenced, because the ring is closed around it; what it took meanwhile is merged",
                name(ordinal)
            ),
        ),
        Step::Fence { ordinal, .. } => {
            let leaves = observed.leaving().is_some_and(|member| member.ordinal == *ordinal);
            let why = if leaves {
                "it leaves the ring"
            } else if observed.is_reader(*ordinal) {
                "another member is the writer; what it took beside that is merged"
            } else {
                "an annotation says so"
            };
            ("Fenced", format!("{} is fenced, because {why}", name(ordinal)))
        }
        Step::Restore {
            ordinal,
            setting: Setting::ReplicaExecMode,
            ..
        } => (
            "SettingRestored",
            format!(
                "{} has replica_exec_mode=STRICT again: a conflict step that ended early had left IDEMPOTENT. If an applier ran there meanwhile, it \
                 may have overwritten rows without a record: compare the members (annotation {})",
                name(ordinal),
                names::ANNOTATION_COMPARE
            ),
        ),
        Step::Restore { ordinal, .. } => (
            "SettingRestored",
            format!(
                "{} has super_read_only=ON again: it is fenced, and a conflict step that ended early had left OFF",
                name(ordinal)
            ),
        ),
        Step::Open { ordinal, .. } => ("Opened", format!("{} takes writes", name(ordinal))),
        Step::Examine {
            ordinal,
            upstream,
            gtid,
            ..
        } => (
            "ConflictRecorded",
            format!(
                "{} cannot apply {gtid}, which comes from {}: multimaster.conflicts has the rows",
                name(ordinal),
                name(upstream)
            ),
        ),
        Step::Settle {
            ordinal,
            gtid,
            remedy: Remedy::Skip,
            ..
        } => (
            "ConflictSkipped",
            format!(
                "{gtid} creates what {} has already, with the same definition",
                name(ordinal)
            ),
        ),
        Step::Settle {
            ordinal, gtid, winner, ..
        } => {
            let wins = winner.map_or_else(String::new, |winner| format!("; rows of {} win", name(&winner)));
            (
                "ConflictTaken",
                format!("{} has applied {gtid}, at which it stopped{wins}", name(ordinal)),
            )
        }
        Step::NoteTaken { .. } | Step::CompareRows { .. } => return None,
        Step::CreateDatabase { ordinal, .. } => (
            "DatabaseCreated",
            format!("the first database and its user were created at {}", name(ordinal)),
        ),
        Step::Restart { ordinal, why, .. } => ("Restarting", format!("{} is restarted: {why}", name(ordinal))),
    })
}
