//! The one writer loses its lease: without an operator and the others' word, at another's choice, and with a mysqld that stands still.

use multimaster::api::IsolationPolicy;
use multimaster::wire::agent::{PATH_FOUND, Report, Terms, VERSION};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::{Agent, Cell, eventually};
use crate::order;

/// Long enough for a busy machine.
const LEASE: u16 = 6;

/// What the operator says at each of its looks; `heard`: the agent's last report.
fn terms(writer: u8, heard: &Report, ring: &[&Agent]) -> Terms {
    Terms {
        version: VERSION,
        policy: IsolationPolicy::KeepWriting,
        after_seconds: 10,
        members: Vec::new(),
        reads: false,
        writer: Some(writer),
        lease_seconds: LEASE,
        clock: Some(heard.clock),
        ring: ring.iter().map(|member| member.address.parse().unwrap()).collect(),
    }
}

async fn is_fenced(agent: &Agent, client: &mut Conn) {
    eventually("the member is fenced and its clients are gone", async || {
        let (status, why) = agent.probe("readyz").await;
        status == 503 && why.contains("fenced") && client.query_drop("DO 1").await.is_err()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_writer_without_its_lease_takes_no_writes() {
    let Some(cell) = Cell::new(9) else { return };
    let (agent, mut other) = (cell.start(0, &[]), cell.start(1, &[]));
    let uuid = agent.running().await.server_uuid.unwrap();
    other.running().await;
    assert_eq!(agent.post(PATH_FOUND, &order(&uuid)).await.0, 200);

    // Nobody asks any more. The other one confirms, many leases long; then it ends.
    let report = agent.tell(&terms(0, &agent.report().await.unwrap(), &[&other])).await;
    assert!(report.lease.unwrap().held);
    let mut client = agent.open(&cell).await;
    eventually("the other one confirms again and again", async || {
        let silent = |report: Report| report.lease.and_then(|lease| lease.silent_milliseconds);
        let told = other.tell(&terms(0, &other.report().await.unwrap(), &[])).await;
        let clock = agent.report().await.unwrap().clock;
        silent(told).is_some() && clock > report.clock + 3 * u64::from(LEASE) * 1000
    })
    .await;
    client.query_drop("DO 1").await.unwrap();
    assert_eq!(agent.probe("readyz?writes=true").await.0, 200);
    assert_eq!(other.stop(), Some(0));
    is_fenced(&agent, &mut client).await;
    let report = agent.report().await.unwrap();
    assert!(!report.lease.unwrap().held);
    let fenced = report.fenced_itself.as_ref().unwrap();
    assert!(fenced.at.0.duration_since(fenced.cut_off_since.0).as_secs() >= i64::from(LEASE));

    // The operator is back, and says so from what it hears now. To serve reads is enough for the kubelet, not for HAProxy.
    let report = agent.tell(&terms(0, &report, &[])).await;
    assert!(report.lease.unwrap().held);
    let mut client = agent.open(&cell).await;
    agent.tell(&terms(1, &report, &[])).await;
    is_fenced(&agent, &mut client).await;
    let reads = Terms {
        reads: true,
        ..terms(1, &report, &[])
    };
    agent.tell(&reads).await;
    assert_eq!(agent.probe("readyz").await.0, 200);
    assert_eq!(agent.probe("readyz?writes=true").await.0, 503);

    // A server that stands still cannot be fenced; it is killed, and started fenced.
    let report = agent.tell(&terms(0, &agent.report().await.unwrap(), &[])).await;
    let mut client = agent.open(&cell).await;
    let before = agent.mysqld_pid();
    agent.freeze_mysqld();
    agent.tell(&terms(1, &report, &[])).await;
    eventually("another mysqld, fenced", async || {
        let another = agent.try_mysqld_pid().is_some_and(|pid| pid != before);
        another && agent.probe("answers").await.0 == 200 && agent.probe("readyz").await.0 == 503
    })
    .await;
    assert!(client.query_drop("DO 1").await.is_err());
}
