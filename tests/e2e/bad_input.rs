//! Bad input gets a message that names the field, and nothing is lost.

use anyhow::{Error, Result, bail, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use kube::api::{Patch, PatchParams};
use multimaster::names;
use serde_json::{Value, json};

use crate::support::ring::{Ring, spec};
use crate::support::world::{World, in_namespace};
use crate::support::{eventually, kube_context, kubectl, output, sql};

/// `kubectl apply`, as people do it; what it said when the API server refused.
async fn apply(world: &World, name: &str, spec: &Value) -> Result<Result<(), String>> {
    let manifest = json!({
        "apiVersion": "multimaster.dev/v1alpha1",
        "kind": "MultiMasterCluster",
        "metadata": {"name": name, "namespace": world.namespace},
        "spec": spec,
    });
    let context = kube_context()?;
    let arguments = ["--context", &context, "apply", "--validate=strict", "-f", "-"];
    let output = output("kubectl", &arguments, &manifest.to_string()).await?;
    let refused = || String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() {
        Ok(())
    } else {
        Err(refused())
    })
}

/// What the API server says, asked as `kubectl apply --server-side` asks. A process for each of many manifests would take longer than its answer.
async fn submit(ring: &Ring, spec: &Value) -> Result<Result<(), String>> {
    let manifest = json!({
        "apiVersion": "multimaster.dev/v1alpha1",
        "kind": "MultiMasterCluster",
        "metadata": {"name": ring.name},
        "spec": spec,
    });
    let parameters = PatchParams::apply("e2e").validation_strict();
    match ring.api().patch(&ring.name, &parameters, &Patch::Apply(manifest)).await {
        Ok(_) => Ok(Ok(())),
        Err(kube::Error::Api(refused)) => Ok(Err(refused.message)),
        Err(error) => Err(error.into()),
    }
}

fn is_refused(spec: &Value, said: Result<(), String>, words: &str) -> Result<()> {
    match said {
        Ok(()) => bail!("{spec} was accepted"),
        Err(said) => ensure!(said.contains(words), "{spec}: {said}"),
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn the_api_server_refuses() -> Result<()> {
    in_namespace("refused", |world| async move {
        let storage = json!({"size": "1Gi"});
        let demo = Ring {
            client: world.client.clone(),
            namespace: world.namespace.clone(),
            name: "demo".into(),
            members: 3,
        };
        for (spec, words) in [
            (
                json!({"members": 1, "storage": storage}),
                "spec.members: a ring has 2 to 9 members",
            ),
            (
                json!({"members": 10, "storage": storage}),
                "spec.members: a ring has 2 to 9 members",
            ),
            (json!({"members": 3}), "spec.storage"),
            (json!({"storage": storage, "membres": 3}), "spec.membres"),
            (
                json!({"storage": {"size": "1Gi", "colour": "red"}}),
                "spec.storage.colour",
            ),
            (json!({"storage": {"size": "abc"}}), "spec.storage.size: is not a size"),
            (json!({"storage": {"size": "0"}}), "spec.storage.size: is not a size"),
            (json!({"storage": {"size": "10m"}}), "spec.storage.size: is not a size"),
            (json!({"storage": {"size": "1Ei"}}), "spec.storage.size: is not a size"),
            (
                json!({"storage": storage, "replication": {"healing": "Hope"}}),
                "spec.replication.healing",
            ),
            (
                json!({"storage": storage, "replication": {"positioning": "FilePosition", "healing": "Bypass"}}),
                "spec.replication.healing: with positioning FilePosition only Wait is possible",
            ),
            (
                json!({"storage": storage, "failureDetection": {"periodSeconds": 3, "bypassAfterSeconds": 5}}),
                "spec.failureDetection.bypassAfterSeconds: at least two periods",
            ),
            (
                json!({"storage": storage, "failureDetection": {"periodSeconds": 0}}),
                "spec.failureDetection.periodSeconds: 1 to 10",
            ),
            (
                json!({"storage": storage, "isolation": {"policy": "Hope"}}),
                "spec.isolation.policy",
            ),
            (
                json!({"storage": storage, "isolation": {"policy": "Fence", "afterSeconds": 0}}),
                "spec.isolation.afterSeconds: 1 to 3600",
            ),
            (
                json!({"storage": storage, "isolation": {"afterSeconds": 3601}}),
                "spec.isolation.afterSeconds: 1 to 3600",
            ),
            (
                json!({"storage": storage, "isolation": {"leaseSeconds": 1}}),
                "spec.isolation.leaseSeconds: 2 to 60",
            ),
            (
                json!({"storage": storage, "writes": "SingleWriter", "isolation": {"leaseSeconds": 3}, "failureDetection": {"periodSeconds": 2, "bypassAfterSeconds": 6}}),
                "spec.isolation.leaseSeconds: at least two of spec.failureDetection.periodSeconds",
            ),
            (json!({"storage": storage, "writes": "OneMember"}), "spec.writes"),
            (json!({"storage": storage, "maxLagSeconds": 0}), "spec.maxLagSeconds: 1 to 86400"),
            (
                json!({"storage": storage, "isolation": {"after": "10s"}}),
                "spec.isolation.after",
            ),
            (
                json!({"storage": storage, "isolation": {"afterSeconds": 2}, "failureDetection": {"periodSeconds": 3, "bypassAfterSeconds": 6}}),
                "spec.isolation.afterSeconds: at least spec.failureDetection.periodSeconds",
            ),
            (
                json!({"storage": storage, "comparison": {"periodHours": 8761}}),
                "spec.comparison.periodHours: 0 to 8760",
            ),
            (
                json!({"storage": storage, "conflicts": {"policy": "Prefer"}}),
                "spec.conflicts.prefer: policy Prefer needs",
            ),
            (
                json!({"storage": storage, "conflicts": {"policy": "Prefer", "prefer": [0, 3]}}),
                "spec.conflicts.prefer: names a member that is not there",
            ),
            (
                json!({"storage": storage, "conflicts": {"policy": "Prefer", "prefer": [1, 1]}}),
                "spec.conflicts.prefer: names a member twice",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "members": [{"ordinal": 3, "weight": 50}]}}),
                "spec.balancer.members: names a member that is not there",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "members": [{"ordinal": 1}, {"ordinal": 1}]}}),
                "spec.balancer.members: names a member twice",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "members": [{"ordinal": 1, "weight": 0}]}}),
                "spec.balancer.members.weight: 1 to 100",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "image": ""}}),
                "spec.balancer.image: is empty",
            ),
            (json!({"storage": storage, "image": ""}), "spec.image: is empty"),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "maxConnections": 0}}),
                "spec.balancer.maxConnections: 1 to 100000",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "replicas": 0}}),
                "spec.balancer.replicas: 1 to 5",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "checkMilliseconds": 0}}),
                "spec.balancer.checkMilliseconds: 200 to 10000",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "members": [{"ordinal": 1, "maxConnections": 0}]}}),
                "spec.balancer.members.maxConnections: 1 to 100000",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "timeouts": {"connectMilliseconds": 0}}}),
                "spec.balancer.timeouts.connectMilliseconds: 50 to 10000",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "timeouts": {"queueSeconds": 0}}}),
                "spec.balancer.timeouts.queueSeconds: 1 to 300",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "timeouts": {"idleSeconds": 0}}}),
                "spec.balancer.timeouts.idleSeconds: 1 to 604800",
            ),
            (
                json!({"storage": storage, "balancer": {"type": "HAProxy", "affinity": "ClientIP"}}),
                "spec.balancer.affinity: only with type Service",
            ),
            (
                json!({"storage": storage, "balancer": {"sticky": true}}),
                "are settings of HAProxy; set spec.balancer.type to HAProxy",
            ),
            (
                json!({"storage": storage, "database": {"name": "mysql", "user": "a"}}),
                "spec.database.name",
            ),
            (
                json!({"storage": storage, "database": {"name": "a", "user": "root"}}),
                "spec.database.user",
            ),
        ] {
            is_refused(&spec, submit(&demo, &spec).await?, words)?;
        }
        let spec = json!({"storage": storage});
        let said = apply(&world, &"x".repeat(41), &spec).await?;
        is_refused(&spec, said, "metadata.name")?;

        // What cannot change on a living cluster. It is paused: what the API server says does not depend on members.
        let living = json!({"members": 3, "storage": {"size": "2Gi", "storageClassName": "standard"}, "database": {"name": "shop", "user": "shop"}, "paused": true});
        apply(&world, "demo", &living).await?.map_err(Error::msg)?;
        let with = |path: &str, value: Value| {
            let mut changed = living.clone();
            if let Some(field) = changed.pointer_mut(path) {
                *field = value;
            }
            changed
        };
        for (changed, words) in [
            (with("/members", json!(1)), "spec.members: a ring has 2 to 9 members"),
            (
                with("/storage/storageClassName", json!("fast")),
                "spec.storage.storageClassName: cannot be changed",
            ),
            (
                with("/storage", json!({"size": "2Gi"})),
                "spec.storage.storageClassName: cannot be changed",
            ),
            (with("/storage/size", json!("abc")), "spec.storage.size: is not a size"),
            (
                with("/database/user", json!("other")),
                "spec.database: cannot be changed",
            ),
        ] {
            is_refused(&changed, apply(&world, "demo", &changed).await?, words)?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn settings_that_the_ring_owns() -> Result<()> {
    in_namespace("owned", |world| async move {
        let config = |key: &str| spec(2, json!({"mysql": {"config": {key: "1"}}}));
        let ring = Ring::apply(&world, "demo", config("server_id")).await?;
        for key in [
            "server_id",
            "server-id",
            "SERVER_ID",
            "loose_server_id",
            "loose-Server-Id",
            "gtid_mode",
            "gtid-mode",
            "log_bin",
            "skip-log-bin",
            "auto_increment_increment",
            "auto-increment-offset",
            "super_read_only",
            "read-only",
            "enforce_gtid_consistency",
            "log_replica_updates",
        ] {
            Ring::apply(&world, "demo", config(key)).await?;
            ring.wait_refused("InvalidSpec", &["spec.mysql.config", key]).await?;
        }
        let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.namespace);
        ensure!(
            sets.get_opt("demo").await?.is_none(),
            "objects were made of a spec that is invalid"
        );
        // A podTemplate that takes away what the agent needs.
        let container = json!({"name": "mysql", "command": ["sleep", "1"]});
        let template = json!({"podTemplate": {"spec": {"containers": [container]}}});
        Ring::apply(&world, "pods", spec(2, template))
            .await?
            .wait_refused("InvalidSpec", &["spec.podTemplate"])
            .await?;
        // The spec is put right: the same resource becomes a ring.
        Ring::apply(&world, "demo", config("max_connect_errors")).await?;
        ring.wait_ready().await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: hack/test.sh"]
async fn what_the_cluster_does_not_have() -> Result<()> {
    in_namespace("missing", |world| async move {
        let class = json!({"storage": {"size": "1Gi", "storageClassName": "no-such-class"}});
        let class = Ring::apply(&world, "class", spec(2, class)).await?;
        class
            .wait_refused(
                "StorageClassMissing",
                &["spec.storage.storageClassName", "no-such-class"],
            )
            .await?;

        let secret = secret_without(&world, "secret", names::keys::AGENT_TOKEN).await?;
        let incomplete = Ring::apply(&world, "secret", spec(2, json!({}))).await?;
        incomplete
            .wait_refused("CredentialsIncomplete", &[&secret, names::keys::AGENT_TOKEN])
            .await?;

        let image = json!({"image": "no-such-image:of-mysql"});
        let image = Ring::apply(&world, "image", spec(2, image)).await?;
        image
            .wait_refused("ImageUnavailable", &["spec.image", "no-such-image:of-mysql"])
            .await?;

        let option = json!({"mysql": {"config": {"no_such_option": "1"}}});
        let option = Ring::apply(&world, "option", spec(2, option)).await?;
        option
            .wait_refused("MysqldNotStarting", &["unknown variable 'no_such_option=1'"])
            .await?;

        // Each is cured by doing what its message says.
        let key = json!({"stringData": {names::keys::AGENT_TOKEN: "a token of my own"}}).to_string();
        kubectl(&[
            "patch",
            "secret",
            &secret,
            "-n",
            &world.namespace,
            "--type=merge",
            "-p",
            &key,
        ])
        .await?;
        image.patch(json!({"spec": {"image": null}})).await?;
        option
            .patch(json!({"spec": {"mysql": {"config": {"no_such_option": null}}}}))
            .await?;
        tokio::try_join!(incomplete.wait_ready(), image.wait_ready(), option.wait_ready())?;

        // The class of these volumes lets none grow. Everything else goes on, and the size can be set back.
        let size = |size: &str| json!({"spec": {"storage": {"size": size}}});
        option.patch(size("2Gi")).await?;
        option
            .wait_refused("VolumeSizeRefused", &["spec.storage.size", "Set it back to 1Gi"])
            .await?;
        option
            .patch(json!({"spec": {"mysql": {"config": {"max_connect_errors": "77"}}}}))
            .await?;
        eventually("the members have the new setting", || async {
            let errors: u32 = sql::value(&mut option.root(1).await?, "SELECT @@GLOBAL.max_connect_errors").await?;
            ensure!(errors == 77, "{errors}");
            Ok(())
        })
        .await?;
        option.patch(size("1Gi")).await?;
        option.wait_ready().await?;
        ensure!(
            incomplete.password(names::keys::ROOT).await? == "chosen",
            "the Secret was written over"
        );
        incomplete.root(0).await.map(drop)
    })
    .await
}

/// Makes the credentials of a cluster beforehand, without one key; the name of the Secret.
async fn secret_without(world: &World, cluster: &str, key: &str) -> Result<String> {
    let name = names::credentials_secret(cluster);
    let mut arguments = vec!["create".into(), "secret".into(), "generic".into(), name.clone()];
    arguments.extend(["-n".into(), world.namespace.clone()]);
    let keys = names::keys::ALL.into_iter().filter(|other| *other != key);
    arguments.extend(keys.map(|key| format!("--from-literal={key}=chosen")));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    kubectl(&arguments).await?;
    Ok(name)
}
