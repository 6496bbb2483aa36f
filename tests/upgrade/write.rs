//! Writes, with this version's code, what exists for moments only or on the wire: `CAPTURE=$PWD/tests/upgrade/<commit> cargo test --test upgrade
//! -- --ignored write`, after `tests/e2e/capture.rs` has filled `rings/`.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use multimaster::agent::life::{Intent, Life};
use multimaster::api::MultiMasterCluster;
use multimaster::api::status::FencedItself;
use multimaster::wire::agent::LeaseReport;
use multimaster::wire::agent::{
    CloneFailures, CloneOrder, EmptyOrder, Mark, Order, Origin, Phase, Report, VERSION, Volume, VolumeUsage,
    WitnessAnswer,
};
use multimaster::wire::lease::LeaseRenewal;
use serde::Serialize;

const UUID: &str = "0b6a8a3c-2d0f-11f0-9c7e-0242ac110002";
const FORMER: &str = "f3d1c9a4-2d0e-11f0-8a55-0242ac110003";

#[test]
#[ignore = "writes what the other tests read: CAPTURE=FOLDER"]
fn write() {
    let folder = PathBuf::from(std::env::var_os("CAPTURE").expect("CAPTURE names no folder"));
    lives(&folder.join("written/lives"));
    let wire = folder.join("written/wire");
    fs::create_dir_all(&wire).unwrap();
    for (name, phase) in phases() {
        save(&wire, &format!("report-{name}"), &report(phase));
    }
    let server_uuid = UUID.to_owned();
    save(
        &wire,
        "order",
        &Order {
            version: VERSION,
            server_uuid: server_uuid.clone(),
        },
    );
    save(&wire, "look", &WitnessAnswer { answered: true });
    let clone = CloneOrder {
        version: VERSION,
        server_uuid: server_uuid.clone(),
        donor_address: "10.244.2.7".into(),
        donor_uuid: Some(FORMER.into()),
        donor_has_place: true,
    };
    save(&wire, "clone", &clone);
    let held_elsewhere = format!("{UUID}:1-77,{FORMER}:multimaster:1-3").parse().unwrap();
    save(
        &wire,
        "empty",
        &EmptyOrder {
            version: VERSION,
            server_uuid,
            held_elsewhere,
        },
    );
    for case in ["serving", "single-writer", "away"] {
        let resource = fs::read_to_string(folder.join("rings").join(case).join("resource.json")).unwrap();
        let cluster: MultiMasterCluster = serde_json::from_str(&resource).unwrap();
        fs::write(wire.join(format!("terms-{case}.txt")), terms(&cluster)).unwrap();
    }
}

/// What an operator that has heard nothing yet and one that has say to each member.
fn terms(cluster: &MultiMasterCluster) -> String {
    let address = |ordinal: u8| IpAddr::from([10, 244, 1, ordinal]);
    let mut lines = String::new();
    for clock in [None, Some(73_512)] {
        for ordinal in 0..3 {
            let others = (0..3)
                .filter(|other| *other != ordinal)
                .map(|other| (other, address(other)));
            let terms = LeaseRenewal::of(cluster, ordinal, clock, &others.collect::<Vec<_>>());
            lines += &format!("{terms}\n");
        }
    }
    lines
}

fn phases() -> [(&'static str, Phase); 7] {
    let donor = "10.244.2.7".to_owned();
    let reason = "mysqld ended: signal: 9 (SIGKILL)\n[ERROR] \"quoted\" and \\ more".to_owned();
    [
        ("initialising", Phase::Initialising),
        ("starting", Phase::Starting),
        ("running", Phase::Running),
        ("cloning", Phase::Cloning { donor }),
        ("restarting", Phase::Restarting { reason }),
        ("stopping", Phase::Stopping { fenced: false }),
        ("stopping-fenced", Phase::Stopping { fenced: true }),
    ]
}

fn report(phase: Phase) -> Report {
    let time = |text: &str| Time(text.parse().unwrap());
    Report {
        version: VERSION,
        ordinal: 1,
        origin: Origin::Cloned,
        server_id: 0x1234_5672,
        server_uuid: Some(UUID.into()),
        former_server_uuids: vec![FORMER.into()],
        phase,
        last_clone_error: Some("error 3862: Clone Donor Error".into()),
        clone_failures: Some(CloneFailures {
            count: 3,
            copied: 2,
            refused: true,
            seconds_ago: 7,
            donor_uuid: Some(FORMER.into()),
        }),
        kept: vec![format!("data.kept-{FORMER}")],
        fenced_itself: Some(FencedItself {
            cut_off_since: time("2026-01-02T03:04:05Z"),
            at: time("2026-01-02T03:04:15.25Z"),
        }),
        volume_full: true,
        clock: 73_512,
        lease: Some(LeaseReport {
            writer: 2,
            held: false,
            since_confirmed_milliseconds: Some(1500),
            voters: Some([0, 2].into_iter().collect()),
        }),
        volume: Some(Volume {
            mark: Some(Mark {
                namespace: "shop".into(),
                name: "demo".into(),
                cluster_uid: UUID.into(),
                claim_uid: FORMER.into(),
            }),
        }),
        volume_usage: Some(VolumeUsage {
            size_bytes: 20 << 30,
            used_bytes: 17 << 30,
            available_bytes: 2 << 30,
            seconds_ago: 1,
        }),
        has_place_for_links: true,
    }
}

/// Records as the agent saves them before each step that a crash could cut in two.
fn lives(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let cloning = Intent::Cloning {
        donor: "10.244.2.7".into(),
        donor_uuid: Some(FORMER.into()),
    };
    for (name, origin, intent, error) in [
        ("initialised", Origin::Empty, None, None),
        ("cloning", Origin::Empty, Some(cloning), None),
        (
            "clone-failed",
            Origin::Empty,
            None,
            Some("error 3862: Clone Donor Error"),
        ),
        ("new-life", Origin::Founded, Some(Intent::NewLife), None),
        ("emptying", Origin::Cloned, Some(Intent::Emptying { keep: false }), None),
        (
            "emptying-and-keeping",
            Origin::Cloned,
            Some(Intent::Emptying { keep: true }),
            None,
        ),
    ] {
        let mut life = Life::empty(1, None).unwrap();
        life.origin = origin;
        life.intent = intent;
        if let Some(error) = error {
            life.clone_failed(error.into(), false, SystemTime::now());
        }
        life.former_server_uuids = vec![FORMER.into()];
        life.server_uuid = Some(UUID.into()).filter(|_| name != "initialised");
        life.save(&folder.join(format!("{name}.json"))).unwrap();
    }
}

fn save(folder: &Path, name: &str, value: &impl Serialize) {
    // As it is on the wire.
    fs::write(
        folder.join(format!("{name}.json")),
        serde_json::to_string(value).unwrap(),
    )
    .unwrap();
}
