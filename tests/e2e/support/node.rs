//! A node of the cluster is a container of this host.

use anyhow::{Result, ensure};

use super::{docker, eventually, kube_context, kubectl, run};

/// A container may come back with another address: this host's routes to its pods must follow.
pub async fn follow(node: &str) -> Result<()> {
    eventually("the address of the restarted node", || async {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let container = docker(&["inspect", "-f", template, node]).await?;
        let path = r#"jsonpath={.status.addresses[?(@.type=="InternalIP")].address}"#;
        let known = kubectl(&["get", "node", node, "-o", path]).await?;
        ensure!(
            !known.is_empty() && known == container.trim(),
            "{container:?} is known as {known:?}"
        );
        Ok(())
    })
    .await?;
    let context = kube_context()?;
    let cluster = format!("CLUSTER={}", context.trim_start_matches("kind-"));
    run("env", &[&cluster, "hack/routes.sh"], "").await.map(drop)
}

/// A script as root on a node.
pub async fn shell(node: &str, script: &str) -> Result<String> {
    docker(&["exec", node, "bash", "-euc", script]).await
}
