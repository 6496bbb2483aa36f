//! What is said of one condition.

/// Status, reason and message of a condition.
pub type Judgement = (&'static str, &'static str, String);
