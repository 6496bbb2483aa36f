//! Reads a pod object.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as KubePod};

use crate::api::reasons::Reason;
use crate::decide::observed::{Pod, Problem};
use crate::names;

/// The state of a pod whose main container has this name.
pub(crate) fn pod(pod: &KubePod, main: &str) -> Pod {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let init = status.init_container_statuses.unwrap_or_default();
    let main = containers.iter().find(|container| container.name == main);
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let has = |label: &str| labels.get(label).is_some_and(|value| value == "true");
    let unscheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let running = main
        .and_then(|container| container.state.as_ref())
        .is_some_and(|state| state.running.is_some());
    let name = pod.metadata.name.clone().unwrap_or_default();
    let container_problem = init
        .iter()
        .chain(&containers)
        .find_map(|container| container_problem(&name, container));
    let unscheduled_problem = unscheduled.map(|condition| Problem {
        reason: Reason::MembersAbsent,
        message: format!(
            "{name} is not scheduled: {}",
            condition.message.clone().unwrap_or_default()
        ),
    });
    Pod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ip: status.pod_ip,
        scheduled: pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()),
        ready: conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        running,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        serving: has(names::LABEL_SERVING),
        reads: has(names::LABEL_READS),
        revision: labels.get("controller-revision-hash").cloned(),
        problem: container_problem.or(unscheduled_problem),
        last_words: main.and_then(last_words),
    }
}

/// What is known of the container's last failure: that it had too little memory, or its termination message.
fn last_words(container: &ContainerStatus) -> Option<String> {
    let last = container.last_state.as_ref()?.terminated.as_ref()?;
    if last.reason.as_deref() == Some("OOMKilled") {
        return Some(format!(
            "the kernel killed it, because it needed more memory than its limit (OOMKilled): raise {}",
            memory_limit(&container.name)
        ));
    }
    let words = last.message.as_deref()?.trim();
    (last.exit_code != 0 && !words.is_empty()).then(|| words.to_owned())
}

/// Where the memory of a container is limited.
fn memory_limit(container: &str) -> &'static str {
    match container {
        names::MYSQL_CONTAINER => "spec.resources.limits.memory, or lower innodb_buffer_pool_size and max_connections",
        names::HAPROXY_CONTAINER => "spec.balancer.resources.limits.memory",
        _ => "its limit in spec.podTemplate",
    }
}

/// Why a container does not run, by Kubernetes or by its termination message.
fn container_problem(pod: &str, container: &ContainerStatus) -> Option<Problem> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    match reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            let field = match container.name.as_str() {
                names::MYSQL_CONTAINER => "spec.image",
                names::HAPROXY_CONTAINER => "spec.balancer.image",
                _ => "the operator's own image",
            };
            let message = format!(
                "{field}: {pod} cannot pull {}: {}",
                container.image,
                waiting.message.clone().unwrap_or(reason)
            );
            Some(Problem {
                reason: Reason::ImageUnavailable,
                message,
            })
        }
        "CrashLoopBackOff" | "RunContainerError" | "CreateContainerError" | "StartError" => {
            let words = last_words(container);
            let words = words.or_else(|| waiting.message.clone()).unwrap_or(reason);
            Some(Problem {
                reason: Reason::MysqldNotStarting,
                message: format!("{pod} does not start: {}", words.trim()),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(container: &str, last: &serde_json::Value) -> Pod {
        let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
        let status = json!({"name": container, "image": "x", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": {"terminated": last}});
        let live = json!({"metadata": {"name": "demo-0"}, "spec": {"nodeName": "a", "containers": []},
            "status": {"containerStatuses": [status]}});
        pod(&serde_json::from_value(live).unwrap(), container)
    }

    #[test]
    fn a_container_without_memory_names_the_field_of_its_limit() {
        let killed = json!({"exitCode": 137, "reason": "OOMKilled"});
        for (container, field) in [
            (names::MYSQL_CONTAINER, "spec.resources.limits.memory"),
            (names::HAPROXY_CONTAINER, "spec.balancer.resources.limits.memory"),
            ("exporter", "spec.podTemplate"),
        ] {
            let pod = read(container, &killed);
            let message = pod.problem.unwrap().message;
            assert!(message.contains("OOMKilled") && message.contains(field), "{message}");
            assert!(pod.last_words.unwrap().contains("OOMKilled"));
            assert!(pod.scheduled);
        }
        let failed = read(
            names::MYSQL_CONTAINER,
            &json!({"exitCode": 1, "reason": "Error", "message": "no data\n"}),
        );
        assert_eq!(failed.problem.unwrap().message, "demo-0 does not start: no data");
    }
}
