//! Whether a resource still says what work beside the passes began with.

use kube::ResourceExt;

use crate::api::MultiMasterCluster;
use crate::operator::kubernetes::fresh;
use crate::operator::shared::Context;

use super::error::ActError;

/// Reads the resource again before something is written. Work beside the passes may take its time: by now the resource may be gone, have been
/// made again, be paused, say something else, or want members back that were to go.
pub(super) async fn is_current(cluster: &MultiMasterCluster, context: &Context) -> Result<(), ActError> {
    let of = |cluster: &MultiMasterCluster| (cluster.uid(), cluster.metadata.generation, cluster.ordinals().count());
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let found = fresh(&context.client, &namespace, &name)
        .await
        .map_err(ActError::NotNow)?;
    let found = found.map(MultiMasterCluster::as_recorded);
    let found = found.filter(|found| found.metadata.deletion_timestamp.is_none() && of(found) == of(cluster));
    found.map(drop).ok_or(ActError::Gone(format!("{name} as it was")))
}
