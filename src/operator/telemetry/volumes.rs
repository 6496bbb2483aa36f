//! Metrics of the volumes of members, as status shows them.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::api::MAX_MEMBERS;
use crate::api::status::MemberStatus;
use crate::names;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Member {
    namespace: String,
    cluster: String,
    member: String,
}

/// Size and use of each volume.
#[derive(Default)]
pub(super) struct Volumes {
    size_bytes: Family<Member, Gauge>,
    used_ratio: Family<Member, Gauge<f64, AtomicU64>>,
}

impl Volumes {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "volume_size_bytes",
            "Size of the file system of a member's volume",
            self.size_bytes.clone(),
        );
        registry.register(
            "volume_used_ratio",
            "Use of the file system of a member's volume, from 0 to 1 in steps of 0.05, as in status",
            self.used_ratio.clone(),
        );
    }

    /// Shows the volumes of one cluster. A member without figures, or that has left, has no series: what cannot be seen is absent, not 0.
    pub(super) fn show(&self, namespace: &str, cluster: &str, members: &[MemberStatus]) {
        for ordinal in 0..MAX_MEMBERS {
            let labels = Member {
                namespace: namespace.into(),
                cluster: cluster.into(),
                member: names::member(cluster, ordinal),
            };
            let status = members.iter().find(|status| status.name == labels.member);
            match status.and_then(|status| status.volume.as_ref()) {
                Some(volume) => {
                    self.size_bytes.get_or_create(&labels).set(volume.size_bytes);
                    let ratio = f64::from(volume.used_percent) / 100.0;
                    self.used_ratio.get_or_create(&labels).set(ratio);
                }
                None => {
                    self.size_bytes.remove(&labels);
                    self.used_ratio.remove(&labels);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::api::status::{MemberStatus, MultiMasterClusterStatus, VolumeStatus};
    use crate::operator::telemetry::Metrics;

    fn status(used_percents: &[Option<u8>]) -> MultiMasterClusterStatus {
        let members = used_percents.iter().enumerate().map(|(ordinal, used)| MemberStatus {
            name: format!("demo-{ordinal}"),
            volume: used.map(|used_percent| VolumeStatus {
                size_bytes: 20 << 30,
                used_percent,
            }),
            ..MemberStatus::default()
        });
        MultiMasterClusterStatus {
            member_statuses: members.collect(),
            ..MultiMasterClusterStatus::default()
        }
    }

    #[test]
    fn volumes_are_shown_while_they_are_known() {
        let metrics = Metrics::default();
        let series = || -> Vec<String> {
            let text = metrics.encode().unwrap_or_default();
            let lines = text.lines().filter(|line| line.starts_with("multimaster_volume_"));
            let mut lines: Vec<String> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let of = |member: &str| format!(r#"{{namespace="x",cluster="demo",member="{member}"}}"#);
        let size = |member| format!("multimaster_volume_size_bytes{} 21474836480", of(member));
        let used = |member, ratio| format!("multimaster_volume_used_ratio{} {ratio}", of(member));
        metrics.cluster("x", "demo", 3, &status(&[Some(45), None, Some(85)]));
        let expected = [
            size("demo-0"),
            size("demo-2"),
            used("demo-0", "0.45"),
            used("demo-2", "0.85"),
        ];
        assert_eq!(series(), expected);
        // One is not known any more, and another one has left.
        metrics.cluster("x", "demo", 2, &status(&[None, Some(5)]));
        assert_eq!(series(), [size("demo-1"), used("demo-1", "0.05")]);
        metrics.forget("x", "demo");
        assert!(series().is_empty(), "{:?}", series());
    }
}
