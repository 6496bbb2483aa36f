use super::{ALREADY, differs, is_already_so};
use crate::mysql::definition::Definition;
use crate::mysql::goal::{Goal, Object, Part};

fn table(inside: &str) -> Definition {
    Definition::read(&format!("CREATE TABLE `t` ({inside}) ENGINE=InnoDB")).unwrap()
}

fn goal(part: Part, is_there: bool) -> Goal {
    Goal {
        object: Object::Table("s".into(), "t".into()),
        part,
        is_there,
    }
}

fn said(goal: &Goal, here: &str, there: &str) -> Option<String> {
    let definition = |inside: &str| (!inside.is_empty()).then(|| table(inside));
    let (here, there) = (definition(here), definition(there));
    differs(goal, ("demo-0", here.as_ref()), ("demo-2", there.as_ref()))
}

#[test]
fn what_is_so_already_is_one_of_these_errors() {
    assert!(ALREADY.is_sorted());
    assert!(is_already_so(1050) && !is_already_so(1410) && !is_already_so(1062));
}

#[test]
fn a_column_is_the_same_or_not() {
    let column = goal(Part::Column("c".into()), true);
    for (here, there, expected) in [
        ("`id` int, `c` int", "`id` int, `c` int", None),
        // The upstream is further: what it has beside the column comes next.
        ("`id` int, `c` int", "`id` int, `c` int, `d` int, KEY `k` (`c`)", None),
        ("`id` int, `c` int, `d` int", "`id` int, `c` int", None),
        ("`id` int, `c` int", "`id` int, `c` bigint", Some("is not the same")),
        ("`id` int, `c` int", "`id` int", Some("is not the same")),
        ("`id` int, `c` int", "", Some("demo-2 has none")),
        ("`id` int", "`id` int, `c` int", Some("is not the same")),
        // Row events go by position.
        (
            "`id` int, `c` int, `d` int",
            "`id` int, `d` int, `c` int",
            Some("not in the same order"),
        ),
        (
            "`c` int AUTO_INCREMENT",
            "`c` int AUTO_INCREMENT",
            Some("values of its own"),
        ),
        (
            "`c` timestamp DEFAULT CURRENT_TIMESTAMP",
            "`c` timestamp DEFAULT CURRENT_TIMESTAMP",
            Some("values of its own"),
        ),
        (
            "`c` char(36) DEFAULT (uuid())",
            "`c` char(36) DEFAULT (uuid())",
            Some("values of its own"),
        ),
        (
            "`c` json DEFAULT (json_object())",
            "`c` json DEFAULT (json_object())",
            None,
        ),
        (
            "`c` text DEFAULT (_utf8mb4'(a')",
            "`c` text DEFAULT (_utf8mb4'(a')",
            None,
        ),
        (
            "`c` datetime DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP",
            "`c` datetime DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP",
            None,
        ),
        (
            "`c` int GENERATED ALWAYS AS (rand()) VIRTUAL",
            "`c` int GENERATED ALWAYS AS (rand()) VIRTUAL",
            None,
        ),
    ] {
        let said = said(&column, here, there);
        match expected {
            None => assert_eq!(said, None, "{here} / {there}"),
            Some(words) => assert!(
                said.as_ref().is_some_and(|said| said.contains(words)),
                "{here} / {there}: {said:?}"
            ),
        }
    }
}

#[test]
fn what_is_to_go_is_gone_here() {
    let index = goal(Part::Index("k".into()), false);
    assert_eq!(said(&index, "`id` int", "`id` int"), None);
    assert_eq!(said(&index, "`id` int", "`id` int, KEY `k` (`id`)"), None);
    assert!(said(&index, "`id` int, KEY `k` (`id`)", "`id` int").is_some());
    assert_eq!(said(&goal(Part::Whole, false), "", ""), None);
    assert!(said(&goal(Part::Whole, false), "`id` int", "").is_some());
}

#[test]
fn the_whole_is_the_same_or_both_are_shown() {
    let whole = goal(Part::Whole, true);
    assert_eq!(said(&whole, "`id` int", "`id` int"), None);
    let said = said(&whole, "`id` int", "`id` bigint").unwrap();
    assert!(
        said.contains("demo-0 has CREATE TABLE `t` (`id` int)")
            && said.contains("demo-2 has CREATE TABLE `t` (`id` bigint)"),
        "{said}"
    );
}
