//! Names that several parts of the product, or people with kubectl, rely on.
//!
//! They stay the same in every version: a label that a Service selects, a key of a Secret, a path inside a member's pod. For people, `docs/ring.md`
//! has the labels, annotations and ports, and `docs/tasks.md` the objects and the keys of the Secrets.

/// The API group of every kind of this product.
pub const GROUP: &str = "multimaster.dev";
/// Field manager of all server-side apply of the operator.
pub const FIELD_MANAGER: &str = "multimaster-operator";
/// The Lease in the operator's namespace that its leader holds.
pub const LEASE: &str = "multimaster-operator";

/// Label: the name of the `MultiMasterCluster` an object belongs to.
pub const LABEL_CLUSTER: &str = "multimaster.dev/cluster";
/// Label on a pod: `true` while the member serves. Set and removed by the operator only; Services select it.
pub const LABEL_SERVING: &str = "multimaster.dev/serving";
/// Label on a member's pod: `true` while it serves reads. Set and removed by the operator only; the Service for reads selects it.
pub const LABEL_READS: &str = "multimaster.dev/reads";
/// Annotation on the pod template: hash of the MySQL configuration, so that a change of it makes a new revision.
pub const ANNOTATION_CONFIG_HASH: &str = "multimaster.dev/config-hash";
/// Annotation on a `MultiMasterCluster`: names of members, separated by commas, that are to be fenced.
pub const ANNOTATION_FENCE: &str = "multimaster.dev/fence";
/// Annotation on a `MultiMasterCluster`: any text, a date for example. When the text changes, members are compared at once.
pub const ANNOTATION_COMPARE: &str = "multimaster.dev/compare";

/// Annotation on a `MultiMasterCluster`: the winners of conflicts, `1f3a9c04=demo-0` (the conflict's id and a member), separated by commas.
pub const ANNOTATION_SETTLE: &str = "multimaster.dev/settle";

/// Annotation on a `MultiMasterCluster`: UIDs of clusters, and server UUIDs of volumes without a mark, separated by commas. Volumes that are copies
/// of theirs become this cluster's.
pub const ANNOTATION_ADOPT: &str = "multimaster.dev/adopt";

/// The product's own schema in every member. It is never compared, and clients do not write to it.
pub const SCHEMA: &str = "multimaster";
/// Tag of the GTIDs of the operator's own writes to tables.
pub const GTID_TAG: &str = "multimaster";

/// The port applications use.
pub const MYSQL_PORT: u16 = 3306;
/// `admin_port`. It has its own listener thread and connection limit, so that "too many connections" does not lock the operator out.
pub const MYSQL_ADMIN_PORT: u16 = 33062;
/// The agent's open port: `/livez`, `/readyz` and `/answers` over HTTP.
pub const AGENT_PROBE_PORT: u16 = 9180;
/// The agent's closed port: TLS and a bearer token.
pub const AGENT_PORT: u16 = 9181;

/// HAProxy's port for its peers: which client is with which member.
pub const BALANCER_PEER_PORT: u16 = 9182;
/// HAProxy's port for people and Prometheus: `/` and `/metrics` over HTTP.
pub const BALANCER_STATISTICS_PORT: u16 = 9183;

/// Name of the container that runs HAProxy.
pub const HAPROXY_CONTAINER: &str = "haproxy";
/// Name of the container that runs MySQL.
pub const MYSQL_CONTAINER: &str = "mysql";
/// Name of the init container that copies the agent's binary.
pub const AGENT_INIT_CONTAINER: &str = "agent";

/// Paths inside a member's pod.
pub mod paths {
    /// The volume of the member.
    pub const VOLUME: &str = "/var/lib/mysql";
    /// `datadir`: a folder of the volume, so that the agent can keep its own file beside the directory and replace the whole directory.
    pub const DATA: &str = "/var/lib/mysql/data";
    /// The agent's record of this data directory's life, see [`crate::agent::life`].
    pub const LIFE: &str = "/var/lib/mysql/life.json";
    /// Where the init container puts the binary.
    pub const BINARY: &str = "/multimaster/multimaster";
    /// Scratch space in memory: the socket, the init file.
    pub const RUN: &str = "/run/multimaster";
    /// mysqld's socket.
    pub const SOCKET: &str = "/run/multimaster/mysqld.sock";
    /// The user's part of the MySQL configuration, from the ConfigMap.
    pub const CONFIG: &str = "/etc/multimaster/config/my.cnf";
    /// The Secret with the passwords, a file for each key.
    pub const CREDENTIALS: &str = "/etc/multimaster/credentials";
    /// The Secret with the certificates: `ca.crt`, `tls.crt`, `tls.key`.
    pub const TLS: &str = "/etc/multimaster/tls";
}

/// Keys of the Secret `<cluster>-credentials`.
pub mod keys {
    /// Password of `root@%` and `root@localhost`, for people.
    pub const ROOT: &str = "root-password";
    /// Password of the operator's account.
    pub const OPERATOR: &str = "operator-password";
    /// Password of the agents' account.
    pub const AGENT: &str = "agent-password";
    /// Password of the account that links replicate with.
    pub const REPLICATION: &str = "replication-password";
    /// Password of the application's account (`spec.database.user`).
    pub const APP: &str = "app-password";
    /// Bearer token of the agent's closed port.
    pub const AGENT_TOKEN: &str = "agent-token";
    /// Every key that must be there.
    pub const ALL: [&str; 6] = [ROOT, OPERATOR, AGENT, REPLICATION, APP, AGENT_TOKEN];
}

/// MySQL accounts that the agent sets at every start. Each has only the grants that its work needs.
pub mod accounts {
    /// For administration by people.
    pub const ROOT: &str = "root";
    /// The operator: observes members, opens and fences them, attaches links.
    pub const OPERATOR: &str = "multimaster_operator";
    /// The operator, while it settles a conflict or restores a row. It has the password of [`OPERATOR`].
    pub const SETTLER: &str = "multimaster_settler";
    /// The agent, over the socket, and as donor account of a clone.
    pub const AGENT: &str = "multimaster_agent";
    /// With this account a downstream member logs in at its upstream.
    pub const REPLICATION: &str = "multimaster_replication";
    /// The same at the administrative port. It has the password of [`REPLICATION`], and is an account of its own because an agent of an earlier version
    /// takes back what it does not know of the accounts that it knows.
    pub const LINK: &str = "multimaster_link";
    /// Accounts whose sessions are never killed as client sessions. Whoever fences a member also ends what [`SETTLER`] does there.
    pub const SYSTEM: [&str; 4] = [OPERATOR, AGENT, REPLICATION, LINK];
}

/// Name of the volume claim template, and so the first part of the claims' names.
pub const DATA_VOLUME: &str = "data";

/// Name of the pod, and of the member, with this ordinal.
pub fn member(cluster: &str, ordinal: u8) -> String {
    format!("{cluster}-{ordinal}")
}

/// Name of the PersistentVolumeClaim of the member with this ordinal: the StatefulSet makes it of the claim template's name and the pod's.
pub fn claim(cluster: &str, ordinal: u8) -> String {
    format!("{DATA_VOLUME}-{}", member(cluster, ordinal))
}

/// Name of the headless Service that gives every member its DNS name, ready or not.
pub fn members_service(cluster: &str) -> String {
    format!("{cluster}-members")
}

/// Name of the Service that leads to the members that serve reads.
pub fn reads_service(cluster: &str) -> String {
    format!("{cluster}-reads")
}

/// Name of HAProxy's Deployment and of its PodDisruptionBudget.
pub fn balancer(cluster: &str) -> String {
    format!("{cluster}-balancer")
}

/// DNS name of the cluster's Service. The certificate of all pods has it.
pub fn service_host(cluster: &str, namespace: &str) -> String {
    format!("{cluster}.{namespace}.svc")
}

/// Name of the Secret with the passwords.
pub fn credentials_secret(cluster: &str) -> String {
    format!("{cluster}-credentials")
}

/// Name of the Secret with the cluster's certificate authority and the members' certificate.
pub fn tls_secret(cluster: &str) -> String {
    format!("{cluster}-tls")
}

/// Name of the ConfigMap with the user's MySQL configuration.
pub fn config_map(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// DNS name of a member; also the name in its certificate and the SOURCE_HOST of its downstream's link.
pub fn member_host(cluster: &str, namespace: &str, ordinal: u8) -> String {
    format!(
        "{}.{}.{namespace}.svc",
        member(cluster, ordinal),
        members_service(cluster)
    )
}

/// Whether a host is that of members of any cluster: what [`member_host`] returns for some name and namespace, or all members of one.
pub fn is_member_host(host: &str) -> bool {
    let Some((pod, cluster, _)) = parts_of_member_host(host) else {
        return false;
    };
    let ordinal = || pod.strip_prefix(cluster)?.strip_prefix('-');
    pod == "*" || ordinal().is_some_and(|ordinal| ordinal.parse::<u8>().is_ok())
}

/// Pod, cluster and namespace of a host that has the form of [`member_host`].
fn parts_of_member_host(host: &str) -> Option<(&str, &str, &str)> {
    let [pod, service, namespace, "svc"] = host.split('.').collect::<Vec<_>>()[..] else {
        return None;
    };
    Some((pod, service.strip_suffix("-members")?, namespace))
}

/// Whether a channel is a link to a member of another cluster: its host is what [`member_host`] returns for another name or namespace. A channel
/// of another name, and a host that a person has named by hand, an address for example, are not looked at.
pub fn leads_to_another_cluster(channel: &str, host: &str, cluster: &str, namespace: &str) -> bool {
    let Some((upstream, (pod, theirs, of))) = upstream_of(channel).zip(parts_of_member_host(host)) else {
        return false;
    };
    pod == member(theirs, upstream) && (theirs, of) != (cluster, namespace)
}

/// Ordinal in a server_id: its low four bits are ordinal + 1.
pub fn ordinal_in(server_id: u32) -> Option<u8> {
    u8::try_from(server_id & 0xf).ok()?.checked_sub(1)
}

/// Replication channel of the link whose upstream is `ordinal`.
pub fn channel(upstream: u8) -> String {
    format!("from-{upstream}")
}

/// Ordinal of the upstream in the name of a link's channel; `None` for a channel that is not a link.
pub fn upstream_of(channel: &str) -> Option<u8> {
    channel.strip_prefix("from-")?.parse().ok()
}

/// Ordinal in a name like `demo-2` of the cluster `demo`; `None` for any other name.
pub fn ordinal_of(cluster: &str, name: &str) -> Option<u8> {
    name.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()
}
