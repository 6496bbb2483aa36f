//! One `MultiMasterCluster`: applied, waited for, connected to.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use multimaster::api::MultiMasterCluster;
use multimaster::api::status::MemberState;
use multimaster::names;
use mysql_async::Conn;
use serde_json::{Value, json};

use super::node::shell;
use super::world::World;
use super::{eventually, kubectl, sql};

/// The first database and its user in every ring of these tests.
pub const DATABASE: &str = "app";

#[derive(Clone)]
pub struct Ring {
    pub client: Client,
    pub namespace: String,
    pub name: String,
    pub members: u8,
}

/// A small spec with a first database, on which `more` is laid.
pub fn spec(members: u8, more: Value) -> Value {
    let mut spec = json!({
        "members": members,
        "storage": {"size": "1Gi"},
        "database": {"name": DATABASE, "user": DATABASE},
        "mysql": {"config": {"innodb_buffer_pool_size": "32M"}},
    });
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    spec
}

/// Whether it has the label that Services select by.
pub fn is_serving(pod: &Pod) -> bool {
    let label = pod.labels().get(names::LABEL_SERVING);
    label.is_some_and(|value| value == "true")
}

impl Ring {
    /// Applies a manifest.
    pub async fn apply(world: &World, name: &str, spec: Value) -> Result<Self> {
        let ring = Self {
            client: world.client.clone(),
            namespace: world.namespace.clone(),
            name: name.into(),
            members: spec.get("members").and_then(Value::as_u64).unwrap_or(3).try_into()?,
        };
        let manifest = json!({
            "apiVersion": "multimaster.dev/v1alpha1",
            "kind": "MultiMasterCluster",
            "metadata": {"name": name},
            "spec": spec,
        });
        let parameters = PatchParams::apply("e2e");
        ring.api().patch(name, &parameters, &Patch::Apply(manifest)).await?;
        Ok(ring)
    }

    /// Applies a manifest of [`spec`] and waits until it is Ready.
    pub async fn ready(world: &World, name: &str, members: u8, more: Value) -> Result<Self> {
        let ring = Self::apply(world, name, spec(members, more)).await?;
        ring.until_ready(&format!("{name} is founded with {members} members"))
            .await?;
        Ok(ring)
    }

    /// Two rings of three side by side, one for each positioning mode. Members may fail again and again: none is held out.
    pub async fn of_both_modes(world: &World) -> Result<[Self; 2]> {
        let mode = |positioning: &str| json!({"replication": {"positioning": positioning}, "failureDetection": {"holdOutSeconds": 0}});
        let (gtid, file) = tokio::try_join!(
            Self::ready(world, "gtid", 3, mode("Gtid")),
            Self::ready(world, "file", 3, mode("FilePosition")),
        )?;
        Ok([gtid, file])
    }

    pub fn api(&self) -> Api<MultiMasterCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn get(&self) -> Result<MultiMasterCluster> {
        Ok(self.api().get(&self.name).await?)
    }

    /// Merges a patch into the resource.
    pub async fn patch(&self, patch: Value) -> Result<()> {
        let parameters = PatchParams::default();
        self.api().patch(&self.name, &parameters, &Patch::Merge(patch)).await?;
        Ok(())
    }

    pub async fn delete(&self) -> Result<()> {
        self.api().delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// A condition that speaks of the present generation.
    pub async fn condition(&self, type_: &str) -> Result<Condition> {
        let cluster = self.get().await?;
        let status = cluster.status.context("no status")?;
        let found = status.conditions.into_iter().find(|condition| condition.type_ == type_);
        let condition = found.with_context(|| format!("no condition {type_}"))?;
        let generation = cluster.metadata.generation;
        ensure!(
            condition.observed_generation == generation,
            "{condition:?} is not of {generation:?}"
        );
        Ok(condition)
    }

    pub async fn wait_ready(&self) -> Result<()> {
        self.until_ready(&format!("{} is Ready", self.name)).await
    }

    async fn until_ready(&self, what: &str) -> Result<()> {
        eventually(what, || async {
            let ready = self.condition("Ready").await?;
            ensure!(ready.status == "True", "{ready:?}");
            Ok(())
        })
        .await
    }

    /// Waits until the operator has seen `spec.paused`.
    pub async fn wait_paused(&self) -> Result<()> {
        eventually(&format!("{} is paused", self.name), || async {
            let paused = self.condition("Paused").await?;
            ensure!(paused.status == "True", "{paused:?}");
            Ok(())
        })
        .await
    }

    /// Waits until these members form the closed ring.
    pub async fn wait_closed(&self, ring: &str) -> Result<()> {
        eventually(&format!("{} is closed: {ring}", self.name), || async {
            let status = self.get().await?.status.context("no status")?;
            ensure!(status.ring == ring, "{}", status.ring);
            let closed = self.condition("RingClosed").await?;
            ensure!(closed.status == "True", "{closed:?}");
            Ok(())
        })
        .await
    }

    /// Waits until Ready is False for this reason, with all these words in the message.
    pub async fn wait_refused(&self, reason: &str, words: &[&str]) -> Result<()> {
        eventually(&format!("{} is not Ready: {reason} {words:?}", self.name), || async {
            let ready = self.condition("Ready").await?;
            ensure!(ready.status == "False" && ready.reason == reason, "{ready:?}");
            ensure!(words.iter().all(|word| ready.message.contains(word)), "{ready:?}");
            Ok(())
        })
        .await
    }

    pub fn ordinals(&self) -> std::ops::Range<u8> {
        0..self.members
    }

    pub fn member(&self, ordinal: u8) -> String {
        names::member(&self.name, ordinal)
    }

    pub async fn pod(&self, ordinal: u8) -> Result<Pod> {
        Ok(self.pods().get(&self.member(ordinal)).await?)
    }

    pub async fn ip(&self, ordinal: u8) -> Result<String> {
        let pod = self.pod(ordinal).await?;
        pod.status
            .and_then(|status| status.pod_ip)
            .context("the pod has no address")
    }

    pub async fn node(&self, ordinal: u8) -> Result<String> {
        let pod = self.pod(ordinal).await?;
        pod.spec.and_then(|spec| spec.node_name).context("the pod has no node")
    }

    pub async fn serves(&self, ordinal: u8) -> Result<bool> {
        Ok(is_serving(&self.pod(ordinal).await?))
    }

    /// HAProxy's pods, without those that are being deleted.
    pub async fn balancers(&self) -> Result<Vec<Pod>> {
        let selector = format!(
            "{}={},app.kubernetes.io/component=balancer",
            names::LABEL_CLUSTER,
            self.name
        );
        let mut pods = self.pods().list(&ListParams::default().labels(&selector)).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(pods)
    }

    pub async fn state(&self, ordinal: u8) -> Result<MemberState> {
        let status = self.get().await?.status.context("no status")?;
        let name = self.member(ordinal);
        let member = status.member_statuses.into_iter().find(|member| member.name == name);
        Ok(member.context("not in status")?.state)
    }

    /// Deletes a pod, gracefully, and does not wait.
    pub async fn delete_pod(&self, ordinal: u8) -> Result<()> {
        self.pods()
            .delete(&self.member(ordinal), &DeleteParams::default())
            .await?;
        Ok(())
    }

    /// The pod is gone, its successor finds no node, and the others have closed the ring, until [`super::uncordon`].
    pub async fn away(&self, ordinal: u8) -> Result<()> {
        let before = self.pod(ordinal).await?.uid();
        kubectl(&["cordon", &self.node(ordinal).await?]).await?;
        self.delete_pod(ordinal).await?;
        // A mysqld that is still stopping uses its volume.
        eventually("its successor waits", || async {
            ensure!(self.pod(ordinal).await?.uid() != before, "the pod is still ending");
            Ok(())
        })
        .await?;
        let mut others: Vec<_> = self.ordinals().filter(|other| *other != ordinal).collect();
        others.extend(others.first().copied());
        let others: Vec<_> = others.iter().map(u8::to_string).collect();
        self.wait_closed(&others.join("→")).await
    }

    /// Removes all binary logs of a member but the one that it writes.
    pub async fn purge_binary_logs(&self, ordinal: u8) -> Result<()> {
        let mut root = self.root(ordinal).await?;
        sql::run(&mut root, "FLUSH BINARY LOGS").await?;
        eventually("the binary logs are purged", || async {
            let mut root = self.root(ordinal).await?;
            let last = sql::column(&mut root, "SHOW BINARY LOG STATUS", "File").await?;
            sql::run(&mut root, &format!("PURGE BINARY LOGS TO '{last}'")).await?;
            let logs: Vec<(String, u64, String)> = sql::rows(&mut root, "SHOW BINARY LOGS").await?;
            ensure!(logs.len() == 1, "{logs:?}");
            Ok(())
        })
        .await
    }

    pub async fn server_uuid(&self, ordinal: u8) -> Result<String> {
        sql::value(&mut self.root(ordinal).await?, "SELECT @@GLOBAL.server_uuid").await
    }

    /// Ends mysqld as a crash would: what it had not written is lost. Process 1 is the agent, mysqld its child.
    pub async fn kill_mysqld(&self, ordinal: u8) -> Result<()> {
        self.signal_mysqld(ordinal, "9").await
    }

    pub async fn signal_mysqld(&self, ordinal: u8, signal: &str) -> Result<()> {
        let script = format!(
            r#"for p in /proc/[0-9]*; do
                read -r name <"$p/comm" && [ "$name" = mysqld ] && kill -{signal} "${{p#/proc/}}" && echo sent
            done 2>/dev/null; true"#
        );
        let (namespace, pod) = (&self.namespace, &self.member(ordinal));
        let said = kubectl(&["exec", "-n", namespace, pod, "-c", "mysql", "--", "bash", "-c", &script]).await?;
        ensure!(said.contains("sent"), "no mysqld in {pod}: {said}");
        Ok(())
    }

    /// Signals all processes of a pod, its agent among them: process 1 of a container takes no such signal from inside.
    pub async fn signal_pod(&self, ordinal: u8, signal: &str) -> Result<()> {
        let uid = self.pod(ordinal).await?.metadata.uid.context("no UID")?;
        let script = format!(
            r#"for p in /proc/[0-9]*; do
                tr _ - <"$p/cgroup" | grep -q {uid} && read -r name <"$p/comm" && [ "$name" != pause ] && kill -{signal} "${{p#/proc/}}" && echo "$name"
            done 2>/dev/null; true"#
        );
        let said = shell(&self.node(ordinal).await?, &script).await?;
        ensure!(said.contains("mysqld") && said.contains("multimaster"), "{uid}: {said}");
        Ok(())
    }

    pub async fn password(&self, key: &str) -> Result<String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let secret = api.get(&names::credentials_secret(&self.name)).await?;
        let value = secret
            .data
            .unwrap_or_default()
            .remove(key)
            .with_context(|| format!("no {key}"))?;
        Ok(String::from_utf8(value.0)?)
    }

    /// The one address that applications use.
    pub async fn service_ip(&self) -> Result<String> {
        self.address_of(&self.name).await
    }

    /// The address that they read at.
    pub async fn reads_ip(&self) -> Result<String> {
        self.address_of(&names::reads_service(&self.name)).await
    }

    async fn address_of(&self, service: &str) -> Result<String> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let ip = api.get(service).await?.spec.and_then(|spec| spec.cluster_ip);
        match ip {
            Some(ip) if ip != "None" => Ok(ip),
            other => bail!("the Service's address is {other:?}"),
        }
    }

    /// Whether the member that answers sees a pod of HAProxy as its client.
    pub async fn is_through_haproxy(&self, conn: &mut Conn) -> Result<bool> {
        let client = sql::client(conn).await?;
        let selector = "app.kubernetes.io/component=balancer";
        let path = "jsonpath={.items[*].status.podIP}";
        let pods = kubectl(&["get", "pods", "-n", &self.namespace, "-l", selector, "-o", path]).await?;
        Ok(pods.split_whitespace().any(|ip| ip == client))
    }

    /// As root, at a member.
    pub async fn root(&self, ordinal: u8) -> Result<Conn> {
        let (ip, password) = (self.ip(ordinal).await?, self.password(names::keys::ROOT).await?);
        let conn = sql::connect(&ip, names::accounts::ROOT, &password).await;
        conn.with_context(|| format!("root at {}", self.member(ordinal)))
    }

    pub async fn roots(&self) -> Result<Vec<Conn>> {
        try_join_all(self.ordinals().map(|ordinal| self.root(ordinal))).await
    }

    /// As the application's user, at any address.
    pub async fn app(&self, ip: &str) -> Result<Conn> {
        let password = self.password(names::keys::APP).await?;
        Ok(sql::connect(ip, DATABASE, &password).await?)
    }

    /// The members that many new connections to this address lead to. Each of them must come about.
    pub async fn reached(&self, ip: &str) -> Result<BTreeSet<String>> {
        let mut reached = BTreeSet::new();
        for _ in 0..15 {
            reached.insert(sql::value(&mut self.app(ip).await?, "SELECT @@hostname").await?);
        }
        Ok(reached)
    }
}
