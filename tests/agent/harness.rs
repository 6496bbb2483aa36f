//! Agents as child processes on loopback addresses of their own, each with a real mysqld.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use multimaster::names;
use multimaster::wire::agent::{Mark, MarkOrder, PATH_MARK, PATH_REPORT, Phase, Report, VERSION};
use multimaster::wire::lease::LeaseRenewal;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, SslOpts};
use rcgen::SanType;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use certificates::certify;

#[path = "certificates.rs"]
mod certificates;

const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until a condition holds; says which one did not.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "not seen within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub fn alive(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

/// What the members of one cluster share: passwords, certificates, configuration.
pub struct Cell {
    root: PathBuf,
    mysql: PathBuf,
    network: String,
    ca: String,
}

impl Cell {
    /// `None`, and a word about it, where there is no MySQL to test with.
    pub fn new(number: u8) -> Option<Self> {
        let Some(mysql) = std::env::var_os("MYSQL_ROOT") else {
            eprintln!("SKIPPED: MYSQL_ROOT is not set to the root of a file system with MySQL 9.7");
            return None;
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let process = std::process::id();
        let root = std::env::temp_dir().join(format!("mm-agent-{process}-{number}"));
        let network = format!("127.{}.{number}", 20 + process % 200);
        for folder in ["credentials", "tls", "config"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for key in names::keys::ALL {
            fs::write(root.join("credentials").join(key), password_of(key)).unwrap();
        }
        let mut cell = Self {
            root,
            mysql: mysql.into(),
            network,
            ca: String::new(),
        };
        cell.configure("");
        cell.certify();
        Some(cell)
    }

    pub fn configure(&self, lines: &str) {
        let config = format!("[mysqld]\ninnodb_buffer_pool_size=32M\nperformance_schema=ON\n{lines}");
        fs::write(self.root.join("config/my.cnf"), config).unwrap();
    }

    pub fn address(&self, ordinal: u8) -> String {
        format!("{}.{}", self.network, ordinal + 1)
    }

    pub fn password(&self, account: &str) -> &'static str {
        password_of(match account {
            names::accounts::ROOT => names::keys::ROOT,
            names::accounts::OPERATOR | names::accounts::SETTLER => names::keys::OPERATOR,
            names::accounts::AGENT => names::keys::AGENT,
            _ => names::keys::REPLICATION,
        })
    }

    /// What the Secret of the cluster holds.
    pub fn passwords(&self) -> BTreeMap<String, String> {
        let keys = names::keys::ALL.into_iter();
        keys.map(|key| (key.to_owned(), password_of(key).to_owned())).collect()
    }

    /// The certificate authority, PEM.
    pub fn authority(&self) -> &str {
        &self.ca
    }

    fn certify(&mut self) {
        let addresses = (0..3).map(|n| SanType::IpAddress(self.address(n).parse::<IpAddr>().unwrap()));
        let members = (0..3).map(|n| names::member_host("demo", "test", n));
        let hosts = members.chain([names::service_host("demo", "test")]);
        let hosts = hosts.map(|host| SanType::DnsName(host.try_into().unwrap()));
        self.ca = certify(&self.root.join("tls"), addresses.chain(hosts).collect());
    }

    /// Starts an agent. `more` comes last and replaces earlier flags.
    pub fn start(&self, ordinal: u8, more: &[&str]) -> Agent {
        let folder = self.root.join(format!("member-{ordinal}"));
        fs::create_dir_all(folder.join("volume")).unwrap();
        let at = |path: &str| self.mysql.join(path).display().to_string();
        let address = self.address(ordinal);
        let mysqld = format!(
            "{} --library-path {} {}",
            at("lib64/ld-linux-x86-64.so.2"),
            at("usr/lib/x86_64-linux-gnu"),
            at("usr/sbin/mysqld")
        );
        let mysqld_args = format!(
            "--user={} --basedir={} --plugin-dir={} --lc-messages-dir={} --character-sets-dir={} --bind-address={address}",
            std::env::var("USER").unwrap_or_else(|_| "root".into()),
            at("usr"),
            at("usr/lib/mysql/plugin"),
            at("usr/share/mysql"),
            at("usr/share/mysql/charsets"),
        );
        let flags = [
            ("pod-name", format!("demo-{ordinal}")),
            ("pod-namespace", "test".into()),
            ("pod-ip", address.clone()),
            ("cluster", "demo".into()),
            ("cluster-uid", CLUSTER_UID.into()),
            ("volume", folder.join("volume").display().to_string()),
            ("run", folder.join("run").display().to_string()),
            ("config", self.root.join("config/my.cnf").display().to_string()),
            ("credentials", self.root.join("credentials").display().to_string()),
            ("tls", self.root.join("tls").display().to_string()),
            ("termination-log", folder.join("termination-log").display().to_string()),
            ("mysqld", mysqld),
            ("mysqld-args", mysqld_args),
            ("listen", address.clone()),
            ("mysql-port", MYSQL_PORT.to_string()),
            ("mysql-admin-port", ADMIN_PORT.to_string()),
            ("probe-port", PROBE_PORT.to_string()),
            ("port", PORT.to_string()),
        ];
        let mut args: Vec<String> = flags
            .into_iter()
            .filter(|(name, _)| !more.iter().any(|m| m.starts_with(&format!("--{name}="))))
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
        args.extend(more.iter().map(|&m| m.to_owned()));
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(self.authority().as_bytes()).unwrap()])
            .timeout(Duration::from_secs(15))
            .build()
            .unwrap();
        let mut agent = Agent {
            folder,
            address,
            args,
            child: None,
            client,
            mysql_port: MYSQL_PORT,
            admin_port: ADMIN_PORT,
        };
        agent.start_again();
        agent
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the agents wrote is in {}", self.root.display());
        } else {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

pub const MYSQL_PORT: u16 = 23306;
const ADMIN_PORT: u16 = 23362;
const PROBE_PORT: u16 = 29180;
const PORT: u16 = 29181;

/// Some of them with everything that could end a literal early.
fn password_of(key: &str) -> &'static str {
    match key {
        names::keys::ROOT => "ro;o't\\\"\n-- x",
        names::keys::AGENT => "ag'e;nt\\",
        names::keys::OPERATOR => "operator-secret",
        names::keys::AGENT_TOKEN => TOKEN,
        _ => "other-secret",
    }
}

/// `metadata.uid` of the MultiMasterCluster.
pub const CLUSTER_UID: &str = "cluster-uid";

const TOKEN: &str = "a-token-of-some-length";

/// An agent and its mysqld; both end with it.
pub struct Agent {
    folder: PathBuf,
    pub address: String,
    args: Vec<String>,
    child: Option<Child>,
    client: reqwest::Client,
    pub mysql_port: u16,
    pub admin_port: u16,
}

impl Agent {
    pub fn volume(&self) -> PathBuf {
        self.folder.join("volume")
    }

    pub fn data(&self) -> PathBuf {
        self.volume().join("data")
    }

    pub fn start_again(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("agent.log"))
            .unwrap();
        let _ = fs::remove_file(self.folder.join("termination-log"));
        let child = Command::new(env!("CARGO_BIN_EXE_multimaster"))
            .arg("agent")
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// SIGTERM, and the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        signal(i32::try_from(child.id()).unwrap(), Signal::TERM);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child
            .as_mut()
            .is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// The exit code of an agent that ends by itself.
    pub async fn ended(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while !self.has_ended() {
            assert!(Instant::now() < end, "the agent goes on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.child.take()?.wait().unwrap().code()
    }

    pub fn termination_log(&self) -> String {
        fs::read_to_string(self.folder.join("termination-log")).unwrap_or_default()
    }

    pub fn edit_life(&self, edit: impl FnOnce(&mut serde_json::Value)) {
        let path = self.volume().join("life.json");
        let mut life = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut life);
        fs::write(path, life.to_string()).unwrap();
    }

    /// `None` while there is no answer.
    pub async fn report(&self) -> Option<Report> {
        self.ask("").await
    }

    /// Says that the volume is this cluster's, as the operator does. The agent starts links of no other volume.
    pub async fn mark(&self) {
        let order = MarkOrder {
            version: VERSION,
            server_uuid: self.running().await.server_uuid.unwrap(),
            mark: Mark {
                namespace: "test".into(),
                name: "demo".into(),
                cluster_uid: CLUSTER_UID.into(),
                claim_uid: self.address.clone(),
            },
            new_life: false,
        };
        let answer = self.post(PATH_MARK, &order).await;
        assert_eq!(answer.0, 200, "{answer:?}");
    }

    /// The report, asked for as the operator does it.
    pub async fn renew(&self, renewal: &LeaseRenewal) -> Report {
        self.ask(&format!("?{renewal}")).await.unwrap()
    }

    async fn ask(&self, query: &str) -> Option<Report> {
        let url = format!("https://{}:{PORT}{PATH_REPORT}{query}", self.address);
        let response = self.client.get(url).bearer_auth(TOKEN).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }

    /// The report once mysqld answers.
    pub async fn running(&self) -> Report {
        eventually("a running mysqld", async || {
            self.report().await.is_some_and(|r| r.phase == Phase::Running)
        })
        .await;
        self.report().await.unwrap()
    }

    pub async fn probe(&self, which: &str) -> (u16, String) {
        let url = format!("http://{}:{PROBE_PORT}/{which}", self.address);
        let response = self.client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub async fn post(&self, path: &str, order: &impl serde::Serialize) -> (u16, String) {
        self.post_as(TOKEN, path, order).await
    }

    pub async fn post_as(&self, token: &str, path: &str, order: &impl serde::Serialize) -> (u16, String) {
        let url = format!("https://{}:{PORT}{path}", self.address);
        let response = self
            .client
            .post(url)
            .bearer_auth(token)
            .json(order)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// mysqld's.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/mysqld.sock")
    }

    pub async fn root(&self) -> Conn {
        let options = OptsBuilder::default()
            .prefer_socket(false)
            .socket(Some(self.socket().display().to_string()))
            .user(Some("root"))
            .pass(Some(password_of(names::keys::ROOT)));
        Conn::new(options).await.unwrap()
    }

    /// Opens the member as the operator does it, and answers with a client's connection.
    pub async fn open(&self, cell: &Cell) -> Conn {
        let password = cell.password(names::accounts::OPERATOR);
        let mut operator = self
            .tcp(names::accounts::OPERATOR, password, self.admin_port, true)
            .await
            .unwrap();
        operator.query_drop("SET GLOBAL read_only=OFF").await.unwrap();
        self.root().await
    }

    /// One value as text, asked as root.
    pub async fn value(&self, query: &str) -> String {
        let row: Option<mysql_async::Row> = self.root().await.query_first(query).await.unwrap();
        row.and_then(|row| row.get_opt::<String, _>(0).and_then(Result::ok))
            .unwrap_or_default()
    }

    pub async fn tcp(&self, user: &str, password: &str, port: u16, tls: bool) -> mysql_async::Result<Conn> {
        let tls = tls.then(|| SslOpts::default().with_danger_accept_invalid_certs(true));
        let options = OptsBuilder::default()
            .prefer_socket(false)
            .ip_or_hostname(self.address.clone())
            .tcp_port(port)
            .user(Some(user))
            .pass(Some(password))
            .ssl_opts(tls);
        Conn::new(options).await
    }

    pub fn try_mysqld_pid(&self) -> Option<i32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()
    }

    pub fn mysqld_pid(&self) -> i32 {
        self.try_mysqld_pid().unwrap()
    }

    /// Waits until the agent has started another mysqld than this one. What it reported of this one is past then.
    pub async fn another_mysqld(&self, before: i32) {
        eventually("another mysqld", async || {
            self.try_mysqld_pid().is_some_and(|pid| pid != before)
        })
        .await;
    }

    pub fn kill_mysqld(&self) {
        signal(self.mysqld_pid(), Signal::KILL);
    }

    /// Freezes mysqld. A kill ends it all the same.
    pub fn freeze_mysqld(&self) {
        signal(self.mysqld_pid(), Signal::STOP);
    }

    /// Lets it continue.
    pub fn thaw_mysqld(&self) {
        signal(self.mysqld_pid(), Signal::CONT);
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("run/mysqld.pid")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
        // Only a mysqld of this folder, and only if the agent left it behind: it ended early, or the test failed between two of them.
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
        for pid in pids.filter(|pid| is_mysqld_of(*pid, &self.folder)) {
            signal(pid, Signal::KILL);
        }
    }
}

fn is_mysqld_of(pid: i32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&folder.display().to_string())
}

fn signal(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}
