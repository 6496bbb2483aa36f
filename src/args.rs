//! The command line: one binary with several roles.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::api::Positioning;
use crate::names;

/// Multi-master MySQL rings on Kubernetes that heal.
#[derive(Debug, Parser)]
#[command(name = "multimaster", version, about)]
pub struct Args {
    /// The role of this process.
    #[command(subcommand)]
    pub role: Role,
}

/// The role of this process.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Role {
    /// Watch MultiMasterClusters and carry them out.
    Operator(OperatorArgs),
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Run mysqld: process 1 of a member's MySQL container.
    Agent(AgentArgs),
    /// Run HAProxy: process 1 of a balancer's container.
    Balancer(BalancerArgs),
    /// Copy this binary into a folder, for the container beside it to start.
    Install(InstallArgs),
}

/// Arguments of `operator`. In a pod all come from the environment.
#[derive(Clone, Debug, clap::Args)]
pub struct OperatorArgs {
    /// This replica's name in the lease.
    #[arg(long, env = "POD_NAME", default_value = "on-a-host")]
    pub pod_name: String,
    /// Namespace of the lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub pod_namespace: String,
    /// The operator's own image: members' pods copy the agent out of it.
    #[arg(long, env = "OPERATOR_IMAGE")]
    pub operator_image: String,
    /// The image of members where `spec.image` is unset.
    #[arg(long, env = "MYSQL_IMAGE", default_value = "mysql:9.7")]
    pub mysql_image: String,
    /// The image of HAProxy where `spec.balancer.image` is unset.
    #[arg(long, env = "HAPROXY_IMAGE", default_value = "haproxy:3.2")]
    pub haproxy_image: String,
    /// Where `/healthz`, `/readyz`, `/metrics` and `/v1/clusters/{namespace}/{name}/history` are served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// `Text` or `Json`.
    #[arg(long, env = "LOG_FORMAT", default_value = "Text")]
    pub log_format: LogFormat,
}

/// Arguments of `balancer`. In a pod all come from the environment.
#[derive(Clone, Debug, clap::Args)]
pub struct BalancerArgs {
    /// Name of the pod; HAProxy's peers know it by this name.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// IP address of the pod.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: IpAddr,
    /// `Text` or `Json`.
    #[arg(long, env = "LOG_FORMAT", default_value = "Text")]
    pub log_format: LogFormat,
    /// Folder for HAProxy's configuration and sockets, and for the last order.
    #[arg(long, default_value = names::paths::RUN)]
    pub run: PathBuf,
    /// Folder with the token.
    #[arg(long, default_value = names::paths::CREDENTIALS)]
    pub credentials: PathBuf,
    /// Folder with the certificates.
    #[arg(long, default_value = names::paths::TLS)]
    pub tls: PathBuf,
    /// HAProxy's program.
    #[arg(long, default_value = "haproxy")]
    pub haproxy: String,
}

/// Arguments of `install`.
#[derive(Debug, clap::Args)]
pub struct InstallArgs {
    /// The folder; the binary becomes `<folder>/multimaster`.
    pub folder: PathBuf,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Arguments of `agent`. In a pod all come from the environment.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArgs {
    /// Name of the pod, `<cluster>-<ordinal>`.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// Namespace of the pod.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: String,
    /// IP address of the pod; mysqld's admin interface listens there.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: IpAddr,
    /// Name of the MultiMasterCluster.
    #[arg(long, env = "CLUSTER")]
    pub cluster: String,
    /// UID of the MultiMasterCluster. A pod of an earlier version of the operator has none; no volume is of this cluster then.
    #[arg(long, env = "MULTIMASTER_CLUSTER_UID", default_value = "")]
    pub cluster_uid: String,
    /// `Gtid` or `FilePosition`: in FilePosition the agent leaves starting the links to the operator.
    #[arg(long, env = "POSITIONING", default_value = "Gtid", value_parser = positioning)]
    pub positioning: Positioning,
    /// The application's user (`spec.database.user`), whose password is set at every start if it exists.
    #[arg(long, env = "APP_USER")]
    pub app_user: Option<String>,
    /// `Text` or `Json`.
    #[arg(long, env = "LOG_FORMAT", default_value = "Text")]
    pub log_format: LogFormat,
    /// Name of the container's image, for messages only.
    #[arg(long, env = "IMAGE")]
    pub image: Option<String>,

    /// Address of the API server; Kubernetes gives it to every container. The agent only checks whether it can be reached.
    #[arg(long, env = "KUBERNETES_SERVICE_HOST")]
    pub api_host: Option<String>,
    /// Port of the API server.
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", default_value_t = 443)]
    pub api_port: u16,

    // From here on for tests; flags only, because Kubernetes makes variables like AGENT_PORT out of Services' names.
    /// The member's volume.
    #[arg(long, default_value = names::paths::VOLUME)]
    pub volume: PathBuf,
    /// Scratch space: the socket and the init file.
    #[arg(long, default_value = names::paths::RUN)]
    pub run: PathBuf,
    /// The user's MySQL configuration.
    #[arg(long, default_value = names::paths::CONFIG)]
    pub config: PathBuf,
    /// Folder with the passwords.
    #[arg(long, default_value = names::paths::CREDENTIALS)]
    pub credentials: PathBuf,
    /// Folder with the certificates.
    #[arg(long, default_value = names::paths::TLS)]
    pub tls: PathBuf,
    /// Where the reason of a failure is written for the kubelet.
    #[arg(long, default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
    /// mysqld's command, split at white space.
    #[arg(long, default_value = "mysqld")]
    pub mysqld: String,
    /// More arguments of mysqld, split at white space; they come last and win.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub mysqld_args: String,
    /// Address that the agent's own ports listen on. Unset: every address, IPv6 too where the pod has it.
    #[arg(long)]
    pub listen: Option<IpAddr>,
    /// Port of mysqld.
    #[arg(long, default_value_t = names::MYSQL_PORT)]
    pub mysql_port: u16,
    /// mysqld's administrative port, and that of the donor of a clone.
    #[arg(long, default_value_t = names::MYSQL_ADMIN_PORT)]
    pub mysql_admin_port: u16,
    /// The open port with the probes.
    #[arg(long, default_value_t = names::AGENT_PROBE_PORT)]
    pub probe_port: u16,
    /// The closed port with report and orders.
    #[arg(long, default_value_t = names::AGENT_PORT)]
    pub port: u16,
}

fn positioning(text: &str) -> Result<Positioning, String> {
    match text {
        "Gtid" => Ok(Positioning::Gtid),
        "FilePosition" => Ok(Positioning::FilePosition),
        _ => Err("it is Gtid or FilePosition".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
