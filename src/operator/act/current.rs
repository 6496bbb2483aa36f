//! Whether a resource still says what work beside the passes began with.

use kube::{Api, ResourceExt};

use crate::api::MultiMasterCluster;
use crate::operator::kubernetes::ask;
use crate::operator::shared::Context;
use crate::operator::watched::Watched;

use super::error::ActError;

/// Reads the resource again before something is written. Work beside the passes may take its time: by now the resource may be gone, have been
/// made again, be paused, say something else, or want members back that were to go.
pub(super) async fn is_current(cluster: &MultiMasterCluster, context: &Context) -> Result<(), ActError> {
    let name = cluster.name_any();
    let api: Api<Watched> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let of = |cluster: &MultiMasterCluster| (cluster.uid(), cluster.metadata.generation, cluster.ordinals().count());
    let fresh = ask("the resource", api.get_opt(&name))
        .await?
        .map(|fresh| fresh.0.as_recorded());
    let fresh = fresh.filter(|fresh| fresh.metadata.deletion_timestamp.is_none() && of(fresh) == of(cluster));
    fresh.map(drop).ok_or(ActError::Gone(format!("{name} as it was")))
}
