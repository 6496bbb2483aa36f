//! What the tests share: waiting for conditions, commands, namespaces.

pub mod history;
pub mod network;
pub mod node;
pub mod operator;
pub mod ring;
pub mod sql;
pub mod stubborn;
pub mod times;
pub mod volume;
pub mod world;
pub mod writers;

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;

use times::timed;

/// How long a condition may take. No test asserts a time: this only ends what would never end.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// How often a condition is looked at.
pub const INTERVAL: Duration = Duration::from_millis(400);
/// How long an answer over HTTP may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The context of the cluster that the tests may use, and disturb, as they like.
pub const CONTEXT: &str = "MULTIMASTER_TEST_CONTEXT";

/// Looks until `look` is `Ok`; its `Err` says what was seen instead.
///
/// # Errors
/// After [`PATIENCE`], with what was seen last; and where the time cannot be written ([`times`]).
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let started = Instant::now();
    let seen = async {
        loop {
            match look().await {
                Ok(value) => {
                    eprintln!("{what}: after {:.1} s", started.elapsed().as_secs_f64());
                    return Ok(value);
                }
                Err(seen) if started.elapsed() > PATIENCE => {
                    return Err(seen.context(format!("waited {PATIENCE:?} in vain for: {what}; last seen")));
                }
                Err(_) => tokio::time::sleep(INTERVAL).await,
            }
        }
    };
    timed(what, seen).await
}

/// One of several behaviours that a ring shows one after the other: to found a ring for each of them would take longer than what they show.
///
/// # Errors
/// The part's, with its name.
pub async fn part(name: &str, body: impl Future<Output = Result<()>>) -> Result<()> {
    eprintln!("part: {name}");
    timed(&format!("part: {name}"), body)
        .await
        .with_context(|| name.to_owned())
}

/// Name of the kube context.
///
/// # Errors
/// When the environment does not name one.
pub fn kube_context() -> Result<String> {
    std::env::var(CONTEXT).with_context(|| format!("{CONTEXT} must name a kube context; hack/test.sh does"))
}

/// Runs a program to its end; its output, whether it succeeded or not.
///
/// # Errors
/// When it cannot be run.
pub async fn output(program: &str, arguments: &[&str], input: &str) -> Result<std::process::Output> {
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("running {program}"))?;
    let mut stdin = child.stdin.take().context("stdin")?;
    // A program that does not read its input ends with it unread.
    drop(stdin.write_all(input.as_bytes()).await);
    drop(stdin);
    tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .with_context(|| format!("{program} {arguments:?} does not end"))?
        .with_context(|| format!("{program} {arguments:?}"))
}

/// Runs a program that must succeed; what it printed.
///
/// # Errors
/// When it fails, with what it said.
pub async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let output = output(program, arguments, input).await?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `kubectl` against the tests' cluster.
///
/// # Errors
/// When it fails.
pub async fn kubectl(arguments: &[&str]) -> Result<String> {
    let context = kube_context()?;
    run("kubectl", &[&["--context", &context], arguments].concat(), "").await
}

/// `GET`, over HTTP: the status, and what was said.
///
/// # Errors
/// When there is no answer.
pub async fn http_get(url: &str, token: Option<&str>) -> Result<(u16, String)> {
    // Another test may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let mut request = http.get(url).timeout(ANSWER);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Lets pods onto all nodes again.
///
/// # Errors
/// When `kubectl` fails.
pub async fn uncordon() -> Result<()> {
    kubectl(&["uncordon", "--selector=!node-role.kubernetes.io/control-plane"])
        .await
        .map(drop)
}

/// `docker`, where the nodes are containers.
///
/// # Errors
/// When it fails.
pub async fn docker(arguments: &[&str]) -> Result<String> {
    run("docker", arguments, "").await
}
