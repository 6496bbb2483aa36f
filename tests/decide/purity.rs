//! `decide` does no I/O: held by reading its source.

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
    let mut read = 0;
    check(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/decide")), &mut read);
    assert!(read > 10, "only {read} files were read");
}

fn check(folder: &Path, read: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check(&path, read);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code: String = fs::read_to_string(&path)
                .unwrap()
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect();
            for word in FORBIDDEN {
                assert!(!code.contains(word), "{} uses {word}", path.display());
            }
            *read += 1;
        }
    }
}
