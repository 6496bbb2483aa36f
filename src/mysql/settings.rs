//! Settings of mysqld that belong to the ring and not to the user.
//!
//! The agent puts its settings on mysqld's command line, which wins over my.cnf. Settings of `SET PERSIST` are not loaded at all. The operator
//! refuses all settings of the list in `spec.mysql.config`, so that no user relies on a value that is never used. Besides the agent's settings,
//! the list holds settings that would break the ring: filters, another data directory, a server without grants or binary log.

/// Every setting that users may not set, normalised as [`normalise`] does.
pub const RING_OWNED: &[&str] = &[
    "admin_address",
    "admin_port",
    "admin_ssl_ca",
    "admin_ssl_capath",
    "admin_ssl_cert",
    "admin_ssl_key",
    "auto_increment_increment",
    "auto_increment_offset",
    "basedir",
    "bind_address",
    "binlog_do_db",
    "binlog_expire_logs_auto_purge",
    "binlog_expire_logs_seconds",
    "binlog_format",
    "binlog_ignore_db",
    "binlog_order_commits",
    "binlog_row_image",
    "bootstrap",
    "chroot",
    "clone",
    "clone_ssl_ca",
    "clone_valid_donor_list",
    "console",
    "create_admin_listener_thread",
    "daemonize",
    "datadir",
    "defaults_extra_file",
    "defaults_file",
    "defaults_group_suffix",
    "disabled_storage_engines",
    "enforce_gtid_consistency",
    "event_scheduler",
    "gtid_mode",
    "init_file",
    "init_replica",
    "init_slave",
    "initialize",
    "initialize_insecure",
    "innodb_flush_log_at_trx_commit",
    "innodb_read_only",
    "log_bin",
    "log_bin_basename",
    "log_bin_index",
    "log_error",
    "log_replica_updates",
    "log_slave_updates",
    "mysqlx",
    "no_defaults",
    "offline_mode",
    "persisted_globals_load",
    "pid_file",
    "plugin_load",
    "plugin_load_add",
    "port",
    "read_only",
    "relay_log",
    "relay_log_basename",
    "relay_log_index",
    "relay_log_purge",
    "relay_log_recovery",
    "relay_log_space_limit",
    "replica_exec_mode",
    "replica_net_timeout",
    "replica_preserve_commit_order",
    "replica_skip_errors",
    "replica_sql_verify_checksum",
    "replicate_do_db",
    "replicate_do_table",
    "replicate_ignore_db",
    "replicate_ignore_table",
    "replicate_rewrite_db",
    "replicate_same_server_id",
    "replicate_wild_do_table",
    "replicate_wild_ignore_table",
    "report_host",
    "report_password",
    "report_port",
    "report_user",
    "secure_file_priv",
    "server_id",
    "session_track_gtids",
    "grant_tables",
    "name_resolve",
    "networking",
    "replica_start",
    "slave_exec_mode",
    "slave_net_timeout",
    "slave_preserve_commit_order",
    "slave_skip_errors",
    "slave_start",
    "socket",
    "sql_require_primary_key",
    "ssl",
    "ssl_ca",
    "ssl_capath",
    "ssl_cert",
    "ssl_key",
    "super_read_only",
    "sync_binlog",
    "upgrade",
    "user",
];

/// The same since a later version, so a founded ring may have them. It goes on without them. They name files, or weaken what the ring relies on.
pub const OWNED_LATER: &[&str] = &[
    "authentication_policy",
    "binlog_row_value_options",
    "binlog_transaction_compression",
    "clone_ssl_cert",
    "clone_ssl_key",
    "general_log_file",
    "partial_revokes",
    "plugin_dir",
    "replica_load_tmpdir",
    "slow_query_log_file",
];

/// One spelling for a key of my.cnf. mysqld accepts any case, `-` or `_`, and the prefixes `loose_`, `skip_`, `disable_`, `enable_` and `maximum_`
/// in front of any option. `skip_networking`, for example, becomes `networking`.
pub fn normalise(key: &str) -> String {
    let key = key.trim().trim_start_matches('-').to_lowercase().replace('-', "_");
    let mut rest = key.as_str();
    while let Some(shorter) = ["loose_", "skip_", "disable_", "enable_", "maximum_"]
        .iter()
        .find_map(|prefix| rest.strip_prefix(prefix))
    {
        rest = shorter;
    }
    rest.to_owned()
}

/// Whether users may not set this key of my.cnf, however it is spelled.
pub fn is_ring_owned(key: &str) -> bool {
    RING_OWNED.contains(&normalise(key).as_str())
}

#[cfg(test)]
mod tests {
    use super::{OWNED_LATER, RING_OWNED, is_ring_owned, normalise};

    #[test]
    fn the_list_is_normalised_and_without_repetition() {
        let all: Vec<&str> = RING_OWNED.iter().chain(OWNED_LATER).copied().collect();
        for (at, setting) in all.iter().enumerate() {
            assert_eq!(normalise(setting), *setting);
            assert!(!all[..at].contains(setting), "{setting} is there twice");
        }
    }

    #[test]
    fn spelling_does_not_matter() {
        for key in [
            "server_id",
            "SERVER-ID",
            "loose-server-id",
            "skip-log-bin",
            "disable_log_bin",
            "loose_skip-networking",
        ] {
            assert!(is_ring_owned(key), "{key}");
        }
        for key in [
            "max_connections",
            "innodb_buffer_pool_size",
            "sql_mode",
            "skip-external-locking",
        ] {
            assert!(!is_ring_owned(key), "{key}");
        }
    }
}
