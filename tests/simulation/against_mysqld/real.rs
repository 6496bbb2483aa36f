//! Operations on real servers, each run by its agent. Where the operator has code for one, that code carries it out.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use multimaster::decide::observed::{Probe, Server};
use multimaster::mysql::io::connection::SqlError;
use multimaster::names::{self, accounts, keys};
use multimaster::operator::act::sql;
use multimaster::operator::members::{Credentials, MemberClient, MemberClients};
use multimaster::operator::observe::members::server;
use multimaster::wire::agent::{
    CloneOrder, EmptyOrder, Order, PATH_CLONE, PATH_EMPTY, PATH_FOUND, PATH_NEW_LIFE, Phase, Report, VERSION,
};
use mysql_async::prelude::Queryable;

use super::harness::{Agent, Cell, eventually};
use super::operation::Operation;
use crate::model::disk::NAMED_ROWS;
use crate::model::transactions::Id;

pub struct Real {
    // Before the folder that they work in is removed with the cell, they end.
    agents: Vec<Agent>,
    cell: Cell,
    clients: MemberClients,
    credentials: Credentials,
    up: Vec<bool>,
}

/// The tables of every member. They are not logged: the model knows of no such transactions.
const TABLES: [&str; 6] = [
    "SET sql_log_bin = 0",
    "SET GLOBAL super_read_only = OFF",
    "CREATE DATABASE ring",
    "CREATE TABLE ring.numbered (id INT PRIMARY KEY AUTO_INCREMENT, written_by INT)",
    "CREATE TABLE ring.named (id INT PRIMARY KEY, written_by INT)",
    "SET GLOBAL super_read_only = ON",
];

impl Real {
    /// `None` where there is no MySQL to test with.
    pub async fn new(number: u8, members: u8) -> Option<Self> {
        let cell = Cell::new(number)?;
        let ports = [
            format!("--mysql-port={}", names::MYSQL_PORT),
            format!("--mysql-admin-port={}", names::MYSQL_ADMIN_PORT),
        ];
        let agents: Vec<Agent> = (0..members)
            .map(|ordinal| cell.start(ordinal, &ports.each_ref().map(String::as_str)))
            .collect();
        let passwords = BTreeMap::from([(keys::OPERATOR.into(), cell.password(accounts::OPERATOR).into())]);
        let credentials = Credentials::new(passwords, cell.authority().into());
        let real = Self {
            cell,
            agents,
            clients: MemberClients::default(),
            credentials,
            up: vec![true; usize::from(members)],
        };
        for at in 0..members {
            real.agent(at).running().await;
            real.make_tables(at).await;
        }
        Some(real)
    }

    fn agent(&self, at: u8) -> &Agent {
        &self.agents[usize::from(at)]
    }

    async fn make_tables(&self, at: u8) {
        let mut root = self.agent(at).root().await;
        for statement in TABLES {
            root.query_drop(statement).await.unwrap();
        }
    }

    pub fn is_up(&self, at: u8) -> bool {
        self.up[usize::from(at)]
    }

    /// What the operator would read now.
    pub async fn server(&self, at: u8) -> Option<Server> {
        match server(&mut *self.client(at).await).await {
            Probe::Reached(server) => Some(server),
            _ => None,
        }
    }

    pub async fn report(&self, at: u8) -> Option<Report> {
        self.agent(at)
            .report()
            .await
            .filter(|report| report.phase == Phase::Running)
    }

    /// Each row with the number of the transaction that wrote it last.
    pub async fn rows(&self, at: u8) -> BTreeMap<u32, Id> {
        let query = format!(
            "SELECT id, written_by FROM ring.numbered UNION ALL SELECT {NAMED_ROWS} + id, written_by FROM ring.named"
        );
        let rows: Vec<(u32, Id)> = self.agent(at).root().await.query(query).await.unwrap();
        rows.into_iter().collect()
    }

    async fn client(&self, at: u8) -> impl std::ops::DerefMut<Target = MemberClient> + use<> {
        let address = self.cell.address(at);
        let ip: IpAddr = address.parse().unwrap();
        self.clients
            .of(&address, ip, address.clone(), &self.credentials)
            .await
            .unwrap()
    }

    /// `written` is the number of the transaction that this is in the model.
    pub async fn perform(&mut self, operation: Operation, written: Option<Id>) -> Result<(), String> {
        match operation {
            Operation::Found(at) => {
                self.agent(at).mark().await;
                self.order(at, PATH_FOUND).await
            }
            Operation::NewLife(at) => self.order(at, PATH_NEW_LIFE).await,
            Operation::Clone(at, donor) => {
                self.agent(at).mark().await;
                let order = CloneOrder {
                    version: VERSION,
                    server_uuid: self.uuid(at).await,
                    donor_address: self.cell.address(donor),
                    donor_uuid: Some(self.uuid(donor).await),
                    donor_has_place: true,
                };
                accepted(self.agent(at).post(PATH_CLONE, &order).await)
            }
            Operation::Reclone(at) => {
                let server_uuid = self.uuid(at).await;
                let order = EmptyOrder {
                    version: VERSION,
                    server_uuid: server_uuid.clone(),
                    held_elsewhere: self.server(at).await.ok_or("no answer")?.executed,
                };
                accepted(self.agent(at).post(PATH_EMPTY, &order).await)?;
                eventually("an empty directory", async || {
                    self.report(at)
                        .await
                        .is_some_and(|report| report.server_uuid.as_ref() != Some(&server_uuid))
                })
                .await;
                self.make_tables(at).await;
                Ok(())
            }
            Operation::Insert(at) => self.write(at, "numbered", "NULL", written).await,
            Operation::Put(at, row) => self.write(at, "named", &row.to_string(), written).await,
            Operation::StopAppliers(at) => self.run(at, "STOP REPLICA SQL_THREAD").await,
            Operation::Purge(at) => {
                self.run(at, "FLUSH LOCAL BINARY LOGS").await?;
                let server = self.server(at).await.ok_or("no answer")?;
                let last = server.binary_logs.last().ok_or("no binary log")?;
                let purge = format!("PURGE BINARY LOGS TO '{last}'");
                // What somebody still reads stays, without an error.
                eventually("purged binary logs", async || {
                    self.run(at, &purge).await.is_ok() && self.is_purged(at).await
                })
                .await;
                Ok(())
            }
            Operation::PointAnew(at, upstream) => {
                let host = self.cell.address(upstream);
                let channel = names::channel(upstream);
                let statement = format!("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}' FOR CHANNEL '{channel}'");
                self.run(at, &statement).await
            }
            Operation::Attach(at, upstream) => self.attach(at, upstream).await,
            Operation::Open(at) | Operation::Fence(at) => self.step(at, operation, 0).await,
            Operation::Start(at, upstream)
            | Operation::StopReceiver(at, upstream)
            | Operation::Detach(at, upstream) => self.step(at, operation, upstream).await,
            Operation::Kill(at) => {
                let before = self.agent(at).mysqld_pid();
                self.agent(at).kill_mysqld();
                self.agent(at).another_mysqld(before).await;
                Ok(())
            }
            Operation::Down(at) => {
                self.up[usize::from(at)] = false;
                assert_eq!(self.agents[usize::from(at)].stop(), Some(0));
                Ok(())
            }
            Operation::Up(at) => {
                self.up[usize::from(at)] = true;
                self.agents[usize::from(at)].start_again();
                Ok(())
            }
            Operation::Copy(at) => {
                replace(&self.copy(at), &self.agent(at).volume());
                Ok(())
            }
            Operation::SetBack(at) => {
                replace(&self.agent(at).volume(), &self.copy(at));
                Ok(())
            }
            Operation::NewUuidOnly(at) => {
                fs::remove_file(self.agent(at).data().join("auto.cnf")).unwrap();
                self.agent(at)
                    .edit_life(|life| life["serverUuid"] = serde_json::Value::Null);
                Ok(())
            }
        }
    }

    async fn is_purged(&self, at: u8) -> bool {
        let server = self.server(at).await;
        server.is_some_and(|server| server.purged.contains(&server.executed))
    }

    fn copy(&self, at: u8) -> PathBuf {
        self.agent(at).volume().with_file_name("copy")
    }

    async fn uuid(&self, at: u8) -> String {
        self.agent(at).running().await.server_uuid.unwrap()
    }

    async fn order(&self, at: u8, path: &str) -> Result<(), String> {
        let server_uuid = self.uuid(at).await;
        let order = Order {
            version: VERSION,
            server_uuid,
        };
        accepted(self.agent(at).post(path, &order).await)
    }

    async fn run(&self, at: u8, statement: &str) -> Result<(), String> {
        let done = self.agent(at).root().await.query_drop(statement).await;
        done.map_err(|error| text(&SqlError::Mysql(error)))
    }

    async fn write(&self, at: u8, table: &str, id: &str, written: Option<Id>) -> Result<(), String> {
        let by = written.ok_or("nothing was written")?;
        let statement = format!(
            "INSERT INTO ring.{table} (id, written_by) VALUES ({id}, {by}) ON DUPLICATE KEY UPDATE written_by = {by}"
        );
        self.run(at, &statement).await
    }

    /// As `act::sql::attach`, which takes the paths of a pod for granted.
    async fn attach(&self, at: u8, upstream: u8) -> Result<(), String> {
        let (host, channel) = (self.cell.address(upstream), names::channel(upstream));
        let server = self.server(at).await.ok_or("no answer")?;
        if server.channels.iter().any(|it| it.name == channel) {
            return Err("the channel exists".into());
        }
        let change = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}', SOURCE_USER = '{user}', SOURCE_PASSWORD = '{password}', \
             SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, SOURCE_HEARTBEAT_PERIOD = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0 FOR CHANNEL '{channel}'",
            user = accounts::REPLICATION,
            password = self.cell.password(accounts::REPLICATION),
        );
        self.run(at, &change).await?;
        self.run(at, &format!("START REPLICA FOR CHANNEL '{channel}'")).await
    }

    async fn step(&self, at: u8, operation: Operation, upstream: u8) -> Result<(), String> {
        let client = &mut *self.client(at).await;
        let Probe::Reached(observed) = server(client).await else {
            return Err("no answer".into());
        };
        let (uuid, channel) = (observed.uuid, names::channel(upstream));
        let done = match operation {
            Operation::Open(_) => sql::open(client, &uuid).await,
            Operation::Fence(_) => sql::fence(client, &uuid).await,
            Operation::Start(..) => sql::start(client, &uuid, &channel).await,
            Operation::StopReceiver(..) => sql::stop_receiver(client, &uuid, &channel).await,
            _ => sql::detach(client, &uuid, &channel).await,
        };
        done.map_err(|error| text(&error))
    }
}

/// MySQL's number first, as the model says it.
fn text(error: &SqlError) -> String {
    match error {
        SqlError::Mysql(mysql_async::Error::Server(error)) => format!("{}: {}", error.code, error.message),
        error => error.to_string(),
    }
}

fn accepted((status, body): (u16, String)) -> Result<(), String> {
    match status {
        200 | 202 => Ok(()),
        status => Err(format!("{status} {body}")),
    }
}

/// A folder becomes a copy of another one.
fn replace(folder: &Path, with: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(with).unwrap() {
        let (from, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        let to = folder.join(from.file_name().unwrap());
        if kind.is_dir() {
            replace(&to, &from);
        } else if kind.is_file() {
            fs::copy(&from, &to).unwrap();
        }
    }
}
