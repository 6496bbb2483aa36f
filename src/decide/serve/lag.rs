//! How far a member is behind those that write.

use crate::decide::observed::Channel;
use crate::decide::roles::Roles;

/// How far a member is behind those that write, in seconds: the largest lag of a link on the way. `None`: it cannot be seen.
pub fn lag(roles: &Roles, ordinal: u8) -> Option<i64> {
    let ring = roles.ring;
    let from = match roles.writer {
        Some(writer) => Some(writer),
        // All write; the way from the one behind it is the longest.
        None => ring.downstream(ordinal),
    };
    if !ring.contains(ordinal) {
        return None;
    }
    let mut behind = 0;
    let mut downstream = ordinal;
    while Some(downstream) != from {
        let Some(upstream) = ring.upstream(downstream) else {
            break;
        };
        behind = behind.max(seconds_behind(roles.observed.member(downstream)?.link(upstream)?)?);
        downstream = upstream;
        if downstream == ordinal {
            // The writer is not in the ring.
            return None;
        }
    }
    Some(behind)
}

/// MySQL does not say while the receiver has no connection; then the time since the last contact counts.
fn seconds_behind(link: &Channel) -> Option<i64> {
    if !link.applier_running {
        return None;
    }
    link.lag_seconds.or(link.seconds_since_contact)
}
