//! Behaviour on a real cluster with a deployed operator: `hack/test.sh` brings both up and runs these, one file per behaviour.
//!
//! Conditions are waited for with generous deadlines; nothing waits for a time and nothing asserts one. Two tests run side by
//! side, each in a namespace of its own; what disturbs nodes or the operator is in `alone` and runs by itself afterwards.

#![allow(missing_docs, clippy::disallowed_methods)]

mod support;

mod bad_input;
mod balancer;
mod bench;
mod capture;
mod chaos;
mod comparison;
mod conflicts;
mod consistency;
mod drift;
mod fencing;
mod healthy;
mod loss;
mod rbac;
mod recreate;
mod restart;
mod ring;
mod scale;
mod single_writer;
mod sticky;
mod two_names;
mod volume;

mod alone {
    mod balancer;
    mod both_modes;
    mod healing;
    mod idle;
    mod isolation;
    mod node;
    mod open_conflicts;
    mod operator;
    mod position;
    mod single_writer;
    mod upgrade;
    mod volume;
}
