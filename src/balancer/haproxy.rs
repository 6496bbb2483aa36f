//! HAProxy: its processes, and the commands while it runs.
//!
//! A master process keeps one worker that serves. After a reload the earlier worker takes no new connection, and ends with its last session. It does
//! not check members any more, so [`HaProxy::cut`] closes its sessions with a member that is out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::pipe::fcntl_setpipe_size;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::config::{self, MEMBERS, ThisPod};
use super::statistics::{self, Row};
use crate::names;
use crate::wire::balancer::{Order, Slot, State};

/// Deadline of a command. HAProxy answers at once; it answers a reload within the time that a worker needs to start.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// How long HAProxy may take to start.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of the log that may wait to be read, about 5,000 lines. HAProxy drops lines that do not fit, and a member that fails ends all of its
/// connections at the same time. A datagram socket would hold 10 lines in a pod.
const LOG_BYTES: usize = 1 << 20;

/// Files of HAProxy, and the name of this pod.
#[derive(Clone, Debug)]
pub struct HaProxy {
    /// Folder for configuration and sockets.
    pub run: PathBuf,
    /// Name of this pod. HAProxy's peers know it by this name.
    pub pod: String,
    /// Address of this pod.
    pub ip: IpAddr,
    /// The program.
    pub program: String,
}

impl HaProxy {
    fn file(&self) -> PathBuf {
        self.run.join("haproxy.cfg")
    }

    fn socket(&self) -> PathBuf {
        self.run.join("master.sock")
    }

    /// Writes the configuration, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, order: &Order) -> anyhow::Result<()> {
        let pod = ThisPod {
            run: &self.run,
            name: &self.pod,
            ip: self.ip,
        };
        super::files::write_whole(&self.file(), config::config(order, pod).as_bytes())
    }

    /// Starts HAProxy with the configuration that was written, and waits until its worker serves. The caller must read its standard output, which is
    /// its log.
    ///
    /// # Errors
    /// When the program cannot be started, ends at once, or has no worker after 30 s.
    pub async fn start(&self) -> anyhow::Result<Child> {
        let mut child = Command::new(&self.program)
            .arg("-W")
            .arg("-S")
            .arg(self.socket())
            .arg("-f")
            .arg(self.file())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program))?;
        if let Some(log) = &child.stdout
            && let Err(error) = fcntl_setpipe_size(log, LOG_BYTES)
        {
            warn!("lines of HAProxy's log may be lost when many connections end at the same time: {error}");
        }
        let answers = async {
            loop {
                match self.command("show proc").await {
                    Ok(answer) if Workers::read(&answer).present.is_some() => return,
                    Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        tokio::select! {
            result = timeout(START_DEADLINE, answers) => result.context("HAProxy does not begin to serve")?,
            status = child.wait() => bail!("HAProxy ended at once: {}", status.context("waiting for HAProxy")?),
        }
        Ok(child)
    }

    /// Starts a new worker with the configuration that was written. If HAProxy refuses the configuration, the present worker stays.
    ///
    /// # Errors
    /// When HAProxy does not answer within 10 s, or refuses the configuration.
    pub async fn reload(&self) -> anyhow::Result<()> {
        let answer = self.command("reload").await?;
        ensure!(
            answer.starts_with("Success=1"),
            "HAProxy refuses its configuration: {}",
            answer.trim()
        );
        Ok(())
    }

    /// Changes one member's slot without a reload.
    ///
    /// # Errors
    /// When HAProxy does not answer within 10 s, or refuses a command. The commands before that one are in force.
    pub async fn set(&self, slot: &Slot, before: &Slot) -> anyhow::Result<()> {
        for command in commands(slot, before) {
            let answer = self.command(&format!("@1 {command}")).await?;
            let answer = answer.trim();
            // HAProxy answers a change of address with what it changed. Any other text is a refusal.
            ensure!(
                answer.is_empty() || answer.starts_with("IP changed") || answer == "nothing changed",
                "{command}: {answer}"
            );
        }
        Ok(())
    }

    /// Closes sessions in workers of earlier configurations: those with members that are down or out in the present worker.
    ///
    /// # Errors
    /// When HAProxy does not answer within 10 s.
    pub async fn cut(&self) -> anyhow::Result<()> {
        let workers = Workers::read(&self.command("show proc").await?);
        if workers.old.is_empty() {
            return Ok(());
        }
        let servers = self.command(&format!("@1 show servers state {MEMBERS}")).await?;
        let down = down(&servers);
        for worker in &workers.old {
            let sessions = self.command(&format!("@!{worker} show sess")).await?;
            for session in sessions_of(&sessions, &down) {
                self.command(&format!("@!{worker} shutdown session {session}")).await?;
            }
        }
        Ok(())
    }

    /// Refuses new clients. Open sessions stay.
    ///
    /// # Errors
    /// When HAProxy does not answer within 10 s, or refuses the command.
    pub async fn refuse(&self) -> anyhow::Result<()> {
        let answer = self.command("@1 disable frontend clients").await?;
        ensure!(answer.trim().is_empty(), "HAProxy refuses: {}", answer.trim());
        Ok(())
    }

    /// The statistics of each worker, with its process id. The present worker comes first, then the workers that finish their sessions.
    ///
    /// # Errors
    /// When HAProxy does not answer within 10 s, has no worker, or the present worker's statistics cannot be read.
    pub async fn statistics(&self) -> anyhow::Result<Vec<(u32, Vec<Row>)>> {
        let workers = Workers::read(&self.command("show proc").await?);
        let present = workers.present.context("HAProxy has no worker")?;
        // 4: servers; -1: all of them.
        let show = |worker: u32| async move {
            let answer = self.command(&format!("@!{worker} show stat {MEMBERS} 4 -1")).await?;
            statistics::rows(&answer)
        };
        let mut counted = vec![(present, show(present).await?)];
        for worker in workers.old {
            match show(worker).await {
                Ok(rows) => counted.push((worker, rows)),
                Err(error) => debug!(worker, "an earlier worker has ended meanwhile: {error:#}"),
            }
        }
        Ok(counted)
    }

    /// Sends one command to the master; with `@1` in front to the present worker, with `@!` and a process id to that worker.
    async fn command(&self, command: &str) -> anyhow::Result<String> {
        let asking = async {
            let mut stream = UnixStream::connect(self.socket()).await?;
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            stream.shutdown().await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(COMMAND_DEADLINE, asking)
            .await
            .context("HAProxy does not answer")?;
        answer.with_context(|| format!("HAProxy's socket, {command}"))
    }
}

/// The commands that change a member's slot. If the member is to be out, or its address changes, it is taken out first: that closes its sessions.
fn commands(slot: &Slot, before: &Slot) -> Vec<String> {
    let server = format!("{MEMBERS}/{}", config::server(slot.ordinal));
    let (address, port) = (config::address(slot), names::MYSQL_PORT);
    let mut commands = Vec::new();
    if slot.state == State::Out || slot.address != before.address {
        commands.push(format!("set server {server} state maint"));
    }
    commands.push(format!("set server {server} addr {address} port {port}"));
    commands.push(format!("set weight {server} {}", config::weight(slot)));
    // 0: no limit.
    commands.push(format!(
        "set maxconn server {server} {}",
        slot.max_connections.unwrap_or(0)
    ));
    if slot.state != State::Out {
        commands.push(format!("set server {server} state ready"));
    }
    commands
}

/// Process ids of the workers in an answer to `show proc`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Workers {
    present: Option<u32>,
    old: Vec<u32>,
}

impl Workers {
    fn read(text: &str) -> Self {
        let (mut workers, mut old) = (Self::default(), false);
        for line in text.lines() {
            old |= line.starts_with("# old workers");
            let mut words = line.split_whitespace();
            let (Some(Ok(pid)), Some("worker")) = (words.next().map(str::parse), words.next()) else {
                continue;
            };
            match old {
                true => workers.old.push(pid),
                false => workers.present = Some(pid),
            }
        }
        workers
    }
}

/// Names of the servers that are down or out, from `show servers state`. The fourth column is the name; the sixth is 0 for down.
fn down(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.first()?.parse::<u32>().is_ok() && words.get(5) == Some(&"0")).then(|| words[3])
        })
        .collect()
}

/// Ids of the sessions with these servers, from `show sess`.
fn sessions_of<'a>(text: &'a str, servers: &BTreeSet<&str>) -> Vec<&'a str> {
    text.lines()
        .filter(|line| {
            let server = line.split_whitespace().find_map(|word| word.strip_prefix("srv="));
            server.is_some_and(|server| servers.contains(server))
        })
        .filter_map(|line| line.split(':').next())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_changed_in_an_order_that_sends_nobody_to_the_wrong_member() {
        let slot = |state, address: &str| Slot {
            ordinal: 1,
            address: Some(address.parse().unwrap()),
            state,
            weight: 50,
            max_connections: None,
        };
        let serving = slot(State::Serve, "10.0.0.1");
        let drains = [
            "set server members/m-1 addr 10.0.0.1 port 3306",
            "set weight members/m-1 0",
            "set maxconn server members/m-1 0",
            "set server members/m-1 state ready",
        ];
        assert_eq!(commands(&slot(State::Drain, "10.0.0.1"), &serving), drains);
        let goes = [
            "set server members/m-1 state maint",
            "set server members/m-1 addr 10.0.0.1 port 3306",
            "set weight members/m-1 0",
            "set maxconn server members/m-1 0",
        ];
        assert_eq!(commands(&slot(State::Out, "10.0.0.1"), &serving), goes);
        let moves = [
            "set server members/m-1 state maint",
            "set server members/m-1 addr fd00::7 port 3306",
            "set weight members/m-1 50",
            "set maxconn server members/m-1 0",
            "set server members/m-1 state ready",
        ];
        assert_eq!(commands(&slot(State::Serve, "fd00::7"), &serving), moves);
    }

    #[test]
    fn workers_are_told_apart() {
        let text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
            14134           master          2 [failed: 0]   0d00h00m33s     3.2.26-1       \n# workers\n\
            14859           worker          0               0d00h00m00s     3.2.26-1       \n# old workers\n\
            14497           worker          1               0d00h00m18s     3.2.26-1       \n\n";
        let workers = Workers {
            present: Some(14859),
            old: vec![14497],
        };
        assert_eq!(Workers::read(text), workers);
        assert_eq!(Workers::read("# workers\n"), Workers::default());
    }

    #[test]
    fn sessions_of_servers_that_are_down_are_found() {
        let servers = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n\
            3 members 1 m-0 127.0.1.1 0 1 100\n3 members 2 m-1 127.0.1.2 2 0 100\n3 members 3 m-2 127.0.1.2 0 0 100\n";
        let down = down(servers);
        assert_eq!(down, BTreeSet::from(["m-0", "m-2"]));
        let sessions = "0x7f00: proto=tcpv4 src=127.0.0.1:51534 fe=clients be=clients srv=gate ts=00\n\
            0x7f08: proto=unix_stream src=unix:1 fe=members be=members srv=m-1 ts=00\n\
            0x7f10: proto=unix_stream src=unix:1 fe=members be=members srv=m-2 ts=00\n";
        assert_eq!(sessions_of(sessions, &down), ["0x7f10"]);
    }
}
