//! A namespace for each test, taken away afterwards, whatever happens.

use anyhow::{Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use multimaster::names;

use super::times::timed;
use super::{eventually, kube_context, kubectl, operator, uncordon};

/// A whole test as one step. hack/test.sh lists these apart from the others.
const WHOLE: &str = "whole test";

/// What a test works in.
#[derive(Clone)]
pub struct World {
    pub client: Client,
    pub namespace: String,
}

impl World {
    async fn new(test: &str) -> Result<Self> {
        let options = KubeConfigOptions {
            context: Some(kube_context()?),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(Kubeconfig::read()?, &options).await?;
        let world = Self {
            client: Client::try_from(config)?,
            namespace: format!("e2e-{test}-{:08x}", getrandom::u32()?),
        };
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(world.namespace.clone());
        let api: Api<Namespace> = Api::all(world.client.clone());
        api.create(&PostParams::default(), &namespace).await?;
        Ok(world)
    }

    async fn show(&self) {
        let objects = "mmc,pods,pvc,svc,events";
        for arguments in [
            ["get", objects, "-n", &self.namespace, "-o", "wide"],
            ["get", "mmc", "-n", &self.namespace, "-o", "yaml"],
        ] {
            eprintln!(
                "{}",
                kubectl(&arguments).await.unwrap_or_else(|error| format!("{error:#}"))
            );
        }
        eprintln!(
            "{}",
            operator::logs().await.unwrap_or_else(|error| format!("{error:#}"))
        );
    }

    /// Its servers need not end in peace: the next test has better use for the processor. The resources go first: once a namespace has pods that
    /// end, Kubernetes looks at everything else in it only after half of their grace period, and the operator would go on with the rings.
    pub async fn remove(&self) -> Result<()> {
        kubectl(&["delete", "mmc", "--all", "-n", &self.namespace, "--wait=false"]).await?;
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]).await?;
        let pods = [
            "delete",
            "pods",
            "--all",
            "-n",
            &self.namespace,
            "--grace-period=1",
            "--wait=false",
        ];
        kubectl(&pods).await.map(drop)
    }
}

/// Runs a test in a namespace of its own. When it fails, shows what is in there.
///
/// # Errors
/// The test's.
pub async fn in_namespace<F>(test: &str, body: impl FnOnce(World) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let whole = async {
        let world = World::new(test).await?;
        let result = tokio::spawn(body(world.clone())).await;
        let result = result.unwrap_or_else(|panic| Err(anyhow!("{panic}")));
        if let Err(error) = &result {
            eprintln!("{test} FAILED: {error:#}");
            world.show().await;
        }
        if result.is_ok() || std::env::var_os("KEEP").is_none() {
            world.remove().await?;
        }
        result
    };
    timed(WHOLE, whole).await
}

/// Waits until what earlier tests have left to die is gone: it must not be taken for this test's doing.
pub async fn quiet() -> Result<()> {
    eventually("nothing else is going on", || async {
        if std::env::var_os("KEEP").is_some() {
            return Ok(());
        }
        let rings = kubectl(&["get", "mmc", "--all-namespaces", "-o", "name"]).await?;
        ensure!(rings.is_empty(), "{rings}");
        let pods = format!("--selector={}", names::LABEL_CLUSTER);
        let pods = kubectl(&["get", "pods", "--all-namespaces", &pods, "-o", "name"]).await?;
        ensure!(pods.is_empty(), "{pods}");
        Ok(())
    })
    .await
}

/// The same for a test that disturbs nodes or the operator: it has the cluster to itself, and afterwards both are as they were.
///
/// # Errors
/// The test's.
pub async fn alone<F>(test: &str, body: impl FnOnce(World) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let result = in_namespace(test, body).await;
    let restored = async {
        uncordon().await?;
        operator::scale(2).await?;
        nodes_take_pods().await
    };
    let restored = restored.await;
    result.and(restored)
}

/// A node that was away is Ready before its taint is gone, and until then the next test's members would share the others.
async fn nodes_take_pods() -> Result<()> {
    eventually("all nodes take pods", || async {
        let workers = "--selector=!node-role.kubernetes.io/control-plane";
        let taints = "jsonpath={.items[*].spec.taints[*].key}";
        let taints = kubectl(&["get", "nodes", workers, "-o", taints]).await?;
        ensure!(taints.is_empty(), "{taints}");
        Ok(())
    })
    .await
}
