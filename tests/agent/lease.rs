//! The one writer loses its lease: without the operator's and the others' confirmation, when another writer is chosen, and with a frozen mysqld.

use multimaster::api::IsolationPolicy;
use multimaster::wire::agent::{PATH_FOUND, Report, VERSION};
use multimaster::wire::lease::{LeaseRenewal, Voter};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::{Agent, Cell, eventually};
use crate::order;

/// Nothing listens there.
const NOBODY: &str = "127.250.0.1";

/// Long enough for a busy machine.
const LEASE: u16 = 6;

/// The operator's renewal; `last`: the agent's last report.
fn renewal(writer: u8, last: &Report, ring: &[&Agent]) -> LeaseRenewal {
    LeaseRenewal {
        operator: 0,
        number: 0,
        version: VERSION,
        policy: IsolationPolicy::KeepWriting,
        after_seconds: 10,
        members: Vec::new(),
        reads: false,
        writer: Some(writer),
        lease_seconds: LEASE,
        clock: Some(last.clock),
        ring: ring.iter().map(|member| member.address.parse().unwrap()).collect(),
        voters: Vec::new(),
        knowing: true,
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

    // No operator asks any more. Of two other voters one does not answer, and the other one confirms for many leases; then it ends.
    let voter = |ordinal: u8, address: Option<&str>| Voter {
        ordinal,
        address: address.map(|address| address.parse().unwrap()),
    };
    let voters = vec![voter(0, None), voter(1, Some(&other.address)), voter(2, Some(NOBODY))];
    let named = LeaseRenewal {
        voters,
        ..renewal(0, &agent.report().await.unwrap(), &[&other])
    };
    let report = agent.renew(&named).await;
    let lease = report.lease.unwrap();
    assert!(
        lease.held && lease.voters == Some([0, 1, 2].into_iter().collect()),
        "{lease:?}"
    );
    let mut client = agent.open(&cell).await;
    eventually("the other one confirms again and again", async || {
        other.renew(&renewal(0, &other.report().await.unwrap(), &[])).await;
        agent.report().await.unwrap().clock > report.clock + 3 * u64::from(LEASE) * 1000
    })
    .await;
    client.query_drop("DO 1").await.unwrap();
    assert_eq!(agent.probe("readyz?writes=true").await.0, 200);
    // The next writer hears how long ago that was.
    let renewed = other.renew(&renewal(1, &other.report().await.unwrap(), &[])).await;
    let since = renewed.lease.unwrap().since_confirmed_milliseconds;
    assert!(since.is_some_and(|since| since < u64::from(LEASE) * 1000), "{since:?}");
    other.renew(&renewal(0, &other.report().await.unwrap(), &[])).await;
    assert_eq!(other.stop(), Some(0));
    is_fenced(&agent, &mut client).await;
    let report = agent.report().await.unwrap();
    assert!(!report.lease.unwrap().held);
    let fenced = report.fenced_itself.as_ref().unwrap();
    assert!(fenced.at.0.duration_since(fenced.cut_off_since.0).as_secs() >= i64::from(LEASE));

    // The operator is back, and renews with the agent's present report. Serving reads is enough for the kubelet, not for HAProxy.
    let report = agent.renew(&renewal(0, &report, &[])).await;
    assert!(report.lease.unwrap().held);
    let mut client = agent.open(&cell).await;
    agent.renew(&renewal(1, &report, &[])).await;
    is_fenced(&agent, &mut client).await;
    let reads = LeaseRenewal {
        reads: true,
        ..renewal(1, &report, &[])
    };
    agent.renew(&reads).await;
    assert_eq!(agent.probe("readyz").await.0, 200);
    assert_eq!(agent.probe("readyz?writes=true").await.0, 503);

    // While a conflict step works at a reader only `read_only` keeps clients out. Its agent leaves the setting and the session alone.
    let mut root = agent.root().await;
    root.query_drop("SET GLOBAL super_read_only = OFF").await.unwrap();
    let begun = agent.report().await.unwrap().clock;
    eventually("the agent has looked again and again", async || {
        agent.report().await.unwrap().clock > begun + 1000 * u64::from(LEASE)
    })
    .await;
    let setting: Option<u8> = root.query_first("SELECT @@GLOBAL.super_read_only").await.unwrap();
    assert_eq!(setting, Some(0));
    root.query_drop("SET GLOBAL super_read_only = ON").await.unwrap();

    // A frozen server cannot be fenced. It is killed, and started fenced.
    let report = agent.renew(&renewal(0, &agent.report().await.unwrap(), &[])).await;
    let mut client = agent.open(&cell).await;
    let before = agent.mysqld_pid();
    agent.freeze_mysqld();
    agent.renew(&renewal(1, &report, &[])).await;
    eventually("another mysqld, fenced", async || {
        let another = agent.try_mysqld_pid().is_some_and(|pid| pid != before);
        another && agent.probe("answers").await.0 == 200 && agent.probe("readyz").await.0 == 503
    })
    .await;
    assert!(client.query_drop("DO 1").await.is_err());
}
