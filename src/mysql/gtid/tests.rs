//! Examples of the text format, and properties against a model that lists every transaction.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const A: &str = "0aaaaaaa-0000-0000-0000-000000000001";
const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

fn error(text: &str) -> String {
    text.parse::<GtidSet>().unwrap_err().to_string()
}

#[test]
fn what_mysqld_prints_is_read_and_written_in_one_line() {
    let printed = format!("{A}:1-5:7:tag_a:1-3:7,\n{B}:1");
    assert_eq!(set(&printed).to_string(), printed.replace('\n', ""));
}

#[test]
fn nothing_is_the_empty_set() {
    for text in ["", "  \n", ",", " , \n,"] {
        assert!(set(text).is_empty(), "{text:?}");
        assert_eq!(set(text).to_string(), "");
    }
}

#[test]
fn spelling_does_not_matter() {
    let tidy = set(&format!("{A}:1-10:tag_a:1-2,{B}:4"));
    let untidy = format!(
        " {}:4 ,\r\n\t{} : 6 - 10 : 1-5 :TAG_a: 2:1 ,{A}:3-4,",
        B.to_uppercase(),
        A.to_uppercase()
    );
    assert_eq!(set(&untidy), tidy);
    assert_eq!(set(&untidy).to_string(), tidy.to_string());
}

#[test]
fn untagged_comes_first_and_every_uuid_once() {
    assert_eq!(
        set(&format!("{B}:1,{A}:z:1,{A}:_b:2:x:3,{A}:9")).to_string(),
        format!("{A}:9:_b:2:x:3:z:1,{B}:1")
    );
    assert_eq!(set(&format!("{A}:1:x:1,{B}:1")).uuids(), [A, B]);
}

#[test]
fn a_bad_text_is_refused_with_the_part_that_is_wrong() {
    assert!(
        error("nonsense:1").contains(r#""nonsense" is not a server UUID"#),
        "{}",
        error("nonsense:1")
    );
    assert!(error(&format!("{A}:1-x")).contains(r#""1-x""#));
    assert!(error(&format!("{A}:5-3")).contains(r#""5-3" ends before"#));
    assert!(error(&format!("{A}:x-y:1")).contains(r#""x-y" is not a tag"#));
    assert!(error(&format!("{A}:{}:1", "t".repeat(33))).contains("is not a tag"));
    assert!(error(&format!("{A}:1:a:b:1")).contains(r#""b" follows a tag"#));
    for text in [
        A.to_owned(),
        format!("{A}:"),
        format!("{A}:a"),
        format!("{A}:1:a"),
        format!("{A}:1:"),
        format!("{A}:0"),
        format!("{A}:1-"),
        format!("{A}:-1"),
        format!("{A}:+1"),
    ] {
        assert!(text.parse::<GtidSet>().is_err(), "{text}");
    }
}

#[test]
fn the_largest_number_is_two_to_the_63_less_two() {
    let all = set(&format!("{A}:1-9223372036854775806"));
    assert_eq!(all.count(), MAX_GNO);
    assert!(error(&format!("{A}:9223372036854775807")).contains("9223372036854775807"));
    assert!(error(&format!("{A}:99999999999999999999999")).contains("99999999999999999999999"));
    assert_eq!(all.union(&all), all);
    assert_eq!(
        all.difference(&set(&format!("{A}:9223372036854775806"))).to_string(),
        format!("{A}:1-9223372036854775805")
    );
    let many = set(&format!(
        "{A}:1-9223372036854775806:a:1-9223372036854775806:b:1-9223372036854775806"
    ));
    assert_eq!(many.count(), u64::MAX, "saturates");
}

#[test]
fn tags_number_their_own_transactions() {
    let tagged = set(&format!("{A}:t:1-5"));
    let untagged = set(&format!("{A}:1-5"));
    assert!(!untagged.contains(&tagged));
    assert!(untagged.intersection(&tagged).is_empty());
    assert_eq!(tagged.union(&untagged).only(&A.to_uppercase()).count(), 10);
    assert!(tagged.only(B).is_empty());
}

#[test]
fn serde_speaks_text() {
    let json = serde_json::json!(format!("{A}:1-3"));
    let parsed: GtidSet = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), json);
    let refused = serde_json::from_value::<GtidSet>(serde_json::json!("x:1")).unwrap_err();
    assert!(refused.to_string().contains("server UUID"), "{refused}");
}

/// The model: every transaction by itself.
type Model = BTreeSet<(usize, usize, u64)>;
const UUIDS: [&str; 2] = [B, A];
const TAGS: [&str; 3] = ["", "b", "a_1"];

fn parse(model: &Model) -> GtidSet {
    let entries: Vec<String> = model
        .iter()
        .map(|&(uuid, tag, gno)| format!("{}:{}:{gno}", UUIDS[uuid], TAGS[tag]).replace("::", ":"))
        .collect();
    set(&entries.join(", "))
}

/// Small numbers, so that intervals often touch and overlap.
fn model() -> impl Strategy<Value = Model> {
    proptest::collection::btree_set((0..UUIDS.len(), 0..TAGS.len(), 1..24_u64), 0..90)
}

proptest! {
    #[test]
    fn agrees_with_the_model(a in model(), b in model()) {
        let (x, y) = (parse(&a), parse(&b));
        prop_assert_eq!(x.union(&y), parse(&a.union(&b).copied().collect()));
        let mut added = x.clone();
        for transaction in &b {
            added.add(&parse(&[*transaction].into()));
        }
        prop_assert_eq!(&added, &x.union(&y));
        prop_assert_eq!(GtidSet::union_all([&y, &x, &y]), added);
        prop_assert_eq!(x.difference(&y), parse(&a.difference(&b).copied().collect()));
        prop_assert_eq!(x.intersection(&y), parse(&a.intersection(&b).copied().collect()));
        prop_assert_eq!(x.contains(&y), a.is_superset(&b));
        prop_assert!(x.union(&y).contains(&y));
        prop_assert_eq!(x == y, a == b);
        prop_assert_eq!(x.is_empty(), a.is_empty());
        prop_assert_eq!(x.count(), a.len() as u64);
        for (number, uuid) in UUIDS.iter().enumerate() {
            prop_assert_eq!(x.only(uuid), parse(&a.iter().filter(|t| t.0 == number).copied().collect()));
            prop_assert_eq!(x.uuids().contains(uuid), a.iter().any(|t| t.0 == number));
        }
    }

    #[test]
    fn text_is_canonical(a in model()) {
        let x = parse(&a);
        let text = x.to_string();
        prop_assert_eq!(set(&text), x.clone());
        prop_assert_eq!(set(&text.replace(',', ",\n")).to_string(), text);
    }

    #[test]
    fn no_text_panics(text in "[0-9a-fA-F:,\\- _xt]{0,80}") {
        if let Ok(set) = text.parse::<GtidSet>() {
            prop_assert_eq!(set.to_string().parse::<GtidSet>(), Ok(set));
        }
    }
}

#[test]
fn what_has_a_tag() {
    let set = set("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:a:1-3:b:7");
    assert_eq!(
        set.tagged("a").to_string(),
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:a:1-3"
    );
    assert!(set.tagged("c").is_empty());
}

#[test]
fn a_text_that_is_too_long_is_none() {
    let some = set(&format!("{A}:1-5:7,{B}:1:t:2"));
    let text = some.to_string();
    assert_eq!(some.within(text.len()), Some(text.clone()));
    assert_eq!(some.within(text.len() - 1), None);
    assert_eq!(GtidSet::default().within(0), Some(String::new()));
    assert_eq!(some.of(|uuid| uuid == B).to_string(), format!("{B}:1:t:2"));
    assert!(some.of(|_| false).is_empty());
}

/// More than a server ever has: each second transaction of one server, and none of its neighbours.
const MANY: u64 = 300_000;

/// `first`, `first + step` and so on. `MANY` intervals, in the order that is given.
fn many(numbers: impl Iterator<Item = u64>) -> GtidSet {
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    set(&format!("{A}:{}", numbers.join(":")))
}

/// If an operation were quadratic, this would take minutes.
#[test]
fn a_set_of_very_many_intervals_is_no_burden() {
    let odd = || (0..MANY).map(|n| 2 * n + 1);
    let (odds, evens) = (many(odd()), many(odd().map(|n| n + 1)));
    let all = set(&format!("{A}:1-{}", 2 * MANY));
    assert_eq!(many((0..MANY).rev().map(|n| 2 * n + 1)), odds, "in any order");
    // Each number comes once: 7,919 and MANY have no common factor.
    let shuffled = (0..MANY).map(|n| 2 * (n * 7_919 % MANY) + 1);
    assert_eq!(many(shuffled), odds, "in any order");
    let tagged: Vec<String> = (1..=MANY).map(|n| format!("t{}:{n}", n % 7)).collect();
    let tagged = set(&format!("{B}:{}", tagged.join(":")));
    assert_eq!(tagged.count(), MANY);

    assert_eq!(odds.to_string().parse(), Ok(odds.clone()));
    assert_eq!(odds.count(), MANY);
    assert_eq!(odds.uuids(), [A]);
    assert_eq!(odds.only(A), odds);
    assert!(odds.tagged("t").is_empty());
    assert_eq!(odds.union(&evens), all);
    assert_eq!(GtidSet::union_all([&odds, &all, &evens, &tagged]).only(A), all);
    assert_eq!(all.difference(&odds), evens);
    assert_eq!(odds.difference(&evens), odds);
    assert_eq!(odds.intersection(&all), odds);
    assert!(odds.intersection(&evens).is_empty());
    assert!(all.contains(&odds) && odds.contains(&odds.clone()) && !odds.contains(&evens));
    assert!(odds.brief().len() < 400 && format!("{odds:?}").len() < 400);
    assert_eq!(odds.of(|uuid| uuid == A), odds);
    assert_eq!(odds.within(1 << 14), None);
    assert_eq!(odds.within(1 << 23), Some(odds.to_string()));

    // As many UUIDs, and one UUID as many times.
    let uuid = |n: u64| format!("{n:08x}-0000-0000-0000-000000000000");
    let text: Vec<String> = (0..MANY).rev().map(|n| format!("{}:{}", uuid(n), n + 1)).collect();
    let uuids = set(&text.join(","));
    assert_eq!(uuids.uuids().len(), text.len());
    assert!(uuids.contains(&uuids.clone()) && uuids.difference(&uuids).is_empty());
    assert_eq!(uuids.union(&uuids).intersection(&uuids), uuids);
    assert_eq!(uuids.of(|it| it == uuid(7)).to_string(), format!("{}:8", uuid(7)));
    for n in 0..MANY {
        assert_eq!(uuids.only(&uuid(n)).count(), 1);
    }
    let text: Vec<String> = odd().rev().map(|n| format!("{A}:{n}")).collect();
    assert_eq!(set(&text.join(",")), odds);

    // One transaction at a time, as a log is read; and each looked for.
    let mut log = GtidSet::default();
    for number in odd() {
        let one = set(&format!("{A}:{number}"));
        log.add(&one);
        assert!(odds.contains(&one) && one.difference(&odds).is_empty());
    }
    assert_eq!(log, odds);
}

#[test]
fn people_read_the_beginning_of_a_long_set() {
    let short = set(&format!("{A}:1-5:7:tag_a:1-3,{B}:1"));
    assert_eq!(short.brief(), short.to_string());
    assert_eq!(format!("{short:?}"), format!("{:?}", short.to_string()));
    assert_eq!(GtidSet::default().brief(), "");
    let long = many((1..=1000).map(|n| 3 * n));
    let brief = long.brief();
    let (beginning, mark) = brief.split_once('…').unwrap();
    assert_eq!(mark, " (1000 transactions in 1000 intervals)");
    assert!(beginning.len() > 250 && long.contains(&set(beginning)), "{brief}");
    // The first interval that is not shown whole is not shown at all.
    for digits in 1..12 {
        let long = many((1..=1000).map(|n| 10_u64.pow(digits) * n));
        let brief = long.brief();
        assert!(long.contains(&set(brief.split_once('…').unwrap().0)), "{brief}");
    }
}
