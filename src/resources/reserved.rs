//! The ring's own names, mounts and variables in a pod. A template may not remove them.

use crate::names::{DATA_VOLUME, paths};

/// The folder of [`paths::BINARY`].
pub(super) const BINARY_FOLDER: &str = "/multimaster";

/// The folder of [`paths::CONFIG`].
pub(super) const CONFIG_FOLDER: &str = "/etc/multimaster/config";

/// mysqld's temporary files; the root file system is read-only.
pub(super) const TMP: &str = "/tmp";

/// The MySQL container's mounts: volume, path, whether read-only.
pub(crate) const MOUNTS: [(&str, &str, bool); 7] = [
    (DATA_VOLUME, paths::VOLUME, false),
    ("run", paths::RUN, false),
    ("tmp", TMP, false),
    ("binary", BINARY_FOLDER, true),
    ("config", CONFIG_FOLDER, true),
    ("credentials", paths::CREDENTIALS, true),
    ("tls", paths::TLS, true),
];

/// The MySQL container's variables, including those that only some clusters have.
pub(crate) const VARIABLES: [&str; 9] = [
    "POD_NAME",
    "POD_NAMESPACE",
    "POD_IP",
    "CLUSTER",
    "MULTIMASTER_CLUSTER_UID",
    "POSITIONING",
    "LOG_FORMAT",
    "IMAGE",
    "APP_USER",
];
