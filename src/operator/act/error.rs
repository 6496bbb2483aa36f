//! How a step ended.

use crate::mysql::io::connection::SqlError;
use crate::operator::kubernetes::KubernetesError;
use crate::resources::foreign::Foreign;
use crate::wire::io::client::AgentError;

/// Why a step was not carried out. The next pass looks again and decides anew.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] KubernetesError),
    /// The API server could not do it now. No object was refused.
    #[error(transparent)]
    NotNow(KubernetesError),
    /// A member's server.
    #[error("{member}: {source}")]
    Sql {
        /// Which member.
        member: String,
        /// What it said.
        source: SqlError,
    },
    /// A member's agent.
    #[error("the agent of {member}: {source}")]
    Agent {
        /// Which member.
        member: String,
        /// What it said.
        source: AgentError,
    },
    /// An object has the name of one of the cluster's, and is not the cluster's.
    #[error("{what} {why}")]
    Foreign {
        /// Kind and name.
        what: String,
        /// Whose it is.
        why: Foreign,
    },
    /// Certificates could not be made.
    #[error("making certificates: {0}")]
    Certificates(#[source] rcgen::Error),
    /// The operating system gave no random numbers for passwords.
    #[error("no random numbers for passwords: {0}")]
    Random(#[source] getrandom::Error),
    /// What the step needs went away since it was decided.
    #[error("{0} is not there any more")]
    Gone(String),
}

/// What a step changed for the next passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something was written.
    Done,
    /// Everything was as wanted already.
    Nothing,
}
