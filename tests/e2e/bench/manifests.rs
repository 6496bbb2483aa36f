//! Pods of the benchmark, without the operator.

use multimaster::names;
use serde_json::{Value, json};

/// What hand-made servers and the ring have in common, beside MySQL's own defaults: small enough for three and three on one machine.
pub const BUFFER_POOL: &str = "32M";
/// Clients that PEN serves at the same time. It is PEN's own default, and HAProxy's in a ring.
const PEN_CLIENTS: &str = "500";

/// Names of the images.
pub struct Images {
    pub mysql: String,
    pub bench: String,
    pub applications: String,
}

/// The pod starts mysqld as an administrator would: binary log, GTIDs, and keys that do not meet those of the other master.
/// tini, because a signal 9 does not reach process 1. What mysqld is at the first start it is at every other.
const MYSQLD: &str = r#"
set -eu
number=$((${HOSTNAME##*-} + 1)) data=/var/lib/mysql/data
if [ ! -d $data ]; then
    rm -rf $data.new
    mysqld --no-defaults --initialize-insecure --skip-log-bin --datadir=$data.new
    mv $data.new $data
fi
cat >/tmp/init.sql <<END
SET sql_log_bin = 0;
CREATE USER IF NOT EXISTS root@'%' IDENTIFIED BY '$ROOT_PASSWORD';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS replication@'%' IDENTIFIED BY '$ROOT_PASSWORD';
GRANT REPLICATION SLAVE ON *.* TO replication@'%';
END
exec tini -- mysqld --no-defaults --datadir=$data --socket=/tmp/mysql.sock --init-file=/tmp/init.sql --mysqlx=OFF --skip-name-resolve \
    --server-id=$number --gtid-mode=ON --enforce-gtid-consistency=ON --innodb-buffer-pool-size=$BUFFER_POOL \
    --auto-increment-increment=$MASTERS --auto-increment-offset=$number
"#;

/// Servers made by hand: pods with volumes, each with an address that stays, as a host of its own would have. Not on the node `not_on`.
pub fn servers(name: &str, count: u8, image: &str, password: &str, not_on: &str) -> Vec<Value> {
    let labels = json!({"app": name});
    let set = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": count,
            "serviceName": name,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "enableServiceLinks": false,
                    "automountServiceAccountToken": false,
                    "securityContext": {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999},
                    "affinity": {
                        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [
                            {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [not_on]}]}]}},
                        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}]},
                    },
                    "containers": [{
                        "name": names::MYSQL_CONTAINER,
                        "image": image,
                        "command": ["bash", "-c", MYSQLD],
                        "env": [
                            {"name": "ROOT_PASSWORD", "value": password},
                            {"name": "BUFFER_POOL", "value": BUFFER_POOL},
                            {"name": "MASTERS", "value": count.to_string()},
                        ],
                        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/mysql"}],
                    }],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    });
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names::credentials_secret(name)},
        "stringData": {names::keys::ROOT: password, names::keys::APP: password},
    });
    let services = (0..count).map(|ordinal| {
        let pod = names::member(name, ordinal);
        service(&pod, json!({"statefulset.kubernetes.io/pod-name": pod}))
    });
    [secret, set].into_iter().chain(services).collect()
}

/// An address for MySQL that stays, also while what it leads to is not ready.
fn service(name: &str, selector: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "publishNotReadyAddresses": true, "ports": [{"port": 3306}]},
    })
}

/// A pod without rights on a given node.
fn pod(name: &str, node: &str, container: Value, volumes: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": volumes,
        },
    })
}

/// The pod in which httperf, sysbench and gnuplot are run.
pub fn tools(image: &str, node: &str) -> Value {
    let container = json!({"name": "tools", "image": image, "command": ["tini", "--", "sleep", "infinity"]});
    pod("tools", node, container, json!([]))
}

/// PEN before these servers: in turns (-r), in the foreground (-f), with a log of who was served by whom (-l). A server that does not
/// take a connection within 5 s is left alone for 30 s: both are PEN's defaults. With epoll, another default, 0.34.1 does not go on to the
/// next server when the network says that the first one is unreachable, and takes nothing any more after a hundred times: so poll (-P).
pub fn pen(image: &str, node: &str, servers: &[String]) -> Vec<Value> {
    let mut command = vec!["pen", "-f", "-r", "-P", "-x", PEN_CLIENTS, "-l", "/tmp/pen.log", "3306"];
    let servers: Vec<String> = servers.iter().map(|server| format!("{server}:3306")).collect();
    command.extend(servers.iter().map(String::as_str));
    let container = json!({"name": "pen", "image": image, "command": command});
    vec![
        pod("pen", node, container, json!([])),
        service("pen", json!({"app": "pen"})),
    ]
}

/// The shop of the examples, and what makes its table.
pub fn shop() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "shop"},
        "data": {
            "index.php": include_str!("../../../examples/shop/index.php"),
            "schema.php": include_str!("../../../examples/shop/schema.php"),
        },
    })
}

/// The shop on a database at this host.
pub fn web(name: &str, image: &str, node: &str, host: &str, password: &str) -> Value {
    let container = json!({
        "name": "web",
        "image": image,
        "env": [
            {"name": "DOCUMENT_ROOT", "value": "/srv/shop"},
            {"name": "DB_HOST", "value": host},
            {"name": "DB_PASSWORD", "value": password},
            {"name": "DB_PERSISTENT", "value": "no"},
        ],
        "volumeMounts": [{"name": "shop", "mountPath": "/srv/shop"}],
    });
    pod(
        name,
        node,
        container,
        json!([{"name": "shop", "configMap": {"name": "shop"}}]),
    )
}
