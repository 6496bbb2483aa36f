//! The agent: process 1 of a member's MySQL container.
//!
//! It prepares the data directory, starts mysqld fenced (`super_read_only`) with what the ring owns on its command line,
//! sets the system accounts, keeps it running, and rebuilds or renews the directory when the operator orders it. It never
//! opens a member: that is the operator's decision.
//!
//! - [`life`]: the record beside the data directory that says whose history it holds, and what was under way at a crash.
//! - [`directory`]: the data directory itself, while mysqld is down.
//! - [`relay_logs`]: what a new life has to do to those of the one before it.
//! - [`mysqld`]: the command line, the process and its output.  [`accounts`]: the init file.  [`sql`]: its connection.
//! - [`supervise`]: the loop that owns all of it.  [`arrival`]: what a start owes.
//! - [`clone`]: one attempt to become a copy of a donor.
//! - [`isolation`]: fences a member that is cut off from everybody.
//! - [`lease`]: fences a writer that nobody confirms any more.
//! - [`api`]: probes, report and orders.
//! - [`volume`]: is there room.
//! - [`install`]: how the binary gets into the MySQL container.

pub mod accounts;
pub mod api;
pub mod arrival;
pub mod clone;
pub mod directory;
pub mod install;
pub mod isolation;
pub mod lease;
pub mod life;
pub mod member;
pub mod mysqld;
pub mod read_your_writes;
pub mod relay_logs;
pub mod sql;
pub mod supervise;
pub mod volume;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tracing::{error, info, warn};

use crate::args::AgentArgs;
use crate::logging::start_logging;
use member::{Member, Shared};

/// Most that the kubelet shows of a termination message is 4 kB; this leaves room for what surrounds it.
const TERMINATION_MESSAGE: usize = 2048;

/// Runs the agent until SIGTERM or a failure that only a restart of the container, or a person, can cure.
pub fn main(args: AgentArgs) -> ExitCode {
    start_logging(args.log_format);
    let termination_log = args.termination_log.clone();
    match run(args) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let message = format!("{error:#}");
            error!("{message}");
            write_termination_message(&termination_log, &message);
            ExitCode::FAILURE
        }
    }
}

fn run(args: AgentArgs) -> anyhow::Result<()> {
    let member = Member::new(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        // Twice is an error of no consequence: the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (orders, inbox) = tokio::sync::mpsc::channel(8);
        let shared = Arc::new(Shared::new(&member));
        let (member, http) = (Arc::new(member), api::http_client()?);
        let servers = api::serve(Arc::clone(&member), Arc::clone(&shared), http.clone(), orders).await?;
        // Tasks of their own: their looks must come in time, whatever the loop is busy with.
        let volume = tokio::spawn(volume::watch(member.args.volume.clone(), Arc::clone(&shared)));
        let watch = tokio::spawn(isolation::watch(Arc::clone(&member), Arc::clone(&shared), http));
        let lease = tokio::spawn(lease::watch::watch(Arc::clone(&member), Arc::clone(&shared)));
        let result = tokio::select! {
            result = supervise::run(member, shared, inbox) => result,
            Err(error) = watch => Err(error).context("the watch for isolation ended"),
            Err(error) = lease => Err(error).context("the watch of the lease ended"),
        };
        volume.abort();
        servers.stop();
        result
    });
    // A probe that hangs in a frozen mysqld's socket must not keep the process.
    runtime.shutdown_background();
    result
}

/// Keeps the end of a message that is too long: the last lines of mysqld's output say what happened.
fn write_termination_message(path: &Path, message: &str) {
    let mut from = message.len().saturating_sub(TERMINATION_MESSAGE);
    while !message.is_char_boundary(from) {
        from += 1;
    }
    if let Err(error) = std::fs::write(path, &message[from..]) {
        warn!(path = %path.display(), %error, "cannot write the termination message");
    }
}
