//! What the keeper needs to renew the lease of the one writer between passes.

use std::time::Instant;

use crate::wire::io::client::AgentClient;
use crate::wire::lease::LeaseRenewal;

/// The lease renewal of the one writer, as the last pass sent it.
#[derive(Clone)]
pub struct WriterLease {
    /// Ordinal of the writer.
    pub ordinal: u8,
    /// The writer's pod.
    pub pod_uid: String,
    /// Its agent.
    pub agent: AgentClient,
    /// What the pass said. Its clock value is that of the last answer when it is sent again.
    pub renewal: LeaseRenewal,
    /// When the agent was last asked.
    pub asked: Instant,
}

/// The last answer of an agent.
#[derive(Clone)]
pub struct LastAnswer {
    /// The agent's pod.
    pub pod_uid: String,
    /// When it was asked.
    pub asked: Instant,
    /// When the answer had arrived.
    pub at: Instant,
    /// The agent's own clock in the answer. It was read before `at`. After a restart of the agent it begins anew.
    pub clock: u64,
}

impl LastAnswer {
    /// What is known after another answer, which need not be the later one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let at = self.at.max(other.at);
        let later = if other.asked >= self.asked { other } else { self };
        Self { at, ..later }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::LastAnswer;

    #[test]
    fn the_answer_to_the_later_question_counts_whenever_it_came() {
        let began = std::time::Instant::now();
        let after = |milliseconds| began + Duration::from_millis(milliseconds);
        let answer = |asked, at, clock| LastAnswer {
            pod_uid: "p".into(),
            asked: after(asked),
            at: after(at),
            clock,
        };
        // The agent began anew in between, and its clock with it.
        let (before, restarted) = (answer(0, 900, 864_000_000), answer(500, 600, 70));
        for known in [before.clone().and(restarted.clone()), restarted.and(before)] {
            assert_eq!((known.asked, known.at, known.clock), (after(500), after(900), 70));
        }
    }
}
