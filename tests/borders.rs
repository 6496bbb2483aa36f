//! The rooms of `docs/architecture.md`: what may use what, no circle of files, no file that is too long. Held by reading the source.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// More lines than this are two files.
const MOST_LINES: usize = 400;

/// What a room may use of the others. A folder inside a room (`mysql/io`) is a room of its own when it stands here.
const ROOMS: [(&str, &[&str]); 13] = [
    ("names", &[]),
    ("api", &["names"]),
    ("args", &["api", "names"]),
    ("logging", &["args"]),
    ("mysql", &["names"]),
    ("mysql/io", &["mysql", "names"]),
    ("wire", &["api", "mysql", "names"]),
    ("wire/io", &["wire", "names"]),
    ("resources", &["api", "mysql", "names"]),
    ("decide", &["api", "wire", "mysql", "resources", "names"]),
    (
        "agent",
        &[
            "api", "args", "logging", "mysql", "mysql/io", "names", "wire", "wire/io",
        ],
    ),
    ("balancer", &["api", "args", "logging", "names", "wire", "wire/io"]),
    (
        "operator",
        &[
            "api",
            "args",
            "decide",
            "mysql",
            "mysql/io",
            "names",
            "resources",
            "wire",
            "wire/io",
        ],
    ),
];

/// Rooms without a connection or a clock.
const PURE: [&str; 6] = ["api", "decide", "mysql", "names", "resources", "wire"];
const IMPURE: [&str; 11] = [
    "tokio",
    "mysql_async",
    "axum",
    "kube::Client",
    "kube::Api",
    "reqwest",
    "std::fs",
    "std::process",
    "TcpStream",
    "Instant::now",
    "Timestamp::now",
];

/// A file of `src/`: the path of its module, its code without comments, strings and tests.
struct File {
    module: Vec<String>,
    code: String,
    lines: usize,
}

fn files() -> Vec<File> {
    let mut files = Vec::new();
    read(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut Vec::new(),
        &mut files,
    );
    assert!(files.len() > 100, "only {} files were read", files.len());
    files
}

fn read(folder: &Path, module: &mut Vec<String>, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            module.push(stem);
            read(&path, module, files);
            module.pop();
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            let text = fs::read_to_string(&path).unwrap();
            let mut module = module.clone();
            if !["mod", "lib", "main"].contains(&stem.as_str()) {
                module.push(stem);
            }
            files.push(File {
                module,
                code: code(&text),
                lines: text.lines().count(),
            });
        }
    }
}

fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut code = String::new();
    for line in text.lines() {
        // Every second piece between quotes is a string; `//` in one is no comment.
        let pieces = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        code.push_str(pieces.split("//").next().unwrap());
        code.push('\n');
    }
    code
}

/// The paths that a file names, from the root of the crate.
fn paths(file: &File) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut rest = file.code.as_str();
    while let Some(at) = rest.find("use ") {
        let begins = rest[..at].ends_with(|c: char| c.is_whitespace()) || at == 0;
        rest = &rest[at + 4..];
        if begins && let Some(end) = rest.find(';') {
            for path in tree(&rest[..end]) {
                found.extend(absolute(&path, &file.module));
            }
        }
    }
    let declared = file
        .code
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';')?.split_once("mod "));
    let declared: BTreeSet<&str> = declared.map(|(_, name)| name).collect();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in file.code.split(|c| !is_part(c)) {
        found.extend(absolute(word, &file.module));
        if word.split_once("::").is_some_and(|(first, _)| declared.contains(first)) {
            found.extend(absolute(&format!("self::{word}"), &file.module));
        }
    }
    found
}

/// The single paths of a `use` tree.
fn tree(text: &str) -> Vec<String> {
    let text = text.trim();
    let Some((before, inside)) = text.split_once('{') else {
        return vec![text.split(" as ").next().unwrap().trim().to_owned()];
    };
    let inside = inside.rsplit_once('}').unwrap().0;
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[begin..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(tree).map(|part| format!("{before}{part}")).collect()
}

/// `pub(super)` names nothing, nor does what stands before the braces of a `use` tree.
fn absolute(path: &str, module: &[String]) -> Option<Vec<String>> {
    path.split_once("::").filter(|_| !path.ends_with("::"))?;
    let mut parts = path.split("::").map(|part| part.trim().to_owned()).peekable();
    let mut base = match parts.next()?.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        _ => return None,
    };
    while parts.next_if(|part| part == "super").is_some() {
        base.pop()?;
    }
    base.extend(parts);
    Some(base)
}

/// The file in which a path ends.
fn file_of<'a>(path: &[String], files: &'a BTreeMap<&[String], &File>) -> Option<&'a [String]> {
    (1..=path.len())
        .rev()
        .find_map(|end| files.get_key_value(&path[..end]).map(|(module, _)| *module))
}

fn room(module: &[String]) -> &'static str {
    let path = module.join("/");
    let rooms = ROOMS.iter().map(|(room, _)| *room);
    let within = |room: &&str| path == *room || path.starts_with(&format!("{room}/"));
    rooms
        .filter(within)
        .max_by_key(|room| room.len())
        .unwrap_or_else(|| panic!("src/{path} is in no room of docs/architecture.md"))
}

/// What each file uses.
fn arrows(files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let known: BTreeMap<&[String], &File> = files
        .iter()
        .filter(|file| !file.module.is_empty())
        .map(|file| (file.module.as_slice(), file))
        .collect();
    let of = |file: &File| {
        let used = paths(file)
            .into_iter()
            .filter_map(|path| Some(file_of(&path, &known)?.join("/")));
        used.filter(|used| *used != file.module.join("/")).collect()
    };
    known.values().map(|file| (file.module.join("/"), of(file))).collect()
}

#[test]
fn a_room_uses_what_the_map_says() {
    let split = |module: &str| module.split('/').map(str::to_owned).collect::<Vec<_>>();
    let mut crossings = 0;
    for (file, used) in arrows(&files()) {
        let (own, allowed) = ROOMS.iter().find(|(name, _)| *name == room(&split(&file))).unwrap();
        for other in used {
            let theirs = room(&split(&other));
            crossings += usize::from(theirs != *own);
            assert!(
                theirs == *own || allowed.contains(&theirs),
                "src/{file} uses {other}: {own} may use {allowed:?} and nothing else"
            );
        }
    }
    assert!(crossings > 100, "only {crossings} uses of other rooms were seen");
}

#[test]
fn what_is_pure_has_no_connection_and_no_clock() {
    let files = files();
    let pure = |file: &&File| !file.module.is_empty() && PURE.contains(&room(&file.module));
    for file in files.iter().filter(pure) {
        for word in IMPURE {
            assert!(!file.code.contains(word), "src/{} uses {word}", file.module.join("/"));
        }
    }
}

/// Every file that this one uses, directly or by way of others.
fn reached<'a>(file: &str, arrows: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = arrows[file].iter().collect();
    while let Some(used) = next.pop() {
        if reached.insert(used) {
            next.extend(&arrows[used]);
        }
    }
    reached
}

#[test]
fn files_use_each_other_in_no_circle() {
    let arrows = arrows(&files());
    let back = |file: &String, used: &&String| reached(used, &arrows).contains(file);
    let mut circles = String::new();
    for (file, used) in &arrows {
        for used in used.iter().filter(|used| back(file, used)) {
            circles.push_str(&format!("\n{file} -> {used}"));
        }
    }
    assert!(circles.is_empty(), "files use each other in a circle:{circles}");
}

#[test]
fn no_file_is_too_long() {
    let long = files().into_iter().filter(|file| file.lines > MOST_LINES);
    let long: Vec<String> = long
        .map(|file| format!("{}: {}", file.module.join("/"), file.lines))
        .collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {}", long.join(", "));
}
