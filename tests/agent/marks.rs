//! Whose a volume is: a copy starts no link, and is adopted with a new life.

use multimaster::wire::agent::{Mark, MarkOrder, PATH_FOUND, PATH_MARK, Phase, VERSION, Volume};
use mysql_async::prelude::Queryable;

use crate::harness::{Agent, CLUSTER_UID, Cell, eventually};
use crate::order;

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_copy_starts_no_link_until_it_is_adopted() {
    let Some(cell) = Cell::new(8) else { return };
    let mut agent = cell.start(0, &[]);
    let first = agent.running().await;
    let uuid = first.server_uuid.unwrap();
    assert_eq!(first.volume, Some(Volume { mark: None }));
    assert_eq!(agent.post(PATH_FOUND, &order(&uuid)).await.0, 200);
    let mut root = agent.root().await;
    for (channel, host) in [
        ("from-1", "127.0.0.1"),
        ("from-2", "demo-2.demo-members.production.svc"),
        ("from-3", "demo-3.demo-members.test.svc"),
    ] {
        let change = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT=9, SOURCE_USER='u', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1 \
             FOR CHANNEL '{channel}'"
        );
        root.query_drop(change).await.unwrap();
    }
    drop(root);

    // Not marked yet: only the operator knows whether it is a copy.
    again(&mut agent).await;
    assert_eq!(links(&agent).await, "OFF OFF OFF");
    agent.mark().await;
    again(&mut agent).await;
    assert_eq!(links(&agent).await, "CONNECTING OFF CONNECTING");

    // Made again, which only the operator can tell from a copy; under another name, and in another namespace: the link to the original goes.
    let locked = "SELECT account_locked FROM mysql.user WHERE user = 'multimaster_replication'";
    for (field, value, expected) in [
        ("clusterUid", "earlier", "OFF OFF OFF N"),
        ("name", "shop", "OFF OFF Y"),
        ("namespace", "production", "OFF OFF Y"),
    ] {
        assert_eq!(agent.stop(), Some(0));
        agent.edit_life(|life| life["mark"][field] = value.into());
        agent.start_again();
        let copy = agent.running().await;
        let said = serde_json::to_value(copy.volume.unwrap().mark).unwrap();
        assert_eq!(said[field], value);
        let seen = format!("{} {}", links(&agent).await, agent.value(locked).await);
        assert_eq!(seen, expected, "{field}");
    }

    let mark = |namespace: &str| Mark {
        namespace: namespace.into(),
        name: "demo".into(),
        cluster_uid: CLUSTER_UID.into(),
        claim_uid: "a claim".into(),
    };
    let adoption = |namespace: &str| MarkOrder {
        version: VERSION,
        server_uuid: uuid.clone(),
        mark: mark(namespace),
        new_life: true,
    };
    let (status, why) = agent.post(PATH_MARK, &adoption("production")).await;
    assert!(status == 409 && why.contains("belongs to test/demo"), "{status} {why}");
    assert_eq!(agent.post(PATH_MARK, &adoption("test")).await.0, 202);
    eventually("the next life", async || {
        let report = agent.report().await;
        report.is_some_and(|report| report.phase == Phase::Running && report.server_uuid.as_ref() != Some(&uuid))
    })
    .await;
    let adopted = agent.running().await;
    assert_eq!(adopted.volume.unwrap().mark, Some(mark("test")));
    assert_eq!(adopted.former_server_uuids, [uuid]);
    assert_ne!(adopted.server_id, first.server_id);
    assert_eq!(links(&agent).await, "CONNECTING CONNECTING");
    assert_eq!(agent.value(locked).await, "N");

    // The volume of another member.
    assert_eq!(agent.stop(), Some(0));
    agent.edit_life(|life| life["serverId"] = (life["serverId"].as_u64().unwrap() + 1).into());
    agent.start_again();
    agent.running().await;
    let seen = format!("{} {}", links(&agent).await, agent.value(locked).await);
    assert_eq!(seen, "OFF OFF Y");
}

async fn again(agent: &mut Agent) {
    assert_eq!(agent.stop(), Some(0));
    agent.start_again();
    agent.running().await;
}

async fn links(agent: &Agent) -> String {
    agent
        .value("SELECT GROUP_CONCAT(SERVICE_STATE ORDER BY CHANNEL_NAME SEPARATOR ' ') FROM performance_schema.replication_connection_status")
        .await
}
