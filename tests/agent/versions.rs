//! An agent beside an operator, or on a volume, of another version.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use multimaster::wire::agent::{Origin, PATH_CLONE, PATH_FOUND, VERSION};
use serde_json::{Value, json};

use crate::harness::{Agent, Cell};

/// Names and contents of everything on the volume but mysqld's own data.
fn volume(agent: &Agent) -> BTreeMap<String, Vec<u8>> {
    fn add(all: &mut BTreeMap<String, Vec<u8>>, path: &Path) {
        if path.is_dir() {
            all.insert(path.display().to_string(), Vec::new());
            for entry in fs::read_dir(path).unwrap() {
                add(all, &entry.unwrap().path());
            }
        } else {
            all.insert(path.display().to_string(), fs::read(path).unwrap());
        }
    }
    let mut all = BTreeMap::new();
    add(&mut all, &agent.volume());
    all
}

fn life(agent: &Agent) -> Value {
    serde_json::from_slice(&fs::read(agent.volume().join("life.json")).unwrap()).unwrap()
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn an_operator_of_another_version_is_understood() {
    let Some(cell) = Cell::new(38) else { return };
    let agent = cell.start(0, &[]);
    let report = agent.running().await;
    assert_eq!(report.version, VERSION);
    let uuid = report.server_uuid.unwrap();
    // From before there were versions, and from a version to come.
    let orders = [
        json!({"serverUuid": uuid}),
        json!({"serverUuid": uuid, "version": 9, "moon": {"full": true}}),
    ];
    for order in orders {
        assert_eq!(agent.post(PATH_FOUND, &order).await.0, 200, "{order}");
        let mut order = order;
        order["donorAddress"] = json!("127.0.0.1");
        let (status, why) = agent.post(PATH_CLONE, &order).await;
        assert!(status == 409 && why.contains("holds data"), "{status} {why}");
    }
}

#[tokio::test]
#[ignore = "needs MYSQL_ROOT"]
async fn a_volume_that_a_newer_agent_has_had_is_kept_as_it_is() {
    let Some(cell) = Cell::new(39) else { return };
    let mut agent = cell.start(0, &[]);
    let uuid = agent.running().await.server_uuid.unwrap();
    assert_eq!(agent.post(PATH_FOUND, &json!({"serverUuid": uuid})).await.0, 200);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(life(&agent)["version"], VERSION);

    // Fields that this agent does not know survive what it writes itself: a new life here.
    agent.edit_life(|life| {
        life["version"] = json!(7);
        life["archive"] = json!({"until": [1, null]});
    });
    fs::remove_file(agent.data().join("auto.cnf")).unwrap();
    agent.start_again();
    let report = agent.running().await;
    assert_eq!(report.former_server_uuids, [uuid]);
    assert_eq!(agent.stop(), Some(0));
    let kept = life(&agent);
    assert_eq!(kept["archive"], json!({"until": [1, null]}));
    assert_eq!(kept["serverUuid"], json!(report.server_uuid));

    // What it has begun, or says of the data, is not guessed at. What it has left half done is not cleaned up.
    for folder in ["data.new", "data.discarded"] {
        fs::create_dir_all(agent.volume().join(folder)).unwrap();
        fs::write(agent.volume().join(folder).join("half"), "done").unwrap();
    }
    for (field, value) in [
        ("intent", json!({"kind": "Merging", "with": "b"})),
        ("origin", json!("Restored")),
    ] {
        let before = life(&agent);
        agent.edit_life(|life| {
            life["version"] = json!(7);
            life[field] = value;
        });
        let untouched = volume(&agent);
        agent.start_again();
        assert_eq!(agent.ended().await, Some(1));
        let why = agent.termination_log();
        for words in ["life.json", "version 7", "Nothing was changed", "newer image"] {
            assert!(why.contains(words), "{field}: {words}: {why}");
        }
        assert!(
            volume(&agent) == untouched,
            "{field}: something on the volume was changed"
        );
        agent.edit_life(|life| *life = before);
    }
    agent.start_again();
    assert_eq!(agent.running().await.origin, Origin::Founded);
}
