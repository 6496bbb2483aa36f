use std::future::{pending, ready};

use futures::FutureExt;

use super::*;

type Done = Result<ComparisonStatus, CompareError>;

/// A comparison that ends when the test says so, within its limits.
struct Comparing(oneshot::Sender<Done>);

/// Begins a comparison of a cluster. `None`: it waits in line.
fn begin(comparisons: &Arc<Comparisons>, uid: &str, now: Instant) -> Option<Comparing> {
    let (end, ended) = oneshot::channel();
    let work = |turn: Turn| {
        let Turn { progress, limits, .. } = turn;
        async move {
            // Its sender is dropped only when the test ends.
            let work = async { ended.await.unwrap_or(Err(CompareError::Busy)) };
            let done = limits.hold(work).await;
            drop(progress);
            done
        }
    };
    comparisons.begin(uid, None, now, work).then_some(Comparing(end))
}

impl Comparing {
    async fn end(self, comparisons: &Comparisons, uid: &str, done: Done) {
        self.0.send(done).expect("it waits");
        ended(comparisons, uid).await;
    }
}

async fn ended(comparisons: &Comparisons, uid: &str) {
    while comparisons.lock().running.contains_key(uid) {
        tokio::task::yield_now().await;
    }
}

fn queued(ahead: usize) -> ComparisonRun {
    ComparisonRun::Queued { ahead }
}

fn times(run: &ComparisonRun) -> u32 {
    match run {
        ComparisonRun::Failed { times, .. } => *times,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_few_are_compared_and_the_others_wait_in_order() {
    let (comparisons, now) = (Arc::new(Comparisons::default()), Instant::now());
    let of = |uid| comparisons.of(uid, now);
    assert_eq!(of("a"), ComparisonRun::Idle);
    let a = begin(&comparisons, "a", now).expect("the first");
    let _b = begin(&comparisons, "b", now).expect("the second");
    for _ in 0..2 {
        // Who asks again has one place.
        for uid in ["c", "d", "e", "a"] {
            assert!(begin(&comparisons, uid, now).is_none(), "{uid}");
        }
    }
    let seen = ["a", "b", "c", "d", "e"].map(of);
    let expected = [
        ComparisonRun::Running,
        ComparisonRun::Running,
        queued(2),
        queued(3),
        queued(4),
    ];
    assert_eq!(seen, expected);

    a.end(&comparisons, "a", Ok(ComparisonStatus::default())).await;
    assert_eq!(of("a"), ComparisonRun::Finished(ComparisonStatus::default()));
    comparisons.noted("a");
    // It is the turn of c, and nobody is faster.
    assert_eq!(
        ["a", "c", "d"].map(of),
        [ComparisonRun::Idle, ComparisonRun::Idle, queued(2)]
    );
    for uid in ["d", "f", "a"] {
        assert!(begin(&comparisons, uid, now).is_none(), "{uid}");
    }
    let _c = begin(&comparisons, "c", now).expect("its turn");
    assert_eq!(
        ["c", "d", "e", "f", "a"].map(of),
        [ComparisonRun::Running, queued(2), queued(3), queued(4), queued(5)]
    );
}

#[tokio::test]
async fn a_turn_that_is_not_used_goes_to_the_next() {
    let (comparisons, now) = (Arc::new(Comparisons::default()), Instant::now());
    let a = begin(&comparisons, "a", now).unwrap();
    let _b = begin(&comparisons, "b", now).unwrap();
    let waiting = ["absent", "unable", "c"];
    for uid in waiting {
        assert!(begin(&comparisons, uid, now).is_none());
    }
    let pass = |uid, at| comparisons.of(uid, at);
    // While others wait for hours, a cluster keeps its place as long as there are passes over it.
    let later = now + ABSENCE - Duration::from_secs(1);
    assert_eq!((pass("unable", later), pass("c", later)), (queued(3), queued(4)));
    let later = now + ABSENCE;
    assert_eq!((pass("unable", later), pass("c", later)), (queued(2), queued(3)));

    a.end(&comparisons, "a", Err(CompareError::Busy)).await;
    assert_eq!(
        (pass("unable", later), pass("c", later)),
        (ComparisonRun::Idle, queued(2))
    );
    let (last, after) = (later + OFFER - Duration::from_secs(1), later + OFFER);
    assert_eq!(
        (pass("unable", last), pass("c", last)),
        (ComparisonRun::Idle, queued(2))
    );
    assert_eq!(
        (pass("unable", after), pass("c", after)),
        (ComparisonRun::Idle, ComparisonRun::Idle)
    );
    assert!(
        begin(&comparisons, "unable", after).is_none(),
        "it is in line again, behind c"
    );
    assert!(begin(&comparisons, "c", after).is_some());
}

#[tokio::test]
async fn attempts_that_fail_in_a_row_are_counted() {
    let (comparisons, now) = (Arc::new(Comparisons::default()), Instant::now());
    for failed in 1..4 {
        let a = begin(&comparisons, "a", now).unwrap();
        a.end(&comparisons, "a", Err(CompareError::Busy)).await;
        let run = comparisons.of("a", now);
        assert_eq!(times(&run), failed);
        assert!(matches!(run, ComparisonRun::Failed { why, .. } if why == CompareError::Busy.to_string()));
    }
    // One that waits for its turn after it failed loses no count.
    let _two = ["b", "c"].map(|uid| begin(&comparisons, uid, now).unwrap());
    assert!(begin(&comparisons, "a", now).is_none());
    assert_eq!(comparisons.of("a", now), queued(2));
    comparisons.forget("b");
    assert_eq!(times(&comparisons.of("a", now)), 3);
    let a = begin(&comparisons, "a", now).unwrap();
    a.end(&comparisons, "a", Ok(ComparisonStatus::default())).await;
    comparisons.noted("a");
    let a = begin(&comparisons, "a", now).unwrap();
    a.end(&comparisons, "a", Err(CompareError::Busy)).await;
    assert_eq!(times(&comparisons.of("a", now)), 1);
}

#[tokio::test]
async fn a_panic_is_a_failure_with_its_reason() {
    let (comparisons, now) = (Arc::new(Comparisons::default()), Instant::now());
    let requested = Some("now".to_owned());
    assert!(comparisons.begin("a", requested.clone(), now, |_| async { panic!("a row of {}", 3) }));
    ended(&comparisons, "a").await;
    match comparisons.of("a", now) {
        ComparisonRun::Failed {
            why,
            times: 1,
            requested: of,
            ..
        } => assert!(why.contains("panicked: a row of 3") && of == requested, "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_deleted_ends_and_frees_its_place_at_once() {
    let (comparisons, now) = (Arc::new(Comparisons::default()), Instant::now());
    let (told, tells) = oneshot::channel();
    assert!(comparisons.begin("a", None, now, |turn| async move {
        let done = turn.limits.hold(pending()).await;
        drop(told.send(done));
        pending().await
    }));
    let _b = begin(&comparisons, "b", now).unwrap();
    for uid in ["c", "d"] {
        assert!(begin(&comparisons, uid, now).is_none());
    }
    comparisons.keep_only(|uid| uid != "a" && uid != "c");
    assert_eq!(comparisons.of("a", now), ComparisonRun::Idle);
    let _d = begin(&comparisons, "d", now).expect("c is gone, too, and a no longer runs");
    let done: Done = tells.await.unwrap();
    assert!(matches!(done, Err(CompareError::Unwanted)), "{done:?}");
}

#[tokio::test]
async fn a_comparison_has_limits() {
    let (long, short) = (Duration::from_secs(3600), Duration::from_millis(1));
    let hold = async |longest, standstill| {
        let (progress, read) = watch::channel(String::new());
        let (_wanted, unwanted) = oneshot::channel();
        let limits = Limits {
            read,
            unwanted,
            longest,
            standstill,
        };
        progress.send_replace("table shop.t".into());
        limits.hold(pending::<Result<(), _>>()).await
    };
    let overdue = hold(short, long).await;
    assert!(matches!(overdue, Err(CompareError::Overdue(_))), "{overdue:?}");
    let still = hold(long, short).await.unwrap_err();
    assert!(still.to_string().contains("the last was table shop.t"), "{still}");
    // What has ended does not stand still.
    let (progress, read) = watch::channel(String::new());
    drop(progress);
    assert!(stood_still(read, short).now_or_never().is_none());
    let (_wanted, unwanted) = oneshot::channel();
    let (_progress, read) = watch::channel(String::new());
    let limits = Limits {
        read,
        unwanted,
        longest: long,
        standstill: long,
    };
    assert_eq!(limits.hold(ready(Ok(7))).await.unwrap(), 7);
}

#[tokio::test]
async fn the_pass_waits_until_writes_go_on() {
    let (comparisons, now) = (Arc::new(Comparisons::default()), Instant::now());
    let (asked, asks) = oneshot::channel();
    assert!(comparisons.begin("a", None, now, |turn| async move {
        drop(asked.send(turn.permit));
        pending().await
    }));
    assert!(!comparisons.stop_writes("a").await, "no comparison asks");
    let stopper = tokio::spawn(asks.await.ok().unwrap());
    while comparisons.of("a", now) != ComparisonRun::Unsettled {
        tokio::task::yield_now().await;
    }
    assert!(!comparisons.stop_writes("b").await, "another cluster");
    let pass = tokio::spawn({
        let comparisons = comparisons.clone();
        async move { comparisons.stop_writes("a").await }
    });
    let permit = stopper.await.unwrap().unwrap();
    assert!(!pass.is_finished());
    drop(permit);
    assert!(pass.await.unwrap());
}
