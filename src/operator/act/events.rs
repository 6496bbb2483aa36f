//! The event of each step that was carried out.

use crate::api::reasons::EventReason;
use crate::decide::observed::{Member, Observed};
use crate::decide::roles::Roles;
use crate::decide::step::{Action, BalancerAction, PodAction, Remedy, Setting, Step};
use crate::names::{self, ANNOTATION_SETTLE};

/// Reason and message of the event, if a person wants to know of the step.
pub fn event(observed: &Observed, step: &Step) -> Option<(EventReason, String)> {
    match step {
        // Every change of what HAProxy does has another event, of a member or of the spec. The event of what a comparison finds comes from status.
        Step::Cluster(_) => None,
        Step::Balancer { pod, action, .. } => Some(match action {
            BalancerAction::Serve => (EventReason::BalancerServing, format!("{pod} is in the Service")),
            BalancerAction::Withdraw { why } => (
                EventReason::BalancerWithdrawn,
                format!("{pod} is out of the Service: {why}"),
            ),
        }),
        Step::Pod { ordinal, action, .. } => Some(of_pod(&names::member(observed.name(), *ordinal), action)),
        Step::Member { ordinal, action, .. } => of_member(observed, *ordinal, action),
    }
}

fn of_pod(name: &str, action: &PodAction) -> (EventReason, String) {
    match action {
        PodAction::Serve => (EventReason::Serving, format!("{name} is in the Service")),
        PodAction::Withdraw { why } => (EventReason::Withdrawn, format!("{name} is out of the Service: {why}")),
        PodAction::ServeReads => (EventReason::ServingReads, format!("{name} is in the Service for reads")),
        PodAction::WithdrawReads { why } => (
            EventReason::ReadsWithdrawn,
            format!("{name} is out of the Service for reads: {why}"),
        ),
        PodAction::Restart { why } => (EventReason::Restarting, format!("{name} is restarted: {why}")),
    }
}

fn of_member(observed: &Observed, ordinal: u8, action: &Action) -> Option<(EventReason, String)> {
    let of = |ordinal: &u8| names::member(observed.name(), *ordinal);
    let name = of(&ordinal);
    Some(match action {
        Action::Found => (EventReason::Founded, format!("{name} is a founder of the ring")),
        Action::Clone { donor } => (
            EventReason::Cloning,
            format!("{name} has an empty volume and is rebuilt as a copy of {}", of(donor)),
        ),
        Action::NewLife { lost } => (
            EventReason::NewLife,
            format!(
                "{name} came back without its own {}; it gets a new server UUID, and they flow back",
                lost.brief()
            ),
        ),
        Action::Reclone { .. } => (
            EventReason::Recloning,
            format!("{name} needs what every other member has purged; it gives up its data and is rebuilt as a copy"),
        ),
        Action::Attach { upstream, start } => (
            EventReason::LinkAttached,
            format!("{name} replicates from {} {start}", of(upstream)),
        ),
        Action::Start { upstream } => (
            EventReason::LinkStarted,
            format!("{name} replicates from {} again, from where it stopped", of(upstream)),
        ),
        Action::Detach { upstream, why } => (
            EventReason::LinkDetached,
            format!("{name} stopped replicating from {}: {why}", of(upstream)),
        ),
        Action::StopReceiver { upstream } => (
            EventReason::ReceiverStopped,
            format!(
                "{name} has another upstream than {} now and applies what it still has from it",
                of(upstream)
            ),
        ),
        // An ordinary volume is marked once; only the other case is of interest.
        Action::Mark { new_life: false, .. } => return None,
        Action::Mark { mark, .. } => (
            EventReason::VolumeAdopted,
            format!(
                "the volume of {name} is a copy; it belongs to this cluster from now on (UID {}), and its data gets a new life",
                mark.cluster_uid
            ),
        ),
        Action::StartApplier { upstream } => (
            EventReason::LinkStarted,
            format!(
                "{name} applies what it still has from {}, and receives nothing from there",
                of(upstream)
            ),
        ),
        Action::Fence => (EventReason::Fenced, fenced(observed, ordinal, &name)),
        Action::Restore { setting } => (EventReason::SettingRestored, restored(*setting, &name)),
        Action::Open => (EventReason::Opened, format!("{name} takes writes")),
        // It is examined again, and again.
        Action::Examine { gtid, .. } if is_recorded(observed, ordinal, gtid) => return None,
        Action::Examine { upstream, gtid } => (
            EventReason::ConflictRecorded,
            format!(
                "{name} cannot apply {gtid}, which comes from {}: multimaster.conflicts has the rows",
                of(upstream)
            ),
        ),
        Action::Settle {
            gtid,
            remedy: Remedy::Skip,
            ..
        } => (
            EventReason::ConflictSkipped,
            format!("{name} already has what {gtid} wants, and it is the same on both sides"),
        ),
        Action::Settle { gtid, winner, .. } => {
            let wins = winner.map_or_else(String::new, |winner| format!("; rows of {} win", of(&winner)));
            (
                EventReason::ConflictTaken,
                format!("{name} has applied {gtid}, at which it stopped{wins}"),
            )
        }
        Action::NoteSettled { gtid, .. } => (
            EventReason::ConflictSettled,
            format!(
                "the conflict of {gtid} at {name} is settled by the annotation {ANNOTATION_SETTLE}; its rows were not compared"
            ),
        ),
        Action::NoteTaken { .. } | Action::CompareRows { .. } => return None,
        Action::CreateDatabase => (
            EventReason::DatabaseCreated,
            format!("the first database and its user were created at {name}"),
        ),
    })
}

fn is_recorded(observed: &Observed, ordinal: u8, gtid: &str) -> bool {
    let server = observed.member(ordinal).and_then(Member::server);
    server.is_some_and(|server| server.own_record(gtid).is_some())
}

fn fenced(observed: &Observed, ordinal: u8, name: &str) -> String {
    let roles = Roles::of(observed);
    if roles.is_bypassed(ordinal) {
        return format!(
            "{name} answers again and is fenced, because the ring is closed around it; what it took meanwhile is merged"
        );
    }
    let why = if roles.is_leaving(ordinal) {
        "it leaves the ring"
    } else if roles.is_reader(ordinal) {
        "another member is the writer; what it took beside that is merged"
    } else {
        "an annotation says so"
    };
    format!("{name} is fenced, because {why}")
}

fn restored(setting: Setting, name: &str) -> String {
    match setting {
        Setting::ReplicaExecMode => format!(
            "{name} has replica_exec_mode=STRICT again: a conflict step that ended early had left IDEMPOTENT. If an applier ran there meanwhile, it \
             may have overwritten rows without a record: compare the members (annotation {})",
            names::ANNOTATION_COMPARE
        ),
        Setting::SuperReadOnly => format!(
            "{name} has super_read_only=ON again: it is fenced, and a conflict step that ended early had left OFF"
        ),
    }
}
