//! `life.json`: whose history a volume holds, and what was under way on it.

use multimaster::agent::life::{Intent, Life};
use multimaster::wire::agent::{Origin, Report};

use crate::VERSIONS;
use crate::kept::{rings, text, texts};

#[test]
fn a_volume_keeps_its_life() {
    for version in VERSIONS {
        let mut origins = Vec::new();
        for ring in rings(version) {
            for ordinal in 0..3_u8 {
                let Some(life) = ring.find::<Life>(&format!("member-{ordinal}/life.json")) else {
                    continue;
                };
                let server = ring.read(&format!("member-{ordinal}/server.json"));
                let globals = |name: &str| text(&serde_json::Value::clone(&server)["globals"], name);
                assert_eq!(life.server_uuid, Some(globals("uuid")), "{}", ring.name);
                assert_eq!(life.server_id.to_string(), globals("server_id"), "{}", ring.name);
                assert_eq!(life.server_id & 0xf, u32::from(ordinal) + 1, "{}", ring.name);
                assert_eq!(life.intent, None, "{}", ring.name);
                let report: Report = ring.read(&format!("member-{ordinal}/report.json"));
                assert_eq!(
                    (life.origin, life.server_uuid, life.former_server_uuids),
                    (report.origin, report.server_uuid, report.former_server_uuids),
                    "{}",
                    ring.name
                );
                origins.push(life.origin);
            }
        }
        assert!(
            origins.contains(&Origin::Founded) && origins.contains(&Origin::Cloned),
            "{origins:?}"
        );
    }
}

#[test]
fn what_was_under_way_is_taken_up() {
    for version in VERSIONS {
        let lives = texts(version, "written/lives");
        let life = |name: &str| -> Life {
            serde_json::from_str(&lives[name]).unwrap_or_else(|error| panic!("{version}/{name}: {error}"))
        };
        for (name, origin, intent) in [
            ("initialised", Origin::Empty, None),
            (
                "cloning",
                Origin::Empty,
                Some(Intent::Cloning {
                    donor: "10.244.2.7".into(),
                    donor_uuid: None,
                }),
            ),
            ("clone-failed", Origin::Empty, None),
            ("new-life", Origin::Founded, Some(Intent::NewLife)),
            ("emptying", Origin::Cloned, Some(Intent::Emptying { keep: false })),
            (
                "emptying-and-keeping",
                Origin::Cloned,
                Some(Intent::Emptying { keep: true }),
            ),
        ] {
            let life = life(name);
            assert_eq!((life.origin, &life.intent), (origin, &intent), "{version}/{name}");
            assert_eq!(life.former_server_uuids.len(), 1, "{version}/{name}");
            assert_eq!(life.server_uuid.is_some(), name != "initialised", "{version}/{name}");
            assert_eq!(life.server_id & 0xf, 2, "{version}/{name}");
        }
        // Agents of then did not count them.
        assert_eq!(life("clone-failed").clone_failures, None, "{version}");
        assert!(life("clone-failed").last_clone_error.unwrap().contains("3862"));
    }
}
