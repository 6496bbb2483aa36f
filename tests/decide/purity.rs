//! `decide` does no I/O, and `act` none without a deadline: held by reading their source.

use std::fs;
use std::path::Path;

const FORBIDDEN: [&str; 10] = [
    "tokio",
    "mysql_async",
    "kube::Client",
    "kube::Api",
    "reqwest",
    "std::fs",
    "std::net",
    "std::process",
    "Instant::now",
    "Timestamp::now",
];

#[test]
fn decide_imports_nothing_that_could_do_io() {
    check("src/decide", &|code| {
        FORBIDDEN.into_iter().find(|word| code.contains(word))
    });
}

/// The driver's own calls wait for ever for a server that is frozen, and so does `connection::rows`.
#[test]
fn steps_ask_servers_with_a_deadline_only() {
    check("src/operator/act", &|code| {
        let imports = code
            .split("mysql::io::connection::{")
            .nth(1)
            .and_then(|rest| rest.split('}').next());
        let waits = imports.is_some_and(|names| names.split(',').any(|name| name.trim() == "rows"));
        ["Queryable", "connection::rows"]
            .into_iter()
            .find(|word| code.contains(word))
            .or(waits.then_some("connection::{rows}"))
    });
}

fn check(folder: &str, forbidden: &dyn Fn(&str) -> Option<&'static str>) {
    let mut read = 0;
    check_files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
        forbidden,
        &mut read,
    );
    assert!(read > 10, "only {read} files were read");
}

fn check_files(folder: &Path, forbidden: &dyn Fn(&str) -> Option<&'static str>, read: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check_files(&path, forbidden, read);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code: String = fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            assert_eq!(forbidden(&code), None, "{} uses it", path.display());
            *read += 1;
        }
    }
}
