//! A client learns the GTID of its write from the server's answer, and waits for it by a procedure.

use std::path::Path;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::harness::{Cell, eventually};

/// GTID of another client's transaction, which comes later.
const FOREIGN: &str = "11111111-2222-3333-4444-555555555555:1";

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_client_waits_for_what_was_written_elsewhere() {
    let Some(cell) = Cell::new(11) else { return };
    let agent = cell.start(0, &[]);
    agent.running().await;
    let mut root = agent.open(&cell).await;
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY)",
        "CREATE USER shop@'%' IDENTIFIED BY 'x'",
        "GRANT ALL PRIVILEGES ON shop.* TO shop@'%'",
        "GRANT EXECUTE ON multimaster.* TO shop@'%'",
    ] {
        root.query_drop(statement).await.unwrap();
    }
    let mut client = agent.tcp("shop", "x", agent.mysql_port, true).await.unwrap();
    let before = agent.value("SELECT @@GLOBAL.gtid_executed").await;
    let answer = answer(&agent.socket(), "INSERT INTO shop.t VALUES (1)").await;
    let after = agent.value("SELECT @@GLOBAL.gtid_executed").await;
    let written = agent
        .value(&format!("SELECT GTID_SUBTRACT('{after}', '{before}')"))
        .await;
    assert!(
        !written.is_empty() && answer.contains(&written),
        "{written} is not in {answer:?}"
    );

    wait(&mut client, &format!("'{written}', 60")).await.unwrap();
    wait(&mut client, "@@GLOBAL.gtid_executed, 60").await.unwrap();
    wait(&mut client, "'', 60").await.unwrap();
    for (arguments, state, word) in [
        (format!("'{FOREIGN}', 0.05"), "HYT00", "has not executed"),
        (format!("'{written},{FOREIGN}', 0.05"), "HYT00", "has not executed"),
        (format!("'{FOREIGN}', 0"), "22023", "timeout_seconds"),
        (format!("'{FOREIGN}', -1"), "22023", "timeout_seconds"),
        (format!("'{FOREIGN}', NULL"), "22023", "timeout_seconds"),
        ("NULL, 1".to_owned(), "22004", "gtid_set is NULL"),
        ("'yesterday', 1".to_owned(), "HY000", "yesterday"),
    ] {
        match wait(&mut client, &arguments).await {
            Err(Error::Server(error)) => {
                assert!(
                    error.state == state && error.message.contains(word),
                    "{arguments}: {error}"
                );
            }
            other => panic!("{arguments}: {other:?}"),
        }
    }

    // It comes while a client waits for it. What a fenced server executes counts as well.
    root.query_drop("SET GLOBAL super_read_only=ON").await.unwrap();
    let waiting = format!("'{FOREIGN}', 60");
    let (waited, ()) = tokio::join!(wait(&mut client, &waiting), async {
        eventually("the client waits", async || {
            agent
                .value("SELECT COUNT(*) FROM performance_schema.processlist WHERE STATE LIKE 'Waiting for GTID%'")
                .await
                == "1"
        })
        .await;
        for statement in [&format!("SET GTID_NEXT='{FOREIGN}'"), "BEGIN", "COMMIT"] {
            root.query_drop(statement).await.unwrap();
        }
    });
    waited.unwrap();
}

async fn wait(client: &mut Conn, arguments: &str) -> Result<(), Error> {
    let call = format!("CALL multimaster.wait_for_executed_gtid_set({arguments})");
    client.query_drop(call).await
}

/// What the server answers to a statement of `shop` from a client that wants to know how its session changes. Our library cannot ask for that:
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_response.html>.
async fn answer(socket: &Path, statement: &str) -> String {
    const LONG_PASSWORD: u32 = 1;
    const PROTOCOL_41: u32 = 1 << 9;
    const SECURE_CONNECTION: u32 = 1 << 15;
    const PLUGIN_AUTH: u32 = 1 << 19;
    const SESSION_TRACK: u32 = 1 << 23;
    let mut stream = UnixStream::connect(socket).await.unwrap();
    receive(&mut stream).await;
    let wanted = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH | SESSION_TRACK;
    let mut login = wanted.to_le_bytes().to_vec();
    login.extend(0x00ff_ffff_u32.to_le_bytes());
    login.push(45); // utf8mb4
    login.extend([0; 23]);
    // A wrong proof of the password: the server then asks for the password itself, which may cross a socket.
    login.extend(b"shop\0\x20");
    login.extend([0; 32]);
    login.extend(b"caching_sha2_password\0");
    send(&mut stream, 1, &login).await;
    receive(&mut stream).await;
    send(&mut stream, 3, b"x\0").await;
    let admitted = receive(&mut stream).await;
    assert_eq!(admitted.first(), Some(&0), "{}", String::from_utf8_lossy(&admitted));
    send(&mut stream, 0, &[b"\x03", statement.as_bytes()].concat()).await;
    String::from_utf8_lossy(&receive(&mut stream).await).into_owned()
}

async fn send(stream: &mut UnixStream, number: u8, packet: &[u8]) {
    let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
    stream
        .write_all(&[&length[..3], &[number], packet].concat())
        .await
        .unwrap();
}

async fn receive(stream: &mut UnixStream) -> Vec<u8> {
    let length = stream.read_u32_le().await.unwrap() & 0x00ff_ffff;
    let mut packet = vec![0; length.try_into().unwrap()];
    stream.read_exact(&mut packet).await.unwrap();
    packet
}
