//! What Kubernetes says of a pod.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as KubePod};

use crate::api::status::reasons;
use crate::decide::observed::{Pod, Problem};
use crate::names;

/// What Kubernetes says of a pod whose main container has this name.
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
        reason: reasons::MEMBERS_ABSENT,
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

/// What the agent said when the container last ended by a failure.
fn last_words(container: &ContainerStatus) -> Option<String> {
    let last = container.last_state.as_ref()?.terminated.as_ref()?;
    let words = last.message.as_deref()?.trim();
    (last.exit_code != 0 && !words.is_empty()).then(|| words.to_owned())
}

/// What Kubernetes, or the agent's last words, say about a container that does not run.
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
                reason: reasons::IMAGE_UNAVAILABLE,
                message,
            })
        }
        "CrashLoopBackOff" | "RunContainerError" | "CreateContainerError" | "StartError" => {
            let words = last_words(container);
            let words = words.or_else(|| waiting.message.clone()).unwrap_or(reason);
            Some(Problem {
                reason: reasons::MYSQLD_NOT_STARTING,
                message: format!("{pod} does not start: {}", words.trim()),
            })
        }
        _ => None,
    }
}
