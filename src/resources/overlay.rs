//! Merges `spec.podTemplate` over the built template.

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, ResourceRequirements};

use super::labels;
use super::reserved::{MOUNTS, VARIABLES};
use crate::api::MultiMasterCluster;
use crate::names;

/// `spec.podTemplate`. The API server takes anything there, so it is read here, and nowhere with the resource: what cannot be read is the trouble of
/// this cluster alone.
///
/// # Errors
/// The path of the first field that cannot be, below `spec.podTemplate`, and why.
pub(super) fn theirs(cluster: &MultiMasterCluster) -> Result<Option<PodTemplateSpec>, (String, String)> {
    let template = cluster.spec.pod_template.as_ref();
    let read = template.map(serde_path_to_error::deserialize);
    read.transpose()
        .map_err(|error| (error.path().to_string(), error.inner().to_string()))
}

/// Merges as Kubernetes' strategic merge does: maps by key; containers, volumes and variables by name; mounts by path; lists
/// without a key are replaced. Then it puts back what the ring needs, so that no template can break a member.
/// [`super::validate`] reports the fields of a user that would be lost here.
pub(super) fn merge(cluster: &MultiMasterCluster, built: PodTemplateSpec, theirs: PodTemplateSpec) -> PodTemplateSpec {
    let mut merged = built.clone();
    let metadata = merged.metadata.get_or_insert_default();
    let their_metadata = theirs.metadata.unwrap_or_default();
    let labels = metadata.labels.get_or_insert_default();
    for (key, value) in their_metadata.labels.unwrap_or_default() {
        if labels::is_free(cluster, &key) {
            labels.insert(key, value);
        }
    }
    let annotations = metadata.annotations.get_or_insert_default();
    for (key, value) in their_metadata.annotations.unwrap_or_default() {
        if labels::is_free(cluster, &key) {
            annotations.insert(key, value);
        }
    }
    // Their requests may be above our limits.
    let resources = theirs.spec.as_ref().and_then(agent_resources);
    merged.spec.merge_from(theirs.spec);
    let agent = merged.spec.as_mut().and_then(|spec| spec.init_containers.as_mut());
    let agent = agent.and_then(|all| all.iter_mut().find(|one| one.name == names::AGENT_INIT_CONTAINER));
    if let Some((agent, resources)) = agent.zip(resources) {
        agent.resources = Some(resources);
    }
    if let (Some(merged), Some(built)) = (&mut merged.spec, built.spec) {
        put_back(merged, built);
    }
    merged
}

/// What they let the container ask for that installs the agent.
fn agent_resources(theirs: &PodSpec) -> Option<ResourceRequirements> {
    let mut all = theirs.init_containers.iter().flatten();
    let resources = all
        .find(|one| one.name == names::AGENT_INIT_CONTAINER)?
        .resources
        .clone();
    resources.filter(|resources| resources.requests.is_some() || resources.limits.is_some())
}

fn put_back(merged: &mut PodSpec, built: PodSpec) {
    // Ports of the node, and a process 1 that is not the agent.
    merged.host_network = None;
    merged.host_pid = None;
    merged.host_ipc = None;
    merged.share_process_namespace = None;
    put_back_items(&mut merged.volumes, built.volumes, |a, b| a.name == b.name);
    for built in built.containers {
        put_back_container(&mut merged.containers, built);
    }
    for built in built.init_containers.unwrap_or_default() {
        put_back_container(merged.init_containers.get_or_insert_default(), built);
    }
}

fn put_back_container(merged: &mut [Container], built: Container) {
    let Some(container) = merged.iter_mut().find(|container| container.name == built.name) else {
        // Merging never removes an item.
        return;
    };
    container.image = built.image;
    container.command = built.command;
    container.args = built.args;
    container.startup_probe = built.startup_probe;
    container.liveness_probe = built.liveness_probe;
    container.readiness_probe = built.readiness_probe;
    container.restart_policy = built.restart_policy;
    put_back_items(&mut container.env, built.env, |a, b| a.name == b.name);
    put_back_items(&mut container.ports, built.ports, |a, b| {
        a.container_port == b.container_port
    });
    put_back_items(&mut container.volume_mounts, built.volume_mounts, |a, b| {
        a.mount_path == b.mount_path
    });
}

fn put_back_items<T>(merged: &mut Option<Vec<T>>, built: Option<Vec<T>>, same: fn(&T, &T) -> bool) {
    for item in built.into_iter().flatten() {
        let merged = merged.get_or_insert_default();
        match merged.iter_mut().find(|other| same(other, &item)) {
            Some(other) => *other = item,
            None => merged.push(item),
        }
    }
}

/// Fields of `spec.podTemplate` that [`merge`] ignores, each with the way out.
pub(crate) fn refused(cluster: &MultiMasterCluster, theirs: &PodTemplateSpec) -> Vec<(String, &'static str)> {
    let mut refused = Vec::new();
    let mut refuse = |wrong: bool, field: String, way_out: &'static str| {
        if wrong {
            refused.push((field, way_out));
        }
    };
    if let Some(metadata) = &theirs.metadata {
        for (kind, map) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
            for key in map.iter().flat_map(|map| map.keys()) {
                let field = format!("metadata.{kind}[{key}]");
                refuse(
                    !labels::is_free(cluster, key),
                    field,
                    "choose a name of your own, outside of multimaster.dev/",
                );
            }
        }
    }
    let Some(spec) = &theirs.spec else {
        return refused;
    };
    let host = "remove it: members are told apart by the addresses of their pods";
    refuse(spec.host_network == Some(true), "spec.hostNetwork".into(), host);
    let pid = "remove it: the agent must be process 1 of its container";
    refuse(spec.host_pid == Some(true), "spec.hostPID".into(), pid);
    refuse(
        spec.share_process_namespace == Some(true),
        "spec.shareProcessNamespace".into(),
        pid,
    );
    refuse(spec.host_ipc == Some(true), "spec.hostIPC".into(), "remove it");
    for volume in spec.volumes.iter().flatten() {
        let ours = MOUNTS.iter().any(|(name, ..)| *name == volume.name);
        refuse(
            ours,
            format!("spec.volumes[{}]", volume.name),
            "give your volume another name",
        );
    }
    let init = spec.init_containers.iter().flatten();
    let all = spec
        .containers
        .iter()
        .map(|c| ("containers", c))
        .chain(init.map(|c| ("initContainers", c)));
    for (list, container) in all {
        let image = match (list, container.name.as_str()) {
            ("containers", names::MYSQL_CONTAINER) => "set spec.image instead",
            ("initContainers", names::AGENT_INIT_CONTAINER) => {
                "remove it: the agent comes with the operator's own version"
            }
            _ => continue,
        };
        let field = |field: &str| format!("spec.{list}[{}].{field}", container.name);
        let process = "remove it: the agent must be what this container runs; add a container of your own";
        refuse(container.image.is_some(), field("image"), image);
        refuse(container.command.is_some(), field("command"), process);
        refuse(container.args.is_some(), field("args"), process);
        refuse(container.restart_policy.is_some(), field("restartPolicy"), process);
        let probes = [
            ("startupProbe", &container.startup_probe),
            ("livenessProbe", &container.liveness_probe),
            ("readinessProbe", &container.readiness_probe),
        ];
        for (name, probe) in probes {
            refuse(probe.is_some(), field(name), "remove it: the agent answers the probes");
        }
        for variable in container.env.iter().flatten() {
            let ours = VARIABLES.contains(&variable.name.as_str());
            refuse(
                ours,
                field(&format!("env[{}]", variable.name)),
                "remove it: the operator sets this variable",
            );
        }
        for mount in container.volume_mounts.iter().flatten() {
            let path = mount.mount_path.trim_end_matches('/');
            let inside = |ours: &str| path == ours || (ours != "/tmp" && path.starts_with(&format!("{ours}/")));
            let ours = MOUNTS.iter().any(|(_, ours, _)| inside(ours));
            refuse(
                ours,
                field(&format!("volumeMounts[{}]", mount.mount_path)),
                "mount your volume at another path",
            );
        }
    }
    refused
}
