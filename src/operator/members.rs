//! The operator's connections to a member: one SQL connection and one HTTPS client for as long as its pod lives.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::Conn;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::mysql::io::connection::{ANSWER, Address, PROBE_DEADLINE, SqlError, close, connect, required, rows};
use crate::mysql::io::contact::Contacts;
use crate::mysql::io::statements::kill;
use crate::names::{self, accounts, keys};
use crate::wire::io::client::{AgentClient, AgentError};

/// How long records are not read after an answer that was too long.
const WITHOUT_RECORDS: Duration = Duration::from_secs(60);

/// What the operator needs to connect to members of one cluster: the contents of its two Secrets.
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

    /// The value of a key. `observe` reports missing keys before this is called, so a missing key is just a wrong password here.
    pub fn get(&self, key: &str) -> &str {
        self.passwords.get(key).map_or("", String::as_str)
    }
}

/// One member's SQL connection and agent.
pub struct MemberClient {
    address: Address,
    conn: Option<Conn>,
    /// Older sessions of the operator's accounts were killed.
    introduced: bool,
    /// Id of a connection on which a statement may still be carried out.
    doubted: Option<u32>,
    agent: AgentClient,
    /// Read positions of its channels, from observation to observation.
    pub contacts: Contacts,
    /// When an answer was last too long to be read.
    too_long: Option<Instant>,
}

impl Drop for MemberClient {
    fn drop(&mut self) {
        self.disconnect();
    }
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
            contacts: Contacts::default(),
            too_long: None,
        })
    }

    /// The client of the member's agent. It can be used at the same time as the SQL connection.
    pub fn agent(&self) -> &AgentClient {
        &self.agent
    }

    /// The open connection, or a new one. This operator's first connection to a member kills all older sessions of the operator's accounts: a
    /// statement of a leader that was frozen must not be carried out late. The first connection after [`MemberClient::distrust`] kills the session
    /// whose statement got no answer.
    ///
    /// # Errors
    /// [`SqlError`] when the connection cannot be made, or the sessions cannot be killed.
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

    /// The connection of this pass's observation. Steps do not reconnect.
    ///
    /// # Errors
    /// [`SqlError::NotConnected`] when the observation has left none.
    pub fn observed_connection(&mut self) -> Result<&mut Conn, SqlError> {
        self.conn.as_mut().ok_or(SqlError::NotConnected)
    }

    /// Drops the connection, because an answer is too long.
    pub fn overrun(&mut self) {
        self.disconnect();
        self.too_long = Some(Instant::now());
    }

    /// Whether the records of conflicts are read. What users wrote is in them, so they are what may be too long.
    pub fn reads_records(&self) -> bool {
        self.too_long.is_none_or(|since| since.elapsed() > WITHOUT_RECORDS)
    }

    /// Drops the connection, whatever is under way on it.
    pub fn disconnect(&mut self) {
        if let Some(conn) = self.conn.take() {
            close(conn);
        }
    }

    /// Drops the connection after a statement without an answer. The next connection kills this session before it sends anything.
    pub fn distrust(&mut self) {
        self.doubted = self.conn.take().map(|conn| {
            let id = conn.id();
            close(conn);
            id
        });
    }

    /// A connection of another account to the same member.
    ///
    /// # Errors
    /// [`SqlError`] when the connection cannot be made.
    pub async fn connect_as(&self, user: &'static str, password: &str) -> Result<Conn, SqlError> {
        let address = Address {
            user,
            password: password.into(),
            ..self.address.clone()
        };
        connect(&address, PROBE_DEADLINE).await
    }
}

/// Kills other sessions of the operator's accounts: all of them, or one.
async fn kill_sessions(conn: &mut Conn, only: Option<u32>) -> Result<(), SqlError> {
    let only = only.map_or_else(String::new, |id| format!(" AND ID = {id}"));
    let query = format!(
        "SELECT ID AS id FROM performance_schema.processlist WHERE USER IN ('{}', '{}') AND ID <> CONNECTION_ID(){only}",
        accounts::OPERATOR,
        accounts::SETTLER
    );
    for row in rows(conn, &query).await? {
        let id: u64 = required(&row, "id")?;
        if kill(conn, id).await? {
            tracing::info!(session = id, "killed an earlier session of an operator");
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
    /// The client for a pod, locked for the caller.
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

    /// The client of a pod's agent, also while the SQL connection is locked.
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
            longest_answer: ANSWER,
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

    /// Forgets the clients of these pods, and whatever is under way on them. The next one of a pod ends the sessions of this one.
    pub async fn forget(&self, pods: impl Iterator<Item = String>) {
        let mut clients = self.clients.lock().await;
        for pod in pods {
            clients.remove(&pod);
        }
    }

    /// Forgets pods that are gone. `alive` is called only when there are more clients than pods.
    pub async fn keep_only(&self, pods: usize, alive: impl FnOnce() -> HashSet<String>) {
        let mut clients = self.clients.lock().await;
        if clients.len() > pods {
            let alive = alive();
            clients.retain(|uid, _| alive.contains(uid));
        }
    }
}
