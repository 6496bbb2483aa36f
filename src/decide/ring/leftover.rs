//! Channels that are left over from another ring.

use crate::names;

use super::behind::is_being_drained;
use super::links::link_replicates;
use crate::decide::observed::{Member, Observed, Receiver, Server};
use crate::decide::step::Step;

/// What is due for a channel that is left over from another ring. Its relay logs may be the last copy of a write: while its link does not
/// replicate nothing of it is stopped, and then it only goes when all it has retrieved is executed.
pub fn left_over(observed: &Observed, member: &Member, server: &Server) -> Option<Step> {
    let ordinal = member.ordinal;
    let link = observed.ring().upstream(ordinal);
    let replicates = link_replicates(observed, ordinal);
    server.channels.iter().find_map(|channel| {
        let upstream = names::upstream_of(&channel.name).filter(|upstream| Some(*upstream) != link)?;
        let server_uuid = server.uuid.clone();
        let applied = server.executed.contains(&channel.retrieved);
        if !applied && !channel.applier_running && channel.applier_error.is_none() {
            // Also while its link stands at a conflict: a conflict step stops the other appliers, and may have ended before it started them.
            Some(Step::Start {
                ordinal,
                server_uuid,
                upstream,
            })
        } else if !replicates || is_being_drained(observed, upstream) {
            None
        } else if channel.receiver != Receiver::Off {
            Some(Step::StopReceiver {
                ordinal,
                server_uuid,
                upstream,
            })
        } else if applied {
            let why = "the ring has another link now, and all it had retrieved is applied".into();
            Some(Step::Detach {
                ordinal,
                server_uuid,
                upstream,
                why,
            })
        } else {
            None
        }
    })
}
