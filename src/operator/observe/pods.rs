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

/// The termination message of the container's last failure.
fn last_words(container: &ContainerStatus) -> Option<String> {
    let last = container.last_state.as_ref()?.terminated.as_ref()?;
    let words = last.message.as_deref()?.trim();
    (last.exit_code != 0 && !words.is_empty()).then(|| words.to_owned())
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
