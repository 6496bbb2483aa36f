//! Begins comparisons. [`crate::operator::compare`] carries them out beside the passes.

use kube::ResourceExt;

use super::{ActError, Actor, Outcome};
use crate::mysql::io::connection::{ANSWER_OF_DEFINITIONS, Address};
use crate::names::{accounts, keys};
use crate::operator::compare::run::Subject;
use crate::operator::compare::{Party, begin};

impl Actor<'_> {
    /// Begins to compare all members that were observed, or waits in line.
    pub(super) fn compare(&self, requested: Option<String>) -> Result<Outcome, ActError> {
        let Some(credentials) = self.credentials else {
            return Ok(Outcome::Nothing);
        };
        let mut parties = Vec::new();
        for member in &self.observed.members {
            let (ordinal, name) = (member.ordinal, self.name(member.ordinal));
            let server = member.server().ok_or_else(|| ActError::Gone(name.clone()))?;
            parties.push(Party {
                server_uuid: server.uuid.clone(),
                address: Address {
                    ip: self.address(ordinal)?,
                    host: self.host(ordinal),
                    user: accounts::OPERATOR,
                    password: credentials.get(keys::OPERATOR).into(),
                    authority: credentials.authority.clone(),
                    longest_answer: ANSWER_OF_DEFINITIONS,
                },
                name,
            });
        }
        let subject = Subject {
            requested,
            app: self
                .cluster()
                .spec
                .database
                .as_ref()
                .map(|database| database.user.clone()),
        };
        let uid = self.cluster().uid().unwrap_or_default();
        Ok(match begin(&self.context.comparisons, &uid, parties, subject) {
            true => Outcome::Done,
            false => Outcome::Nothing,
        })
    }

    /// Lets the comparison stop writes, and waits until the members take writes again. Only this pass could change members meanwhile.
    pub(super) async fn stop_writes(&self) -> Result<Outcome, ActError> {
        let uid = self.cluster().uid().unwrap_or_default();
        Ok(match self.context.comparisons.stop_writes(&uid).await {
            true => Outcome::Done,
            false => Outcome::Nothing,
        })
    }
}
