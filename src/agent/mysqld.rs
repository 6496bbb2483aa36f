//! mysqld: its command line, its process, its output.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;

use super::life::Life;
use super::member::Member;
use crate::api::MAX_MEMBERS;
use crate::names;

/// mysqld asks its supervisor to start it again (`RESTART`, the end of a `CLONE`) by this exit code.
const RESTART_EXIT_CODE: i32 = 16;
/// How much of mysqld's last output is kept for messages.
const TAIL: usize = 1500;

/// Arguments that start mysqld: the user's my.cnf first, then the ring's settings, which win over my.cnf. Each of these settings is in
/// [`crate::mysql::settings::RING_OWNED`].
///
/// The command line does *not* win over `SET PERSIST`. Measured with MySQL 9.7.4: a persisted `super_read_only=OFF` opens a server that is started
/// with `--super-read-only=ON`. So no persisted setting is loaded; settings survive a restart only in `spec.mysql.config`.
pub fn command_line(member: &Member, life: &Life) -> Vec<String> {
    let args = &member.args;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let tls = |file: &str| path(&args.tls.join(file));
    let options: Vec<(&str, String)> = vec![
        ("persisted-globals-load", "OFF".into()),
        ("datadir", path(&member.data)),
        ("socket", path(&member.socket)),
        ("pid-file", path(&member.pid_file)),
        ("init-file", path(&member.init_file)),
        // The privilege FILE reads nothing: passwords and keys are files of this pod.
        ("secure-file-priv", "NULL".into()),
        // Where it listens.
        ("port", args.mysql_port.to_string()),
        ("bind-address", "*".into()),
        ("admin-address", args.pod_ip.to_string()),
        ("admin-port", args.mysql_admin_port.to_string()),
        ("create-admin-listener-thread", "ON".into()),
        ("mysqlx", "OFF".into()),
        ("skip-name-resolve", "ON".into()),
        ("ssl-ca", tls("ca.crt")),
        ("ssl-cert", tls("tls.crt")),
        ("ssl-key", tls("tls.key")),
        // Without an authority CLONE verifies no donor, whoever orders it (manual, "Cloning Remote Data").
        ("clone-ssl-ca", tls("ca.crt")),
        (
            "report-host",
            names::member_host(&args.cluster, &args.pod_namespace, member.ordinal),
        ),
        // Fenced until the operator opens it.
        ("super-read-only", "ON".into()),
        ("read-only", "ON".into()),
        ("skip-replica-start", "ON".into()),
        ("event-scheduler", "OFF".into()),
        ("offline-mode", "OFF".into()),
        // Identity.
        ("server-id", life.server_id.to_string()),
        ("auto-increment-increment", MAX_MEMBERS.to_string()),
        ("auto-increment-offset", (member.ordinal + 1).to_string()),
        // Its own log, synced to disk before a commit is acknowledged.
        ("gtid-mode", "ON".into()),
        ("enforce-gtid-consistency", "ON".into()),
        ("log-bin", "binlog".into()),
        ("log-replica-updates", "ON".into()),
        ("sync-binlog", "1".into()),
        ("innodb-flush-log-at-trx-commit", "1".into()),
        ("binlog-row-image", "FULL".into()),
        // The log, and so every member, has transactions in the order in which clients see them here.
        ("binlog-order-commits", "ON".into()),
        ("binlog-expire-logs-seconds", (30 * 24 * 3600).to_string()),
        ("session-track-gtids", "OWN_GTID".into()),
        // Its upstream's log. Recovery is OFF: ON would throw relay logs away at every start, and they may hold the last copy of a transaction.
        ("relay-log", "relay".into()),
        ("relay-log-recovery", "OFF".into()),
        ("replica-preserve-commit-order", "ON".into()),
        ("replica-exec-mode", "STRICT".into()),
        ("replica-net-timeout", "4".into()),
        // Tables that replicate safely.
        ("sql-require-primary-key", "ON".into()),
        (
            "disabled-storage-engines",
            "MyISAM,BLACKHOLE,FEDERATED,ARCHIVE,MEMORY,CSV,MRG_MyISAM,EXAMPLE".into(),
        ),
        (
            "plugin-load-add",
            "mysql_clone.so;semisync_source.so;semisync_replica.so".into(),
        ),
    ];
    std::iter::once(format!("--defaults-file={}", args.config.display()))
        .chain(options.into_iter().map(|(name, value)| format!("--{name}={value}")))
        .collect()
}

/// Arguments that make a new data directory. Passwords come with the first start, before mysqld listens anywhere.
pub fn initialise_command_line(member: &Member) -> Vec<String> {
    vec![
        format!("--defaults-file={}", member.initialise_config.display()),
        "--initialize-insecure".into(),
        format!("--datadir={}", member.data_new.display()),
        "--skip-log-bin".into(),
        // The default folder is not in every image.
        "--secure-file-priv=NULL".into(),
    ]
}

/// The user's my.cnf for `--initialize`. No plugin is loaded then, and mysqld would refuse the settings of plugins (`rpl_semi_sync_...`,
/// `clone_...`). So each key gets the prefix `loose_`. The real start refuses keys that are unknown then, too.
pub fn tolerant(config: &str) -> String {
    let mut tolerant = String::with_capacity(config.len() + 64);
    for line in config.lines() {
        let line = line.trim();
        let is_key = line.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_key && !line.to_ascii_lowercase().starts_with("loose") {
            tolerant.push_str("loose_");
        }
        tolerant.push_str(line);
        tolerant.push('\n');
    }
    tolerant
}

/// How a mysqld ended.
#[derive(Clone, Debug)]
pub struct Ended {
    status: ExitStatus,
    /// Its last errors, or the last lines of its output.
    pub tail: String,
}

impl Ended {
    /// Whether it ended in order to be started again.
    pub fn wants_restart(&self) -> bool {
        self.status.code() == Some(RESTART_EXIT_CODE)
    }

    /// Whether its exit code is 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "signal {signal}")?,
            (None, None) => write!(f, "{}", self.status)?,
        }
        if !self.tail.is_empty() {
            write!(f, "; its last output:\n{}", self.tail)?;
        }
        Ok(())
    }
}

/// A mysqld that was started.
#[derive(Debug)]
pub struct Process {
    child: Child,
    tail: Arc<Mutex<Output>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts mysqld; its standard error is passed on line by line.
    ///
    /// # Errors
    /// When the command is empty, or when the program is missing in the image or cannot be started.
    pub fn start(member: &Member, arguments: Vec<String>) -> anyhow::Result<Self> {
        let mut words = member.args.mysqld.split_whitespace();
        let program = words.next().context("the mysqld command is empty")?;
        let mut child = Command::new(program)
            .args(words)
            .args(arguments)
            .args(member.args.mysqld_args.split_whitespace())
            // Tells mysqld that a supervisor starts it again after exit code 16.
            .env("MYSQLD_PARENT_PID", std::process::id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            // For an agent that is not process 1, as in tests: mysqld must not outlive it.
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    anyhow!(
                        "{} has no {program}: spec.image must name an image with MySQL 9.7 in its PATH",
                        member.image()
                    )
                }
                _ => anyhow::Error::new(error).context(format!("cannot start {program} of {}", member.image())),
            })?;
        let tail = Arc::default();
        let reader = child
            .stderr
            .take()
            .map(|stderr| tokio::spawn(pass_on(stderr, Arc::clone(&tail))));
        Ok(Self { child, tail, reader })
    }

    /// Asks mysqld to shut down in order.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends mysqld at once, whatever it is doing.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // mysqld may have ended meanwhile; `wait` returns then.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for the end. May be dropped and called again.
    ///
    /// # Errors
    /// When the operating system does not give the exit status.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        let status = self.child.wait().await?;
        if let Some(reader) = &mut self.reader {
            // Waits for the last output. A child of mysqld that holds the pipe open must not delay the restart.
            let _ = tokio::time::timeout(Duration::from_secs(1), reader).await;
            self.reader = None;
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner).text();
        Ok(Ended { status, tail })
    }
}

async fn pass_on(stderr: ChildStderr, tail: Arc<Mutex<Output>>) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        eprintln!("{line}");
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// The last lines of an output; only the lines that mysqld marks as errors, if there are any. Reason: after the error that ends mysqld there is
/// often a stack trace.
#[derive(Debug, Default)]
struct Output {
    all: Tail,
    errors: Tail,
}

impl Output {
    fn push(&mut self, line: String) {
        if line.contains(" [ERROR] ") {
            self.errors.push(line.clone());
        }
        self.all.push(line);
    }

    fn text(&self) -> String {
        match self.errors.lines.is_empty() {
            true => self.all.text(),
            false => self.errors.text(),
        }
    }
}

/// The last lines, of a limited total size.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    size: usize,
}

impl Tail {
    fn push(&mut self, mut line: String) {
        let mut end = line.len().min(TAIL);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        self.size += line.len() + 1;
        self.lines.push_back(line);
        while self.size > TAIL && self.lines.len() > 1 {
            self.size -= self.lines.pop_front().map_or(0, |line| line.len() + 1);
        }
    }

    fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Role};
    use crate::mysql::settings::is_ring_owned;

    fn member() -> Member {
        let words = "multimaster agent --pod-name demo-2 --pod-namespace shop --pod-ip 10.0.0.7 --cluster demo"
            .split_whitespace();
        let Role::Agent(args) = Args::parse_from(words).role else {
            panic!("not an agent")
        };
        Member::new(args).unwrap()
    }

    #[test]
    fn everything_on_the_command_line_belongs_to_the_ring() {
        let member = member();
        let life = Life::empty(2, None).unwrap();
        let line = command_line(&member, &life);
        assert_eq!(line[0], "--defaults-file=/etc/multimaster/config/my.cnf");
        for argument in line.iter().chain(&initialise_command_line(&member)) {
            let name = argument.trim_start_matches("--").split('=').next().unwrap();
            assert!(is_ring_owned(name), "{name} is not in RING_OWNED");
        }
        for argument in [
            "--super-read-only=ON",
            "--read-only=ON",
            "--replica-exec-mode=STRICT",
            "--persisted-globals-load=OFF",
            "--auto-increment-offset=3",
            "--auto-increment-increment=9",
            "--admin-address=10.0.0.7",
            "--report-host=demo-2.demo-members.shop.svc",
            "--datadir=/var/lib/mysql/data",
            "--relay-log-recovery=OFF",
            "--clone-ssl-ca=/etc/multimaster/tls/ca.crt",
        ] {
            assert!(line.iter().any(|a| a == argument), "{argument}");
        }
        assert!(line.contains(&format!("--server-id={}", life.server_id)));
    }

    #[test]
    fn initialising_forgives_settings_of_plugins() {
        let config = "# mine\n[mysqld]\n  rpl_semi_sync_source_enabled = 1\nloose-x=1\nskip-external-locking\n";
        let expected =
            "# mine\n[mysqld]\nloose_rpl_semi_sync_source_enabled = 1\nloose-x=1\nloose_skip-external-locking\n";
        assert_eq!(tolerant(config), expected);
    }

    #[test]
    fn errors_are_shown_and_not_the_stack_trace_that_follows() {
        let mut output = Output::default();
        output.push("2026-11-22T10:08:30Z 0 [System] starting".into());
        assert!(output.text().contains("starting"));
        output.push("2026-11-22T10:08:31Z 1 [ERROR] [MY-011906] [InnoDB] Database page corruption".into());
        for n in 0..100 {
            output.push(format!(" #{n} 0x561e2b1f9196 ha_innobase::open"));
        }
        assert_eq!(
            output.text(),
            "2026-11-22T10:08:31Z 1 [ERROR] [MY-011906] [InnoDB] Database page corruption"
        );
    }

    #[test]
    fn the_tail_keeps_the_end_within_its_limit() {
        let mut tail = Tail::default();
        for n in 0..1000 {
            tail.push(format!("line {n}"));
        }
        let text = tail.text();
        assert!(text.len() <= TAIL && text.ends_with("line 999"), "{text}");
        tail.push("ü".repeat(5000));
        assert!(tail.text().len() <= TAIL);
    }
}
