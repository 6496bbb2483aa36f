//! Volumes of a version from before there were marks.

use multimaster::decide::observed::Ownership;
use multimaster::decide::ring::ownership;
use multimaster::wire::agent::Volume;

use crate::VERSIONS;
use crate::fixture::{fence, report};
use crate::kept::rings;

/// Each member is restarted with the new agent. Its volume is known by its links and by status.
#[test]
fn a_volume_of_before_is_no_copy() {
    for version in VERSIONS {
        let mut marked = 0;
        for ring in rings(version) {
            let mut observed = ring.observed();
            for ordinal in 0..3_u8 {
                let at_ordinal = usize::from(ordinal);
                if observed.members[at_ordinal].with_data().is_none() {
                    continue;
                }
                report(&mut observed, ordinal).volume = Some(Volume::default());
                fence(&mut observed, ordinal);
                let member = &observed.members[at_ordinal];
                let judged = ownership::of(&observed, member);
                assert!(
                    matches!(judged, Ownership::ToMark(_)),
                    "{} {ordinal}: {judged:?}",
                    ring.name
                );
                report(&mut observed, ordinal).volume = None;
                marked += 1;
            }
        }
        assert!(marked > 9, "{version}: {marked}");
    }
}
