//! The members whose agents may confirm the one writer (`docs/ring.md`, "Voters").

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Members of one cluster by their ordinals, the writer itself included. In JSON a list of ordinals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
#[schemars(with = "Vec<u8>", extend("maxItems" = 16))]
pub struct Voters(u16);

impl Voters {
    /// Their ordinals, in order.
    pub fn ordinals(self) -> impl Iterator<Item = u8> {
        (0..16).filter(move |ordinal| self.contains(*ordinal))
    }

    /// Whether the member with this ordinal is one of them.
    pub fn contains(self, ordinal: u8) -> bool {
        ordinal < 16 && self.0 & (1 << ordinal) != 0
    }

    /// How many others must confirm the writer, so that with the writer itself they are more than half.
    pub fn needed(self) -> usize {
        usize::try_from(self.0.count_ones()).unwrap_or_default() / 2
    }

    /// There are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// An ordinal that no member can have is left out.
impl FromIterator<u8> for Voters {
    fn from_iter<I: IntoIterator<Item = u8>>(ordinals: I) -> Self {
        let known = ordinals.into_iter().filter(|ordinal| *ordinal < 16);
        Self(known.fold(0, |all, ordinal| all | 1 << ordinal))
    }
}

impl From<Vec<u8>> for Voters {
    fn from(ordinals: Vec<u8>) -> Self {
        ordinals.into_iter().collect()
    }
}

impl From<Voters> for Vec<u8> {
    fn from(voters: Voters) -> Self {
        voters.ordinals().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Voters;

    #[test]
    fn with_the_writer_those_who_are_needed_are_more_than_half() {
        for members in 2..=9_u8 {
            let voters: Voters = (0..members).collect();
            let with_the_writer = voters.needed() + 1;
            assert!(2 * with_the_writer > usize::from(members), "{members}");
            assert!(
                2 * (with_the_writer - 1) <= usize::from(members),
                "{members}: not more than that"
            );
        }
    }

    #[test]
    fn in_json_they_are_ordinals() {
        let voters: Voters = [4, 0, 2].into_iter().collect();
        assert_eq!(serde_json::to_string(&voters).unwrap(), "[0,2,4]");
        assert_eq!(serde_json::from_str::<Voters>("[2, 4, 0, 200]").unwrap(), voters);
    }
}
