//! One binary, two roles; see [`multimaster::args`].

use std::process::ExitCode;

use clap::Parser;
use multimaster::agent;
use multimaster::args::{Args, Role};

fn main() -> ExitCode {
    match Args::parse().role {
        // --- the operator's side ---
        // --- the member's side ---
        Role::Agent(args) => agent::main(*args),
        Role::Install(args) => agent::install::main(&args),
    }
}
