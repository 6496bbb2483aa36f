//! An API server with its etcd, and operators, as child processes on a loopback address of their own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, Config};
use rcgen::{KeyPair, SanType};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::certificates::certify;

const PATIENCE: Duration = Duration::from_secs(300);
const ADMIN: &str = "the-token-of-the-administrator";
const OPERATOR: &str = "the-token-of-the-operator";

/// Waits until a condition holds; says which one did not.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "not seen within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A child process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, and is waited for in any case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An API server that has the CRD and the operator's rights.
pub struct ApiServer {
    root: PathBuf,
    address: String,
    /// May do everything.
    pub client: Client,
    processes: [Process; 2],
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

impl ApiServer {
    /// `None`, and a word about it, where there are no programs to test with.
    pub async fn start(number: u8) -> Option<Self> {
        let (Some(kubernetes), Some(etcd)) = (std::env::var_os("KUBERNETES"), std::env::var_os("ETCD")) else {
            eprintln!("SKIPPED: KUBERNETES and ETCD do not name the programs of an API server");
            return None;
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let process = std::process::id();
        let root = std::env::temp_dir().join(format!("mm-api-server-{process}-{number}"));
        fs::create_dir_all(&root).unwrap();
        let address = format!("127.{}.{number}.1", 20 + process % 200);
        let names = vec![SanType::IpAddress(address.parse().unwrap())];
        let (authority, key) = (certify(&root, names), KeyPair::generate().unwrap());
        fs::write(root.join("accounts.key"), key.serialize_pem()).unwrap();
        fs::write(root.join("accounts.pub"), key.public_key_pem()).unwrap();
        let service_account = "system:serviceaccount:multimaster-system:multimaster-operator";
        let tokens = format!("{ADMIN},admin,admin,system:masters\n{OPERATOR},{service_account},operator\n");
        fs::write(root.join("tokens.csv"), tokens).unwrap();
        let (store, peers) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
        let path = |name: &str| root.join(name).display().to_string();
        let etcd = start(
            Command::new(etcd)
                .args(["--data-dir", &path("etcd"), "--log-level", "error", "--unsafe-no-fsync"])
                .args(["--listen-client-urls", &store, "--advertise-client-urls", &store])
                .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
                .args(["--initial-cluster", &format!("default={peers}")]),
            &root.join("etcd.log"),
        );
        let server = start(
            Command::new(kubernetes)
                .arg0("kube-apiserver")
                .args([
                    "--etcd-servers",
                    &store,
                    "--bind-address",
                    &address,
                    "--secure-port",
                    "6443",
                ])
                .args([
                    "--tls-cert-file",
                    &path("tls.crt"),
                    "--tls-private-key-file",
                    &path("tls.key"),
                ])
                .args(["--token-auth-file", &path("tokens.csv"), "--authorization-mode", "RBAC"])
                .args(["--service-account-issuer", "https://kubernetes.default.svc"])
                .args(["--service-account-key-file", &path("accounts.pub")])
                .args(["--service-account-signing-key-file", &path("accounts.key")])
                .args(["--service-cluster-ip-range", "10.96.0.0/12"])
                .args(["--disable-admission-plugins", "ServiceAccount"]),
            &root.join("kube-apiserver.log"),
        );
        let mut server = Self {
            client: client(&authority, &address, json!({"token": ADMIN})).await,
            processes: [server, etcd],
            root,
            address,
        };
        eventually("the API server is ready", async || {
            let ended = server
                .processes
                .iter_mut()
                .find_map(|process| process.0.try_wait().unwrap());
            assert!(
                ended.is_none(),
                "one of its processes ended ({ended:?}): see {}",
                server.root.display()
            );
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            server.client.request_text(request).await.is_ok()
        })
        .await;
        server.install().await;
        Some(server)
    }

    /// The CRD and the operator's rights, from the files that people apply.
    async fn install(&self) {
        let files = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in [
            "manifests/operator/namespace.yaml",
            "manifests/operator/rbac.yaml",
            "manifests/operator/admission.yaml",
            "crds/multimasterclusters.yaml",
        ] {
            let text = fs::read_to_string(files.join(file)).unwrap();
            for document in serde_yaml_ng::Deserializer::from_str(&text) {
                self.apply(Value::deserialize(document).unwrap()).await;
            }
        }
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        eventually("the CRD is established", async || {
            let crd = crds.get("multimasterclusters.multimaster.dev").await;
            let conditions = crd.ok().and_then(|crd| crd.status?.conditions).unwrap_or_default();
            conditions
                .iter()
                .any(|is| is.type_ == "Established" && is.status == "True")
        })
        .await;
    }

    /// What a person may do who has no other rights than those that are given to this name.
    pub async fn acting_as(&self, user: &str) -> Client {
        let authority = fs::read_to_string(self.root.join("ca.crt")).unwrap();
        client(&authority, &self.address, json!({"token": ADMIN, "as": user})).await
    }

    /// Applies any object.
    pub async fn apply(&self, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let types = object.types.clone().unwrap();
        let api = self.objects(&types.api_version, &types.kind, object.metadata.namespace.as_deref());
        let name = object.metadata.name.clone().unwrap();
        let params = PatchParams::apply("test").force();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("{} {name}: {error}", types.kind));
    }

    /// Objects of a kind, in a namespace or without one.
    pub fn objects(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Makes a namespace.
    pub async fn namespace(&self, name: &str) {
        self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
            .await;
    }

    /// Starts an operator with the rights that it has in a cluster.
    pub fn operator(&self, port: u16) -> Operator {
        let config = self.root.join("kubeconfig");
        let authority = self.root.join("ca.crt");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("https://{}:6443", self.address), "certificate-authority": authority}}],
            "users": [{"name": "it", "user": {"token": OPERATOR}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        fs::write(&config, kubeconfig.to_string()).unwrap();
        let address: SocketAddr = format!("{}:{port}", self.address).parse().unwrap();
        let log = self.root.join(format!("operator-{port}.log"));
        let process = start(
            Command::new(env!("CARGO_BIN_EXE_multimaster"))
                .arg("operator")
                .args([
                    "--listen",
                    &address.to_string(),
                    "--operator-image",
                    "multimaster/operator:dev",
                ])
                // Whoever runs the tests may have set these for something else.
                .args([
                    "--mysql-image",
                    "mysql:9.7",
                    "--haproxy-image",
                    "haproxy:3.2",
                    "--log-format",
                    "Text",
                ])
                .env("KUBECONFIG", &config)
                .env("POD_NAME", format!("operator-{port}"))
                .env("POD_NAMESPACE", "multimaster-system"),
            &log,
        );
        Operator { process, log }
    }
}

/// An operator.
pub struct Operator {
    process: Process,
    log: PathBuf,
}

impl Operator {
    /// Fails where it has ended.
    pub fn lives(&mut self) {
        if let Some(status) = self.process.0.try_wait().unwrap() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            panic!(
                "the operator ended ({status}): {last:#?}, all of it in {}",
                self.log.display()
            );
        }
    }

    /// The most memory that it had, in bytes.
    pub fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Ends it as the kubelet does.
    pub fn stop(mut self) {
        let pid = Pid::from_raw(self.process.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.process.0.wait().unwrap();
    }
}

fn start(command: &mut Command, log: &Path) -> Process {
    let output = File::create(log).unwrap();
    let errors = output.try_clone().unwrap();
    let command = command.stdin(Stdio::null()).stdout(output).stderr(errors);
    Process(command.spawn().unwrap())
}

async fn client(authority: &str, address: &str, user: Value) -> Client {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {
            "server": format!("https://{address}:6443"),
            "certificate-authority-data": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, authority),
        }}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    let kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}
