//! The agent: process 1 of a member's MySQL container.

pub mod report;
