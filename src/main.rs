//! The command line: one binary, two roles.
fn main() {}
