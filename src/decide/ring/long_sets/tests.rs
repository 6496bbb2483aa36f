use super::*;

const A: &str = "0aaaaaaa-0000-0000-0000-000000000001";
const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

/// Each second transaction of a server.
fn gaps(uuid: &str, number: u64) -> GtidSet {
    let numbers: Vec<String> = (1..=number).map(|n| (2 * n).to_string()).collect();
    set(&format!("{uuid}:{}", numbers.join(":")))
}

fn read(text: &str, omitted: &[&str]) -> Executed {
    let omitted: Vec<String> = omitted.iter().map(|&uuid| uuid.to_owned()).collect();
    Executed::read(text, &omitted).unwrap()
}

#[test]
fn a_uuid_that_is_left_out_is_never_one_without_transactions() {
    let whole = read(&format!("{A}:1-5"), &[]);
    assert!(!whole.is_cut() && !whole.leaves_out(A) && !whole.leaves_out(B));
    let of = set(&format!("{A}:4-9,{B}:1-9"));
    assert_eq!(whole.possibly(&of), set(&format!("{A}:4-5")));
    for cut in [
        read(&format!("{A}:1-5"), &[&B.to_uppercase()]),
        read(&format!("{A}:1-5"), &["*"]),
        read(&format!("{A}:1-5,{B}:omitted"), &[]),
        read(&format!("{B}:omitted,\n{A}:1-5"), &["*"]),
    ] {
        assert!(cut.is_cut() && !cut.leaves_out(A) && cut.leaves_out(B), "{cut:?}");
        assert_eq!(cut.possibly(&of), set(&format!("{A}:4-5,{B}:1-9")));
        let more = cut.and(&set(&format!("{A}:6,{B}:1")), &Lives::default());
        assert_eq!(more.set, set(&format!("{A}:1-6")), "part of it is not all of it");
    }
    // A member that is not named has written nothing before.
    let members = Lives {
        present: [B.to_owned()].into(),
        ..Lives::default()
    };
    let all_others = read(&format!("{A}:1-5"), &["*"]);
    assert!(!all_others.leaves_out_member(B));
    let more = all_others.and(&set(&format!("{A}:6,{B}:1")), &members);
    assert_eq!(more.set, set(&format!("{A}:1-6,{B}:1")));
    // Somebody has written it in again, perhaps not all of it.
    assert!(read(&format!("{A}:1-5,{B}:1"), &[B]).leaves_out(B));
    for nonsense in [format!("{A}:1:omitted"), "omitted".into(), format!("{A}:~,{B}:omitted")] {
        assert!(Executed::read(&nonsense, &[]).is_err(), "{nonsense}");
    }
}

#[test]
fn a_target_is_whole_or_what_is_lacking_or_no_set() {
    let short = gaps(A, 500);
    assert_eq!(target(&short, &GtidSet::default()), short.to_string());
    let long = gaps(A, 5_000).union(&set(&format!("{B}:1-9")));
    assert_eq!(target(&long, &gaps(A, 5_000)), format!("{B}:1-9"));
    assert_eq!(target(&long, &long), "");
    let none = target(&long, &set(&format!("{B}:1-9")));
    assert_eq!(none, OMITTED);
    assert!(none.parse::<GtidSet>().is_err());
}
