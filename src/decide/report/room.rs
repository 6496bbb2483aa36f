//! How full the volumes are: what status shows of each, and the condition VolumesHaveRoom. `docs/ring.md`, "How full the volumes are".

use std::cmp::Reverse;

use crate::api::reasons::Reason;
use crate::api::status::{MemberStatus, VolumeStatus};
use crate::wire::agent::VolumeUsage;

use super::judgement::Judgement;
use crate::decide::observed::Member;

/// From this use on, in per cent, a volume is nearly full.
const NEARLY_FULL: u8 = 85;
/// Status shows multiples of this, in per cent, so that it is not written with every block that is used.
const STEP: u8 = 5;
/// Figures that are older, in seconds, say nothing of the volume as it is now.
const MOST_AGE: u64 = 60;
/// Milliseconds after which every agent has read its volume, unless the storage hangs or the agent is of a version that does not read it.
const FIRST_READ: u64 = 10_000;
/// Binary units of a size, and their powers of two.
const UNITS: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

/// What status shows of the volume of a member. `None`: nothing is known of it.
///
/// What was recorded stays while the agent does not answer; and for the first seconds of an agent, or its restart would take the figure away for a
/// moment.
pub fn volume(member: &Member, recorded: Option<&VolumeStatus>) -> Option<VolumeStatus> {
    let Some(report) = member.report() else {
        return recorded.cloned();
    };
    match &report.volume_usage {
        Some(usage) if usage.seconds_ago <= MOST_AGE => shown(usage, recorded),
        None if report.clock < FIRST_READ => recorded.cloned(),
        _ => None,
    }
}

/// The figures as status shows them: those that are recorded, where they are near enough. The use rises with the next step, and falls once it is more
/// than a step lower: use that goes up and down around a step changes nothing.
fn shown(usage: &VolumeUsage, recorded: Option<&VolumeStatus>) -> Option<VolumeStatus> {
    let percent = usage.used_percent()?;
    let fresh = VolumeStatus {
        // The API server knows no larger number.
        size_bytes: i64::try_from(usage.size_bytes).unwrap_or(i64::MAX),
        used_percent: percent / STEP * STEP,
    };
    let Some(recorded) = recorded else { return Some(fresh) };
    let falls = percent.saturating_add(STEP) < recorded.used_percent;
    let rises = fresh.used_percent > recorded.used_percent;
    // Some file systems (ZFS) change their size with what others use.
    let is_resized = fresh.size_bytes.abs_diff(recorded.size_bytes) > recorded.size_bytes.unsigned_abs() / 100;
    Some(VolumeStatus {
        size_bytes: if is_resized {
            fresh.size_bytes
        } else {
            recorded.size_bytes
        },
        used_percent: if rises || falls {
            fresh.used_percent
        } else {
            recorded.used_percent
        },
    })
}

/// The condition VolumesHaveRoom. It rests on what status shows, so it has the same steps: False from 85 %, True again below 80 %. Its message is
/// bounded as the number of members is.
pub(super) fn volumes_have_room(members: &[MemberStatus]) -> Judgement {
    let mut measured: Vec<(&str, &VolumeStatus)> = members
        .iter()
        .filter_map(|member| Some((member.name.as_str(), member.volume.as_ref()?)))
        .collect();
    if measured.is_empty() {
        return Judgement::unknown(
            Reason::VolumesNotMeasured,
            "no agent says how full its volume is; it does once its member has restarted with the agent of this version",
        );
    }
    let others: Vec<&str> = members
        .iter()
        .filter(|member| member.volume.is_none())
        .map(|member| member.name.as_str())
        .collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; nothing is known of {}", others.join(", ")),
    };
    measured.retain(|(_, volume)| volume.used_percent >= NEARLY_FULL);
    measured.sort_by_key(|(_, volume)| Reverse(volume.used_percent));
    if measured.is_empty() {
        return Judgement::yes(
            Reason::RoomLeft,
            format!("no volume is {NEARLY_FULL} % full or more{others}"),
        );
    }
    let full: Vec<String> = measured
        .iter()
        .map(|(name, volume)| {
            format!(
                "the volume of {name} is about {} % full (size {})",
                volume.used_percent,
                size(volume.size_bytes)
            )
        })
        .collect();
    Judgement::no(
        Reason::VolumeNearlyFull,
        format!(
            "{}{others}. Raise spec.storage.size if the StorageClass lets volumes grow; otherwise delete what nobody needs: rows, kept folders, \
             or binary logs that every member has applied",
            full.join(", ")
        ),
    )
}

/// A size in bytes as quantities are written: `19.5Gi`, rounded down to a tenth.
fn size(bytes: i64) -> String {
    let bytes = bytes.max(0);
    let Some((unit, power)) = UNITS.into_iter().find(|(_, power)| bytes >> power > 0) else {
        return bytes.to_string();
    };
    let tenths = (i128::from(bytes) * 10) >> power;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{unit}"),
        (whole, tenth) => format!("{whole}.{tenth}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_written_as_quantities() {
        for (bytes, text) in [
            (0, "0"),
            (-1, "0"),
            (1023, "1023"),
            (1024, "1Ki"),
            (20 << 30, "20Gi"),
            (20_940_000_000, "19.5Gi"),
            ((1 << 40) - 1, "1023.9Gi"),
            (i64::MAX, "7.9Ei"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
