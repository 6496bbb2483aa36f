//! The balancer: process 1 of an HAProxy container.
//!
//! It runs HAProxy, carries out the operator's orders, and keeps HAProxy running by the last order while the operator is unreachable. HAProxy
//! itself checks the members and takes out members that fail.
//!
//! - [`crate::wire::balancer`]: the contract with the operator.  [`config`]: HAProxy's configuration for an order.
//! - [`haproxy`]: its processes, and the commands while it runs.
//! - [`statistics`]: reads its log and statistics.  [`history`]: what this pod remembers of them.  [`record`]: fills the history.

pub mod config;
mod files;
pub mod haproxy;
pub mod history;
pub mod record;
pub mod statistics;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::args::BalancerArgs;
use crate::logging::start_logging;
use crate::names;
use crate::wire::balancer::{Order, PATH_ORDER, PATH_REPORT, Report};
use crate::wire::history::PATH_HISTORY;
use crate::wire::io::ports::{self, Ports};
use files::write_whole;
use haproxy::HaProxy;
use record::Recorder;

/// How long new connections may still come after SIGTERM: until every node knows that this pod is no endpoint any more.
const ENDPOINTS: Duration = Duration::from_secs(3);
/// From one check of HAProxy's process and of workers of earlier configurations to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// How long this process waits for the last lines of HAProxy's log once HAProxy has ended.
const LAST_LINES: Duration = Duration::from_secs(1);
/// From one check of HAProxy's process to the next while it ends.
const FINISHING: Duration = Duration::from_millis(200);

/// Runs until SIGTERM and the drain after it, or until HAProxy ends by itself (exit code 1).
pub fn main(args: BalancerArgs) -> ExitCode {
    start_logging(args.log_format);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// HAProxy and the order that it carries out.
struct Balancer {
    haproxy: HaProxy,
    order_file: PathBuf,
    /// HAProxy's master process; `None` before the first order. Locked while an order is carried out.
    process: Mutex<Option<Child>>,
    recorder: Arc<Recorder>,
    /// Reads HAProxy's log to its end.
    log: std::sync::Mutex<Option<JoinHandle<()>>>,
    /// A lock of its own, so that probes do not wait for an order.
    report: std::sync::Mutex<Report>,
    /// HAProxy was started.
    serves: AtomicBool,
}

#[tokio::main(flavor = "current_thread")]
async fn run(args: BalancerArgs) -> anyhow::Result<()> {
    // An error means that a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut terminate = signal(SignalKind::terminate())?;
    let balancer = Arc::new(Balancer {
        haproxy: HaProxy {
            run: args.run.clone(),
            pod: args.pod_name.clone(),
            ip: args.pod_ip,
            program: args.haproxy.clone(),
        },
        order_file: args.run.join("order.json"),
        process: Mutex::default(),
        recorder: Arc::default(),
        log: std::sync::Mutex::default(),
        report: std::sync::Mutex::default(),
        serves: AtomicBool::new(false),
    });
    // After a restart of the container HAProxy continues by the last order, whether there is an operator or not.
    if let Some(order) = balancer.last_order()?
        && let Err(error) = Arc::clone(&balancer).follow(order).await
    {
        error!("HAProxy cannot start by the last order; the operator's next order may correct it: {error:#}");
    }
    let open = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready))
        .with_state(Arc::clone(&balancer));
    let closed = Router::new()
        .route(PATH_REPORT, get(report))
        .route(PATH_ORDER, post(follow))
        .route(PATH_HISTORY, get(history))
        .with_state(Arc::clone(&balancer));
    let closed = ports::only_with_token(closed, args.credentials.clone(), || {});
    let at = Ports {
        listen: None,
        open: names::AGENT_PROBE_PORT,
        closed: names::AGENT_PORT,
        tls: &args.tls,
    };
    let servers = ports::serve(at, open, closed).await?;
    let result = tokio::select! {
        result = balancer.watch() => result,
        _ = terminate.recv() => balancer.finish().await,
    };
    servers.stop();
    balancer.last_lines().await;
    result
}

impl Balancer {
    fn last_order(&self) -> anyhow::Result<Option<Order>> {
        let path = self.order_file.display();
        match fs::read(&self.order_file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("cannot read {path}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
        }
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        // After a panic while the lock was held the data is still usable.
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on the last lines of HAProxy's log, once HAProxy has ended.
    async fn last_lines(&self) {
        let log = self.log().take();
        if let Some(log) = log
            && timeout(LAST_LINES, log).await.is_err()
        {
            warn!("HAProxy has ended and its log has not");
        }
    }

    /// Carries out an order, and stores it for a restart of the container.
    async fn follow(self: Arc<Self>, order: Order) -> anyhow::Result<()> {
        let mut process = self.process.lock().await;
        let result = self.carry_out(&mut process, &order).await;
        self.report().problem = result.as_ref().err().map(|error| format!("{error:#}"));
        result?;
        self.report().order = Some(order.clone());
        write_whole(&self.order_file, &serde_json::to_vec(&order)?)?;
        self.look_after_earlier_workers().await;
        Ok(())
    }

    async fn carry_out(&self, process: &mut Option<Child>, order: &Order) -> anyhow::Result<()> {
        let before = self.report().order.clone();
        match before {
            _ if process.is_none() => {
                self.haproxy.write(order)?;
                let mut started = self.haproxy.start().await?;
                let log = started.stdout.take().context("HAProxy's log")?;
                *self.log() = Some(tokio::spawn(Arc::clone(&self.recorder).read(log)));
                *process = Some(started);
                self.serves.store(true, Ordering::Relaxed);
                info!("HAProxy serves");
                Ok(())
            }
            Some(before) if before.settings == order.settings && before.peers == order.peers => {
                // For the next reload.
                self.haproxy.write(order)?;
                let mut result = Ok(());
                for (slot, before) in order
                    .slots
                    .iter()
                    .zip(&before.slots)
                    .filter(|(slot, before)| slot != before)
                {
                    info!(?slot, "a member's slot changes");
                    // If one slot cannot be changed, the others are changed all the same: sessions may have to be closed there.
                    result = result.and(self.haproxy.set(slot, before).await);
                }
                if result.is_err() {
                    // HAProxy now follows neither order as a whole. Without `order` the operator's next order is a reload.
                    self.report().order = None;
                }
                result
            }
            before => {
                self.haproxy.write(order)?;
                let reloaded = self.haproxy.reload().await;
                if let (Err(_), Some(before)) = (&reloaded, &before) {
                    self.haproxy.write(before)?;
                }
                reloaded?;
                info!("HAProxy has another configuration");
                Ok(())
            }
        }
    }

    async fn look_after_earlier_workers(&self) {
        if let Err(error) = self.haproxy.cut().await {
            warn!("cannot look after sessions of an earlier configuration: {error:#}");
        }
    }

    /// Checks HAProxy again and again. Ends when HAProxy ends.
    async fn watch(&self) -> anyhow::Result<()> {
        loop {
            // A change of state is sampled when HAProxy logs it, not up to a second later.
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = self.recorder.message() => {}
            }
            let mut process = self.process.lock().await;
            let Some(running) = process.as_mut() else { continue };
            if let Some(status) = running.try_wait()? {
                bail!("HAProxy ended: {status}");
            }
            self.look_after_earlier_workers().await;
            drop(process);
            self.recorder.sample(&self.haproxy).await;
        }
    }

    /// Drains this pod: takes no new connection, and ends when the last session has ended. If that takes too long, the kubelet kills the pod.
    ///
    /// Meanwhile HAProxy continues to check the members. A HAProxy that gets its own signal to finish checks no member any more, and would keep the
    /// sessions of a member that is frozen meanwhile.
    async fn finish(&self) -> anyhow::Result<()> {
        if self.process.lock().await.is_none() {
            return Ok(());
        }
        info!("draining: no new connections from now on; open sessions stay");
        let drained = async {
            tokio::time::sleep(ENDPOINTS).await;
            if let Err(error) = self.haproxy.refuse().await {
                warn!("new connections are still taken: {error:#}");
            }
            self.last_session().await;
        };
        tokio::select! {
            result = self.watch() => return result,
            () = drained => {}
        }
        let mut process = self.process.lock().await;
        let Some(process) = process.as_mut() else {
            return Ok(());
        };
        if let Some(pid) = process.id() {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(Pid::from_raw)
                .context("HAProxy's process id")?;
            kill_process(pid, Signal::USR1).context("telling HAProxy to finish")?;
        }
        while process.try_wait()?.is_none() {
            tokio::time::sleep(FINISHING).await;
        }
        Ok(())
    }

    /// Waits until no client has a connection to any member.
    async fn last_session(&self) {
        loop {
            match self.haproxy.statistics().await {
                Ok(workers)
                    if workers
                        .iter()
                        .flat_map(|(_, rows)| rows)
                        .all(|row| row.connections == 0) =>
                {
                    return;
                }
                Ok(_) => {}
                Err(error) => warn!("cannot read whether sessions are open: {error:#}"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

async fn ready(State(balancer): State<Arc<Balancer>>) -> Response {
    if balancer.serves.load(Ordering::Relaxed) {
        return "ok\n".into_response();
    }
    let problem = balancer.report().problem.clone();
    let why = problem.unwrap_or_else(|| "there is no order of the operator yet".into());
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

async fn report(State(balancer): State<Arc<Balancer>>) -> Response {
    Json(balancer.report().clone()).into_response()
}

/// Query of a request for the history.
#[derive(serde::Deserialize)]
struct HistoryQuery {
    since: Option<jiff::Timestamp>,
}

async fn history(State(balancer): State<Arc<Balancer>>, Query(query): Query<HistoryQuery>) -> Response {
    Json(balancer.recorder.extract(query.since)).into_response()
}

/// Carries out an order to its end, also when the operator does not wait for the answer.
async fn follow(State(balancer): State<Arc<Balancer>>, Json(order): Json<Order>) -> Response {
    let why = match tokio::spawn(balancer.follow(order)).await {
        Ok(Ok(())) => return "done\n".into_response(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(error) => error.to_string(),
    };
    error!("an order could not be carried out: {why}");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response()
}
