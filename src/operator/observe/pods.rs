//! Reads a pod object.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as KubePod};

use crate::api::reasons::Reason;
use crate::decide::observed::{Pod, Problem};
use crate::decide::report::fitted::fitted;
use crate::decide::report::unexplained::MOST_SHOWN;
use crate::names;

/// The most bytes that are shown of what a container said at its end.
const MOST_WORDS: usize = 200;

/// A container that was started again counts as steady after this. The kubelet waits at most five minutes before it starts one again.
const STEADY: SignedDuration = SignedDuration::from_mins(5);

/// The state of a pod whose main container has this name.
pub(crate) fn pod(pod: &KubePod, main: &str, now: Timestamp) -> Pod {
    let is_beside = |container: &&ContainerStatus| container.name != main;
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let init = status.init_container_statuses.unwrap_or_default();
    let sidecars = sidecars(pod);
    let is_sidecar = |container: &&ContainerStatus| sidecars.contains(&container.name.as_str());
    let beside = containers
        .iter()
        .filter(is_beside)
        .chain(init.iter().filter(is_sidecar));
    let restarted = beside.into_iter().find(|container| was_restarted(container, now));
    let restarted = restarted.map(|container| container.name.clone());
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
    // Another container keeps the pod from being Ready, not mysqld from running.
    let container_problem = init
        .iter()
        .filter(|container| !is_sidecar(container))
        .chain(main)
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
        hindrance: hindrance(pod),
        restarted,
        running,
        terminating: pod.metadata.deletion_timestamp.is_some(),
        serving: has(names::LABEL_SERVING),
        reads: has(names::LABEL_READS),
        revision: labels.get("controller-revision-hash").cloned(),
        problem: container_problem.or(unscheduled_problem),
        last_words: main.and_then(last_words),
    }
}

/// Init containers that run beside the others as long as the pod does.
fn sidecars(pod: &KubePod) -> Vec<&str> {
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    init.filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect()
}

/// One that ended without an error does so by design. The kubelet's pause counts from the end, and may be as long: the time counts from the start.
fn was_restarted(container: &ContainerStatus, now: Timestamp) -> bool {
    let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let failed = last.filter(|last| last.exit_code != 0);
    let running = container.state.as_ref().and_then(|state| state.running.as_ref());
    let started = running.and_then(|running| running.started_at.as_ref());
    let since = failed.map(|failed| started.max(failed.finished_at.as_ref()));
    since
        .flatten()
        .is_some_and(|since| now.duration_since(since.0) < STEADY)
}

/// What keeps a pod that is not Ready from being so, as Kubernetes says.
fn hindrance(pod: &KubePod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let is_true = |type_: &str| {
        let mut conditions = conditions.iter();
        conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if is_true("Ready") {
        return None;
    }
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let containers = lists.into_iter().flatten().flatten();
    let unready = containers.filter(|container| !container.ready).map(unready);
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let closed = gates
        .filter(|gate| !is_true(&gate.condition_type))
        .map(|gate| format!("readiness gate {} is not True", gate.condition_type));
    let parts: Vec<String> = unready.chain(closed).collect();
    if !parts.is_empty() {
        return Some(fitted(parts.join(", "), MOST_SHOWN));
    }
    // All of it was well when the kubelet last said something.
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    let said = [&ready.reason, &ready.message].map(|text| text.clone().unwrap_or_default());
    let said = said.join(": ");
    let said = said.trim_matches([':', ' ']);
    (!said.is_empty()).then(|| fitted(said.into(), MOST_SHOWN))
}

/// `container exporter waits (CrashLoopBackOff): no password`.
fn unready(container: &ContainerStatus) -> String {
    let name = &container.name;
    let words = |more: Option<String>| {
        let words = last_words(container).or(more);
        words.map_or_else(String::new, |words| {
            format!(": {}", fitted(words.trim().to_owned(), MOST_WORDS))
        })
    };
    let state = container.state.clone().unwrap_or_default();
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_else(|| "no reason is given".into());
        // Of a back-off it says how long it takes, and the name once more.
        let message = waiting.message.filter(|_| reason != "CrashLoopBackOff");
        return format!("container {name} waits ({reason}){}", words(message));
    }
    match state.terminated {
        Some(ended) => {
            let reason = ended.reason.unwrap_or_else(|| "no reason is given".into());
            let code = ended.exit_code;
            format!(
                "container {name} has ended with {code} ({reason}){}",
                words(ended.message)
            )
        }
        None => format!("container {name} is not ready"),
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
                names::AGENT_INIT_CONTAINER => "the operator's own image",
                _ => "spec.podTemplate",
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

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn read(container: &str, last: &serde_json::Value) -> Pod {
        let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
        let status = json!({"name": container, "image": "x", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": {"terminated": last}});
        let live = json!({"metadata": {"name": "demo-0"}, "spec": {"nodeName": "a", "containers": []},
            "status": {"containerStatuses": [status]}});
        pod(&serde_json::from_value(live).unwrap(), container, NOW)
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

    /// A pod whose main container is ready, with one more container, in this state.
    fn beside(container: &serde_json::Value) -> serde_json::Value {
        let mut exporter = json!({"name": "exporter", "image": "x", "imageID": "", "ready": false, "restartCount": 0});
        let more = container.as_object().unwrap().clone();
        exporter.as_object_mut().unwrap().extend(more);
        let mysql = json!({"name": names::MYSQL_CONTAINER, "image": "m", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {}}});
        json!({"metadata": {"name": "demo-0"}, "spec": {"nodeName": "a", "containers": []}, "status": {
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
            "containerStatuses": [mysql, exporter]}})
    }

    fn seen(live: serde_json::Value) -> Pod {
        pod(&serde_json::from_value(live).unwrap(), names::MYSQL_CONTAINER, NOW)
    }

    #[test]
    fn what_keeps_a_pod_from_being_ready_is_named() {
        for (container, expected) in [
            (json!({"state": {"running": {}}}), "container exporter is not ready"),
            (
                json!({"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                    "lastState": {"terminated": {"exitCode": 1, "message": "no password\n"}}}),
                "container exporter waits (CrashLoopBackOff): no password",
            ),
            (
                json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}}}),
                "container exporter waits (ImagePullBackOff): Back-off pulling image \"x\"",
            ),
            (
                json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
                "container exporter has ended with 137 (OOMKilled)",
            ),
        ] {
            let pod = seen(beside(&container));
            assert_eq!(pod.hindrance.as_deref(), Some(expected));
            assert!(!pod.ready && pod.running && pod.problem.is_none(), "{pod:?}");
        }
        let killed = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
        let hindrance = seen(beside(&killed)).hindrance.unwrap();
        assert!(
            hindrance.contains("exporter") && hindrance.contains("OOMKilled"),
            "{hindrance}"
        );
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_told_with_its_field() {
        for (container, field) in [
            (names::AGENT_INIT_CONTAINER, "the operator's own image"),
            ("migration", "spec.podTemplate"),
        ] {
            let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}});
            let init = json!({"name": container, "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state});
            let live = json!({"metadata": {"name": "demo-0"}, "spec": {"containers": []}, "status": {"initContainerStatuses": [init]}});
            let problem = seen(live).problem.unwrap();
            assert_eq!(problem.message, format!("{field}: demo-0 cannot pull x: not found"));
        }
    }

    #[test]
    fn readiness_gates_and_the_node_are_named_and_a_ready_pod_has_nothing() {
        let mut live = beside(&json!({"ready": true, "state": {"running": {}}}));
        live["spec"]["readinessGates"] = json!([{"conditionType": "example.com/in-service"}]);
        let hindrance = seen(live.clone()).hindrance;
        assert_eq!(
            hindrance.as_deref(),
            Some("readiness gate example.com/in-service is not True")
        );
        live["status"]["conditions"] = json!([
            {"type": "example.com/in-service", "status": "True"},
            {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "no status"},
        ]);
        let hindrance = seen(live.clone()).hindrance;
        assert_eq!(hindrance.as_deref(), Some("NodeStatusUnknown: no status"));
        live["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        let pod = seen(live);
        assert!(pod.ready && pod.hindrance.is_none());
    }

    /// Without a readiness probe a container is ready whenever it runs.
    #[test]
    fn a_container_that_ends_again_and_again_is_named_while_it_runs() {
        let ended = |seconds_ago: i64| json!({"terminated": {"exitCode": 1, "finishedAt": (NOW - SignedDuration::from_secs(seconds_ago)).to_string()}});
        let restarted = |live| seen(live).restarted;
        let running =
            |last: &serde_json::Value| beside(&json!({"ready": true, "state": {"running": {}}, "lastState": last}));
        assert_eq!(restarted(running(&ended(299))).as_deref(), Some("exporter"));
        assert_eq!(restarted(running(&ended(300))), None);
        assert_eq!(restarted(running(&json!({}))), None);
        // The kubelet waited for five minutes before it started it again.
        let mut live = running(&ended(310));
        live["status"]["containerStatuses"][1]["state"] =
            json!({"running": {"startedAt": (NOW - SignedDuration::from_secs(10)).to_string()}});
        assert_eq!(restarted(live.clone()).as_deref(), Some("exporter"));
        // It does its work from time to time, and ends.
        live["status"]["containerStatuses"][1]["lastState"]["terminated"]["exitCode"] = json!(0);
        assert_eq!(restarted(live), None);
        // The agent tells of mysqld's ends itself.
        let mut live = running(&json!({}));
        live["status"]["containerStatuses"][0]["lastState"] = ended(1);
        assert_eq!(restarted(live), None);
        // An init container may have needed two attempts. One that stays is a sidecar, and does not keep mysqld from running.
        for (policy, expected) in [(json!(null), None), (json!("Always"), Some("proxy"))] {
            let mut live = running(&json!({}));
            live["spec"]["initContainers"] = json!([{"name": "proxy", "restartPolicy": policy}]);
            live["status"]["initContainerStatuses"] = json!([{"name": "proxy", "image": "x", "imageID": "", "ready": false, "restartCount": 1,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(1)}]);
            let pod = seen(live);
            assert_eq!(pod.restarted.as_deref(), expected);
            assert_eq!(pod.problem.is_some(), expected.is_none(), "{:?}", pod.problem);
        }
    }

    #[test]
    fn what_containers_say_has_a_limit() {
        let words = "é".repeat(2000);
        let state = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let live = beside(&json!({"state": state, "lastState": {"terminated": {"exitCode": 1, "message": words}}}));
        assert!(seen(live).hindrance.unwrap().len() < 300);
        let containers: Vec<serde_json::Value> = (0..100)
            .map(|number| {
                json!({"name": format!("c-{number}"), "image": "x",
            "imageID": "", "ready": false, "restartCount": 0})
            })
            .collect();
        let mut live = beside(&json!({}));
        live["status"]["containerStatuses"] = json!(containers);
        assert_eq!(seen(live).hindrance.unwrap().len(), MOST_SHOWN);
    }
}
