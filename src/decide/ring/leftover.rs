//! Channels that are left over from another ring.

use crate::names;

use super::behind::is_being_drained;
use super::links::{due_astray, leads_astray, may_be_retried};
use crate::decide::findings::{Data, Findings};
use crate::decide::observed::Receiver;
use crate::decide::step::{Action, Step};

/// What is due for a channel that is left over from another ring. Its relay logs may be the last copy of a write: while its link does not
/// replicate nothing of it is stopped, and then it only goes when all it has retrieved is executed.
pub fn left_over(findings: &Findings, data: &Data) -> Option<Step> {
    let (ordinal, server) = (data.ordinal(), data.server);
    let link = findings.roles.ring.upstream(ordinal);
    let replicates = findings.member(ordinal).is_some_and(|finding| finding.link_replicates);
    let action = server.channels.iter().find_map(|channel| {
        let upstream = names::upstream_of(&channel.name).filter(|upstream| Some(*upstream) != link)?;
        if leads_astray(findings.observed, channel) {
            return due_astray(findings.observed, (ordinal, server), channel, upstream);
        }
        let applied = server.executed.contains(&channel.retrieved);
        let stands = !channel.applier_running && channel.applier_error.is_none();
        if !applied && (stands || may_be_retried(findings.observed, ordinal, upstream, channel)) {
            // Also while its link stands at a conflict: a conflict step stops the other appliers, and may have ended before it started them.
            Some(Action::Start { upstream })
        } else if !replicates || is_being_drained(findings, upstream) {
            None
        } else if channel.receiver != Receiver::Off {
            Some(Action::StopReceiver { upstream })
        } else if applied {
            let why = "the ring has another link now, and all it had retrieved is applied".into();
            Some(Action::Detach { upstream, why })
        } else {
            None
        }
    })?;
    Some(Step::member(ordinal, &server.uuid, action))
}
