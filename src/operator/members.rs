//! The operator's way to a member: one SQL connection and one HTTPS client for as long as its pod lives.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use mysql_async::{Conn, prelude::Queryable};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::mysql::io::connection::{Address, PROBE_DEADLINE, SqlError, connect, required, rows};
use crate::mysql::io::hearing::Hearing;
use crate::names::{self, accounts, keys};
use crate::wire::io::client::{AgentClient, AgentError};

/// What the operator has to know to talk to members of one cluster: the contents of its two Secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    passwords: std::collections::BTreeMap<String, String>,
    /// Certificate authority, PEM.
    pub authority: Vec<u8>,
}

impl Credentials {
    /// From the data of `<cluster>-credentials` and `ca.crt` of `<cluster>-tls`.
    pub fn new(passwords: std::collections::BTreeMap<String, String>, authority: Vec<u8>) -> Self {
        Self { passwords, authority }
    }

    /// The value of a key; missing keys were reported before anybody gets here, so a missing one is just a wrong password.
    pub fn get(&self, key: &str) -> &str {
        self.passwords.get(key).map_or("", String::as_str)
    }
}

/// One member's SQL connection and agent.
pub struct MemberClient {
    address: Address,
    conn: Option<Conn>,
    introduced: bool,
    /// A connection on which something may still be carried out.
    doubted: Option<u32>,
    agent: AgentClient,
    /// What its channels have heard, from look to look.
    pub hearing: Hearing,
}

impl MemberClient {
    fn new(address: Address, ip: IpAddr, token: String) -> Result<Self, AgentError> {
        let agent = AgentClient::new(ip, &address.host, names::AGENT_PORT, &address.authority, token)?;
        Ok(Self {
            address,
            conn: None,
            introduced: false,
            doubted: None,
            agent,
            hearing: Hearing::default(),
        })
    }

    /// The member's agent, to be asked while the server is asked too.
    pub fn agent(&self) -> &AgentClient {
        &self.agent
    }

    /// The open connection, or a new one. The first one of this operator to a member kills all older sessions of the operator's account, and
    /// the first one after a doubt that session: a statement of a leader that was frozen, or one that got no answer, must not arrive late.
    ///
    /// # Errors
    /// Whatever keeps it from connecting.
    pub async fn connection(&mut self) -> Result<&mut Conn, SqlError> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => connect(&self.address, PROBE_DEADLINE).await?,
        };
        if !self.introduced {
            kill_sessions(&mut conn, None).await?;
            self.introduced = true;
        } else if let Some(doubted) = self.doubted {
            kill_sessions(&mut conn, Some(doubted)).await?;
        }
        self.doubted = None;
        Ok(self.conn.insert(conn))
    }

    /// The connection that the observation of this pass used. Steps do not reconnect.
    ///
    /// # Errors
    /// [`SqlError::NotConnected`].
    pub fn observed_connection(&mut self) -> Result<&mut Conn, SqlError> {
        self.conn.as_mut().ok_or(SqlError::NotConnected)
    }

    /// Drops the connection, whatever is going on on it.
    pub fn disconnect(&mut self) {
        self.conn = None;
    }

    /// Drops the connection, on which something was sent and not answered. The next one kills what is left of it before it sends anything.
    pub fn distrust(&mut self) {
        self.doubted = self.conn.take().map(|conn| conn.id());
    }

    /// Another account's connection to the same member.
    ///
    /// # Errors
    /// Whatever keeps it from connecting.
    pub async fn connect_as(&self, user: &'static str, password: &str) -> Result<Conn, SqlError> {
        let address = Address {
            user,
            password: password.into(),
            ..self.address.clone()
        };
        connect(&address, PROBE_DEADLINE).await
    }
}

/// Kills other sessions of the operator's account: all of them, or one.
async fn kill_sessions(conn: &mut Conn, only: Option<u32>) -> Result<(), SqlError> {
    let only = only.map_or_else(String::new, |id| format!(" AND ID = {id}"));
    let query = format!(
        "SELECT ID AS id FROM performance_schema.processlist WHERE USER = '{}' AND ID <> CONNECTION_ID(){only}",
        accounts::OPERATOR
    );
    for row in rows(conn, &query).await? {
        let id: u64 = required(&row, "id")?;
        match conn.query_drop(format!("KILL {id}")).await {
            Ok(()) => tracing::info!(session = id, "killed an earlier session of an operator"),
            // 1094: it ended by itself.
            Err(mysql_async::Error::Server(error)) if error.code == 1094 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Clients of all members, by the UID of their pods: a new pod is a new client.
#[derive(Default)]
pub struct MemberClients {
    clients: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone)]
struct Entry {
    made_for: (IpAddr, Credentials),
    agent: AgentClient,
    client: Arc<Mutex<MemberClient>>,
}

impl MemberClients {
    /// The client for a pod; nobody else has it meanwhile.
    ///
    /// # Errors
    /// [`AgentError::Http`] when the authority's certificate or the address cannot be used.
    pub async fn of(
        &self,
        pod_uid: &str,
        ip: IpAddr,
        host: String,
        credentials: &Credentials,
    ) -> Result<OwnedMutexGuard<MemberClient>, AgentError> {
        let entry = self.entry(pod_uid, ip, host, credentials).await?;
        Ok(entry.client.lock_owned().await)
    }

    /// The agent of a pod, whatever is going on with its server.
    ///
    /// # Errors
    /// As [`MemberClients::of`].
    pub async fn agent(
        &self,
        pod_uid: &str,
        ip: IpAddr,
        host: String,
        credentials: &Credentials,
    ) -> Result<AgentClient, AgentError> {
        Ok(self.entry(pod_uid, ip, host, credentials).await?.agent)
    }

    async fn entry(
        &self,
        pod_uid: &str,
        ip: IpAddr,
        host: String,
        credentials: &Credentials,
    ) -> Result<Entry, AgentError> {
        let mut clients = self.clients.lock().await;
        if let Some(entry) = clients.get(pod_uid)
            && entry.made_for == (ip, credentials.clone())
        {
            return Ok(entry.clone());
        }
        let address = Address {
            ip: ip.to_string(),
            host,
            user: accounts::OPERATOR,
            password: credentials.get(keys::OPERATOR).into(),
            authority: credentials.authority.clone(),
        };
        let client = MemberClient::new(address, ip, credentials.get(keys::AGENT_TOKEN).into())?;
        let entry = Entry {
            made_for: (ip, credentials.clone()),
            agent: client.agent.clone(),
            client: Arc::new(Mutex::new(client)),
        };
        clients.insert(pod_uid.into(), entry.clone());
        Ok(entry)
    }

    /// Forgets pods that are gone. `alive` is asked only when there are more clients than pods.
    pub async fn keep_only(&self, pods: usize, alive: impl FnOnce() -> HashSet<String>) {
        let mut clients = self.clients.lock().await;
        if clients.len() > pods {
            let alive = alive();
            clients.retain(|uid, _| alive.contains(uid));
        }
    }
}
