//! The agent: process 1 of a member's MySQL container.
//!
//! The agent prepares the data directory, starts mysqld fenced (`super_read_only`) with the ring's settings on its command line, sets the system
//! accounts, and starts mysqld again when it ends. On an order of the operator it clones the member, empties it, or begins a new life. The agent
//! never opens a member: the operator decides that.
//!
//! - [`life`]: the record beside the data directory: whose history the directory holds, and what was under way at a crash.
//! - [`directory`]: the data directory itself, while mysqld is down.
//! - [`relay_logs`]: relay logs that a new life takes over from the life before.
//! - [`mysqld`]: the command line, the process and its output.  [`accounts`]: the init file.  [`sql`]: the agent's connections.
//! - [`supervise`]: the loop that owns the directory and mysqld.  [`arrival`]: the work after a start of mysqld.
//! - [`clone`]: one attempt to become a copy of a donor.
//! - [`isolation`]: fences a member that is cut off.
//! - [`lease`]: fences a writer whose lease has ended.
//! - [`api`]: probes, report and orders.
//! - [`volume`]: how full the volume is.
//! - [`install`]: copies the binary into the MySQL container.

pub mod accounts;
pub mod api;
pub mod arrival;
pub mod clone;
pub mod clone_failures;
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

/// Bytes of a termination message. The kubelet shows 4 kB at most; this leaves room for the text around it.
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
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (orders, inbox) = tokio::sync::mpsc::channel(8);
        let shared = Arc::new(Shared::new(&member));
        let (member, http) = (Arc::new(member), api::http_client()?);
        let servers = api::serve(Arc::clone(&member), Arc::clone(&shared), http.clone(), orders).await?;
        // Tasks of their own, so that their checks come in time although the loop is busy.
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
    // A probe that waits for a frozen mysqld must not keep the process from ending.
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
