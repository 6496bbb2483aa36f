#![allow(clippy::unwrap_used, clippy::expect_used)]

mod simulation;

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;

use super::election::RENEW_DEADLINE;
use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the API server has. `spec`: holder, seconds, transitions.
fn lease(version: u32, (holder, seconds, transitions): (Option<&str>, Option<i32>, Option<i32>)) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(names::LEASE.into()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: holder.map(Into::into),
            lease_duration_seconds: seconds,
            lease_transitions: transitions,
            ..LeaseSpec::default()
        }),
    }
}

fn held(version: u32, holder: &str) -> Lease {
    lease(version, (Some(holder), Some(5), Some(3)))
}

/// A replica `a` that has taken the lease with a request that began now.
fn leader(now: Instant) -> Election {
    let mut election = Election::new("a", now);
    election.observe(Some(lease(1, (None, None, Some(3)))), now, now);
    assert_eq!(election.next(now), Act::Write(REQUEST_DEADLINE));
    let mut claim = election.claim(Timestamp::UNIX_EPOCH);
    claim.metadata.resource_version = Some("2".into());
    election.wrote(claim, now, now);
    assert!(election.leads(now));
    election
}

/// When a lease may be taken that was first seen at the beginning, and is read every second.
#[test]
fn a_lease_is_taken_once_it_was_seen_unchanged_for_as_long_as_it_is_valid() {
    let named = |holder, seconds| Some(lease(1, (holder, seconds, None)));
    let empty = Some(Lease::default());
    for (what, seen, after) in [
        ("as an earlier version creates it", empty, 0),
        ("given back", named(None, None), 0),
        ("given back as client-go does", named(Some(""), Some(1)), 0),
        ("held", named(Some("b"), Some(5)), 5000),
        ("held for longer", named(Some("b"), Some(8)), 8000),
        ("held for less than our own time", named(Some("b"), Some(1)), 5000),
        ("held without a time", named(Some("b"), None), 5000),
        ("held for a senseless time", named(Some("b"), Some(i32::MAX)), 60_000),
        ("held for a negative time", named(Some("b"), Some(-7)), 5000),
        ("held by another process of this name", named(Some("a"), Some(5)), 5000),
    ] {
        let begin = Instant::now();
        let mut election = Election::new("a", begin);
        assert_eq!(election.next(begin), Act::Read(REQUEST_DEADLINE), "{what}");
        let mut now = begin;
        election.observe(seen.clone(), now, now);
        loop {
            match election.next(now) {
                Act::Wait(pause) => now += pause,
                Act::Read(_) => election.observe(seen.clone(), now, now),
                Act::Write(_) => break,
                end @ Act::End(_) => panic!("{what}: {end:?}"),
            }
        }
        assert_eq!(now - begin, ms(after), "{what}");
    }
}

/// Its holder may still lead.
#[test]
fn a_lease_that_is_not_there_is_created_and_taken_later() {
    let begin = Instant::now();
    let mut election = Election::new("a", begin);
    election.observe(None, begin, begin);
    assert_eq!(election.next(begin), Act::Write(REQUEST_DEADLINE));
    election.wrote(held(1, "a"), begin, begin + ms(200));
    assert!(!election.leads(begin + ms(200)));
    assert_eq!(election.next(begin + ms(5100)), Act::Read(REQUEST_DEADLINE));
    election.observe(Some(held(1, "a")), begin + ms(5100), begin + ms(5100));
    assert_eq!(election.next(begin + ms(5200)), Act::Write(REQUEST_DEADLINE));
    election.wrote(held(2, "a"), begin + ms(5200), begin + ms(5200));
    assert!(election.leads(begin + ms(5200)));
}

#[test]
fn a_lease_that_changes_is_never_taken() {
    let mut now = Instant::now();
    let mut election = Election::new("a", now);
    for version in 1..100 {
        assert_eq!(election.next(now), Act::Read(REQUEST_DEADLINE));
        election.observe(Some(held(version, "b")), now, now);
        assert_eq!(election.next(now), Act::Wait(ms(1000)));
        now += ms(1000);
    }
    // For as long as nothing is known, the time goes on: it did not change meanwhile.
    election.failed(false, now);
    assert_eq!(election.next(now + ms(4500)), Act::Read(REQUEST_DEADLINE));
    election.observe(Some(held(99, "b")), now + ms(4500), now + ms(4500));
    assert_eq!(election.next(now + ms(4500)), Act::Write(REQUEST_DEADLINE));
}

#[test]
fn a_leader_that_cannot_renew_ends_in_time() {
    let begin = Instant::now();
    let election = leader(begin);
    assert_eq!(election.next(begin), Act::Wait(ms(1000)));
    assert_eq!(election.next(begin + ms(1000)), Act::Write(REQUEST_DEADLINE));
    for asked in [1000, 2500, 3400] {
        let mut election = leader(begin);
        election.failed(false, begin + ms(asked));
        let due = begin + ms(asked + 1000);
        match due < begin + RENEW_DEADLINE {
            // It does not know whether the write was carried out, so it reads first, and not for longer than it may lead.
            true => assert_eq!(election.next(due), Act::Read(ms(2500 - asked))),
            false => assert_eq!(
                election.next(begin + ms(asked)),
                Act::Wait(ms(3500 - asked).min(ms(1000)))
            ),
        }
        assert!(election.leads(begin + ms(3499)));
        for late in [3500, 3501, 1_000_000] {
            assert_eq!(election.next(begin + ms(late)), Act::End(Lost::NotRenewed));
            assert!(!election.leads(begin + ms(late)));
        }
    }
}

#[test]
fn an_answer_counts_from_the_beginning_of_its_request() {
    let begin = Instant::now();
    let mut election = leader(begin);
    election.wrote(held(3, "a"), begin + ms(1000), begin + ms(2400));
    assert_eq!(election.next(begin + ms(4500)), Act::End(Lost::NotRenewed));
    // The leader was frozen: its request had renewed the lease, and another one has taken it since.
    let mut election = leader(begin);
    election.wrote(held(3, "a"), begin + ms(1000), begin + ms(60_000));
    assert_eq!(election.next(begin + ms(60_000)), Act::End(Lost::NotRenewed));
    // A replica that was frozen while it took the lease does not begin to lead, and does not end.
    let mut election = Election::new("a", begin);
    election.wrote(held(3, "a"), begin, begin + RENEW_DEADLINE);
    assert!(!election.leads(begin));
    assert_eq!(election.next(begin + RENEW_DEADLINE), Act::Read(REQUEST_DEADLINE));
}

#[test]
fn a_leader_that_sees_another_holder_ends() {
    let begin = Instant::now();
    let now = begin + ms(1100);
    let free = lease(3, (None, None, Some(4)));
    for (seen, lost) in [
        (Some(held(3, "b")), Lost::Held("b".into())),
        (Some(free), Lost::Removed),
        (None, Lost::Removed),
    ] {
        let mut election = leader(begin);
        election.failed(true, begin + ms(1000));
        assert_eq!(election.next(now), Act::Read(REQUEST_DEADLINE));
        election.observe(seen, now, now);
        assert_eq!(election.next(now), Act::End(lost));
        assert_eq!(election.given_back(), None);
    }
    // Its own write was carried out, or a person has put a label on it.
    let mut election = leader(begin);
    election.failed(true, begin + ms(1000));
    election.observe(Some(held(7, "a")), now, now);
    assert_eq!(election.next(now), Act::Write(REQUEST_DEADLINE));
}

#[test]
fn what_is_written() {
    let (now, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
    let mut election = Election::new("a", now);
    election.observe(None, now, now);
    let first = election.claim(wall);
    assert_eq!(first.metadata.resource_version, None);
    let spec = first.spec.unwrap();
    assert_eq!(
        (spec.holder_identity.as_deref(), spec.lease_transitions),
        (Some("a"), Some(0))
    );

    let mut election = leader(now);
    election.observe(Some(held(9, "a")), now, now);
    let later = wall + ms(1000);
    let renewal = election.claim(later);
    assert_eq!(renewal.metadata.resource_version.as_deref(), Some("9"));
    let spec = renewal.spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(3));
    assert_eq!(spec.lease_duration_seconds, Some(5));
    assert_eq!(spec.renew_time.unwrap().0, later);

    election.observe(Some(held(10, "b")), now, now);
    assert_eq!(election.claim(wall).spec.unwrap().lease_transitions, Some(4));

    let given_back = leader(now).given_back().unwrap();
    let spec = LeaseSpec {
        lease_transitions: Some(4),
        ..LeaseSpec::default()
    };
    assert_eq!(given_back.metadata.resource_version.as_deref(), Some("2"));
    assert_eq!(given_back.spec, Some(spec));
}

/// An API server that has one Lease, and counts its writes.
type Server = Arc<Mutex<(Option<Lease>, u32)>>;

fn candidate(identity: &str, server: &Server) -> Candidate {
    let server = server.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let method = request.method().clone();
            let body = request.into_body().collect_bytes().await.unwrap();
            let (status, answer) = serve(&mut server.lock().unwrap(), &method, &body);
            let response = Response::builder().status(status).body(Body::from(answer)).unwrap();
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    Candidate::new(identity, Client::new(service, "default"), "default")
}

fn serve((present, writes): &mut (Option<Lease>, u32), method: &Method, body: &[u8]) -> (StatusCode, Vec<u8>) {
    let refused = |code: StatusCode, reason: &str| {
        let status =
            serde_json::json!({"status": "Failure", "message": reason, "reason": reason, "code": code.as_u16()});
        (code, serde_json::to_vec(&status).unwrap())
    };
    if *method != Method::GET {
        let mut sent: Lease = serde_json::from_slice(body).unwrap();
        let expected = present.as_ref().map(|lease| lease.metadata.resource_version.clone());
        if (*method == Method::POST) != expected.is_none() || sent.metadata.resource_version != expected.flatten() {
            return refused(StatusCode::CONFLICT, "Conflict");
        }
        *writes += 1;
        sent.metadata.resource_version = Some(writes.to_string());
        *present = Some(sent);
    }
    match present {
        Some(lease) => (StatusCode::OK, serde_json::to_vec(&lease).unwrap()),
        None => refused(StatusCode::NOT_FOUND, "NotFound"),
    }
}

/// Does what is due, at this time.
async fn turn(candidate: &mut Candidate, now: Instant) -> Act {
    let act = candidate.election.next(now);
    candidate.carry_out(&act, now).await;
    act
}

#[tokio::test]
async fn two_candidates_at_an_api_server() {
    let server = Server::default();
    let (mut a, mut b) = (candidate("a", &server), candidate("b", &server));
    let begin = Instant::now();
    for candidate in [&mut a, &mut b] {
        assert_eq!(turn(candidate, begin).await, Act::Read(REQUEST_DEADLINE));
        assert!(candidate.election.is_answered());
    }
    // One creates it, the other one is refused. Neither leads yet.
    let begin = Instant::now();
    for candidate in [&mut a, &mut b] {
        assert_eq!(turn(candidate, begin).await, Act::Write(REQUEST_DEADLINE));
    }
    assert_eq!(turn(&mut b, begin + ms(1000)).await, Act::Read(REQUEST_DEADLINE));
    assert!(!a.election.leads(begin) && !b.election.leads(begin));
    // Both have seen it unchanged for long enough. The second one is refused.
    let now = Instant::now() + ms(5000);
    for candidate in [&mut a, &mut b] {
        assert_eq!(turn(candidate, now).await, Act::Write(REQUEST_DEADLINE));
    }
    assert!(a.election.leads(now) && !b.election.leads(now));
    assert_eq!(server.lock().unwrap().1, 2);
    assert_eq!(turn(&mut a, now + ms(1000)).await, Act::Write(REQUEST_DEADLINE));
    assert_eq!(turn(&mut b, now + ms(1000)).await, Act::Read(REQUEST_DEADLINE));
    assert_eq!((&a.failing, &b.failing), (&None, &None));
    b.give_back().await.unwrap();
    assert_eq!(server.lock().unwrap().1, 3);
    // Nothing of it is gone when it is given back: who leads next counts on.
    a.give_back().await.unwrap();
    let spec = server.lock().unwrap().0.clone().unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity, spec.lease_transitions), (None, Some(1)));
    let mut now = now + ms(2000);
    for _ in 0..5 {
        turn(&mut b, now).await;
        now += ms(100);
    }
    assert!(b.election.leads(now));
    let spec = server.lock().unwrap().0.clone().unwrap().spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(2));
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_asked_again() {
    let service =
        tower::service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(std::io::Error::other("cut off")) });
    let mut candidate = Candidate::new("a", Client::new(service, "default"), "default");
    let (sender, receiver) = watch::channel(State::Asking(None));
    let now = Instant::now();
    assert_eq!(turn(&mut candidate, now).await, Act::Read(REQUEST_DEADLINE));
    assert_eq!(candidate.election.next(now), Act::Wait(ms(1000)));
    candidate.publish(&sender, now);
    let State::Asking(Some(why)) = receiver.borrow().clone() else {
        panic!("{:?}", receiver.borrow());
    };
    assert!(why.contains("cut off"), "{why}");
    assert!(candidate.why(&Lost::NotRenewed).contains("cut off"));
}
