//! The init file, run at every start of mysqld: it sets the system accounts from the Secret, and makes the table of conflicts and the procedure
//! for clients.
//!
//! mysqld runs the file before it listens, also under `super_read_only`. With `sql_log_bin=0` the file leaves no GTID. At the first statement that
//! fails mysqld stops reading the file, and starts all the same. So the agent's own account comes last: if the agent can log in, every statement
//! before it was carried out.

use super::read_your_writes;
use crate::mysql::quote::literal;
use crate::mysql::schema;
use crate::names::accounts::{AGENT, LINK, OPERATOR, REPLICATION, ROOT, SETTLER};

/// Passwords from the Secret.
pub struct Passwords {
    /// Password of `root`.
    pub root: String,
    /// Password of the operator's accounts.
    pub operator: String,
    /// Password of the agents' account.
    pub agent: String,
    /// Password of the links' account.
    pub replication: String,
    /// Name and password of the application's user.
    pub app: Option<(String, String)>,
}

/// Whether an account may log in without TLS.
#[derive(Clone, Copy)]
enum Tls {
    /// For people, and for connections over the socket: `REQUIRE SSL` refuses sockets.
    Optional,
    /// For the product's own connections over the network.
    Required,
}

/// Privileges of `root`, and the level they are granted on.
const ALL_ON_ALL: &[(&str, &str)] = &[("ALL PRIVILEGES", "*.*")];
/// The operator observes, fences (`SYSTEM_USER`: sessions of root too), attaches links (`RELOAD`: for `RESET REPLICA`) and compares members
/// (`SELECT`, `SHOW VIEW`, `SHOW_ROUTINE`, `TRIGGER`, `EVENT`: without them MySQL shows no definitions). `SERVICE_CONNECTION_ADMIN`: the administrative port, which is free when ordinary connections are used up.
const OPERATOR_MAY: &[(&str, &str)] = &[
    (
        "SELECT, TRIGGER, EVENT, SHOW VIEW, PROCESS, RELOAD, REPLICATION CLIENT, CONNECTION_ADMIN, REPLICATION_SLAVE_ADMIN, \
         SERVICE_CONNECTION_ADMIN, SHOW_ROUTINE, SESSION_VARIABLES_ADMIN, SYSTEM_USER, SYSTEM_VARIABLES_ADMIN",
        "*.*",
    ),
    ("SELECT", "performance_schema.*"),
    ("SELECT", "multimaster.*"),
];
/// A conflict is settled by reading a binary log (`REPLICATION SLAVE`), carrying out row events under their own GTID (`REPLICATION_APPLIER`), writing
/// rows of any table, also at a fenced member (`CONNECTION_ADMIN`, `SYSTEM_VARIABLES_ADMIN`), and starting the applier. `TRIGGER` shows whether a
/// table has triggers. `TABLE_ENCRYPTION_ADMIN`: the copy of a row is encrypted as its table is. `EVENT`, `SHOW VIEW`, `SHOW_ROUTINE`: definitions of
/// two members are compared. `CREATE USER`, `SYSTEM_USER`: an account that two members created gets one password.
const SETTLER_MAY: &[(&str, &str)] = &[
    (
        "SELECT, INSERT, UPDATE, DELETE, TRIGGER, EVENT, SHOW VIEW, CREATE USER, REPLICATION SLAVE, REPLICATION CLIENT, CONNECTION_ADMIN, \
         REPLICATION_APPLIER, REPLICATION_SLAVE_ADMIN, SERVICE_CONNECTION_ADMIN, SESSION_VARIABLES_ADMIN, SHOW_ROUTINE, SYSTEM_USER, SYSTEM_VARIABLES_ADMIN, \
         TABLE_ENCRYPTION_ADMIN, TRANSACTION_GTID_TAG",
        "*.*",
    ),
    ("SELECT", "performance_schema.*"),
    ("CREATE, DROP", "multimaster.*"),
];
/// Over the network the agents' account is used for one thing: the recipient of a clone logs in at the donor, at the administrative port.
const AGENT_AS_DONOR_MAY: &[(&str, &str)] = &[("BACKUP_ADMIN, SERVICE_CONNECTION_ADMIN", "*.*")];
/// The agent reads the state, starts and resets stored links, clones, and fences (`PROCESS`, `SYSTEM_USER`: all sessions, also those of root).
/// `CONNECTION_ADMIN`: one connection more than `max_connections`.
const AGENT_MAY: &[(&str, &str)] = &[
    (
        "PROCESS, RELOAD, REPLICATION CLIENT, SHUTDOWN, CLONE_ADMIN, CONNECTION_ADMIN, REPLICATION_SLAVE_ADMIN, SYSTEM_USER, \
         SYSTEM_VARIABLES_ADMIN",
        "*.*",
    ),
    ("SELECT", "performance_schema.*"),
];
const REPLICATION_MAY: &[(&str, &str)] = &[("REPLICATION SLAVE", "*.*")];
/// Links connect to the administrative port, where applications leave them their place.
const LINK_MAY: &[(&str, &str)] = &[("REPLICATION SLAVE, SERVICE_CONNECTION_ADMIN", "*.*")];

/// The init file: one statement a line. `is_copy`: the volume is a copy, so nobody replicates from it.
pub fn init_file(passwords: &Passwords, is_copy: bool) -> String {
    let mut lines = vec![
        "SET SESSION sql_log_bin=0;".to_owned(),
        // `literal` writes backslash escapes, which NO_BACKSLASH_ESCAPES in the user's configuration would switch off.
        "SET SESSION sql_mode='';".to_owned(),
    ];
    lines.extend(schema::create());
    account(
        &mut lines,
        ROOT,
        "localhost",
        &passwords.root,
        Tls::Optional,
        ALL_ON_ALL,
        true,
    );
    account(&mut lines, ROOT, "%", &passwords.root, Tls::Optional, ALL_ON_ALL, true);
    lines.extend(read_your_writes::CREATE.map(str::to_owned));
    account(
        &mut lines,
        OPERATOR,
        "%",
        &passwords.operator,
        Tls::Required,
        OPERATOR_MAY,
        false,
    );
    account(
        &mut lines,
        SETTLER,
        "%",
        &passwords.operator,
        Tls::Required,
        SETTLER_MAY,
        false,
    );
    for (user, grants) in [(REPLICATION, REPLICATION_MAY), (LINK, LINK_MAY)] {
        let password = &passwords.replication;
        account(&mut lines, user, "%", password, Tls::Required, grants, false);
        if is_copy {
            lines.push(format!("ALTER USER {}@'%' ACCOUNT LOCK;", literal(user)));
        }
    }
    if let Some((user, password)) = &passwords.app {
        lines.push(format!(
            "ALTER USER IF EXISTS {}@'%' IDENTIFIED BY {} PASSWORD HISTORY 0;",
            literal(user),
            literal(password)
        ));
    }
    account(
        &mut lines,
        AGENT,
        "%",
        &passwords.agent,
        Tls::Required,
        AGENT_AS_DONOR_MAY,
        false,
    );
    account(
        &mut lines,
        AGENT,
        "localhost",
        &passwords.agent,
        Tls::Optional,
        AGENT_MAY,
        false,
    );
    lines.push(String::new());
    lines.join("\n")
}

/// Adds the statements that make an account exactly this, whatever it was before. No password policy of the user's configuration refuses the
/// same password at the next start, lets it expire, or locks the account.
fn account(
    lines: &mut Vec<String>,
    user: &str,
    host: &str,
    password: &str,
    tls: Tls,
    grants: &[(&str, &str)],
    grant_option: bool,
) {
    let name = format!("{}@{}", literal(user), literal(host));
    let require = match tls {
        Tls::Optional => "NONE",
        Tls::Required => "SSL",
    };
    let definition = format!(
        "{name} IDENTIFIED WITH caching_sha2_password BY {} REQUIRE {require} PASSWORD EXPIRE NEVER PASSWORD HISTORY 0 \
         PASSWORD REUSE INTERVAL 0 DAY PASSWORD REQUIRE CURRENT OPTIONAL FAILED_LOGIN_ATTEMPTS 0 ACCOUNT UNLOCK;",
        literal(password)
    );
    lines.push(format!("CREATE USER IF NOT EXISTS {definition}"));
    lines.push(format!("ALTER USER {definition}"));
    lines.push(format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {name};"));
    for (privileges, level) in grants {
        let option = if grant_option { " WITH GRANT OPTION" } else { "" };
        lines.push(format!("GRANT {privileges} ON {level} TO {name}{option};"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        Passwords {
            root: "r'oot;\nDROP".into(),
            operator: "o".into(),
            agent: r"a\".into(),
            replication: "p".into(),
            app: Some(("shop".into(), "s".into())),
        }
    }

    #[test]
    fn it_is_unlogged_from_the_first_statement_and_has_one_statement_a_line() {
        let file = init_file(&passwords(), false);
        assert!(file.starts_with("SET SESSION sql_log_bin=0;\nSET SESSION sql_mode='';\n"));
        assert!(file.ends_with(";\n"));
        assert!(
            file.lines()
                .filter(|line| !read_your_writes::CREATE.contains(line))
                .all(|line| line.ends_with(';') && line.contains(' ')),
            "{file}"
        );
        assert!(file.contains(r"BY 'r\'oot;\nDROP' REQUIRE NONE"));
        assert!(file.contains(r"BY 'a\\' REQUIRE NONE"));
        assert!(file.contains("ALTER USER IF EXISTS 'shop'@'%' IDENTIFIED BY 's'"));
    }

    #[test]
    fn the_agents_own_account_is_last() {
        let file = init_file(&passwords(), false);
        assert!(
            file.lines()
                .last()
                .unwrap()
                .ends_with("TO 'multimaster_agent'@'localhost';")
        );
    }

    #[test]
    fn what_crosses_the_network_needs_tls() {
        let file = init_file(&passwords(), false);
        for user in [OPERATOR, SETTLER, AGENT, REPLICATION, LINK] {
            let line = format!("ALTER USER '{user}'@'%' ");
            assert!(
                file.lines()
                    .any(|l| l.starts_with(&line) && l.contains(" REQUIRE SSL ")),
                "{user}"
            );
        }
    }

    #[test]
    fn only_root_may_grant() {
        let file = init_file(&passwords(), false);
        assert!(
            file.lines()
                .filter(|l| l.contains("WITH GRANT OPTION"))
                .all(|l| l.contains("TO 'root'@"))
        );
    }
}
