//! One binary, several roles; see [`multimaster::args`].

use std::process::ExitCode;

use clap::Parser;
use multimaster::agent;
use multimaster::api::crd;
use multimaster::args::{Args, OperatorArgs, Role};
use multimaster::balancer;
use multimaster::logging::start_logging;
use multimaster::operator::controller::{self, Options};
use multimaster::resources::Settings;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let result = match Args::parse().role {
        Role::Operator(args) => operator(args),
        Role::Crd => print_crd(),
        Role::Agent(args) => return agent::main(args),
        Role::Balancer(args) => return balancer::main(args),
        Role::Install(args) => return agent::install::main(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd() -> anyhow::Result<()> {
    print!("{}", serde_yaml_ng::to_string(&crd()?)?);
    Ok(())
}

#[tokio::main]
async fn operator(args: OperatorArgs) -> anyhow::Result<()> {
    start_logging(args.log_format);
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
    let settings = Settings {
        operator_image: args.operator_image,
        default_mysql_image: args.mysql_image,
        default_haproxy_image: args.haproxy_image,
        log_format: format!("{:?}", args.log_format),
    };
    let options = Options {
        settings,
        identity: args.pod_name,
        namespace: args.pod_namespace,
        address: args.listen,
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    controller::run(options, Box::pin(stop)).await
}
