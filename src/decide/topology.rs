//! The cyclic order of the members.

/// A ring of `members` members: the upstream of each is the one before it, the upstream of the first is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    members: u8,
}

impl Ring {
    /// A ring of this many members, at least one.
    pub fn new(members: u8) -> Self {
        Self {
            members: members.max(1),
        }
    }

    /// Whom this member replicates from.
    pub fn upstream(self, ordinal: u8) -> u8 {
        (ordinal + self.members - 1) % self.members
    }

    /// Who replicates from this member.
    pub fn downstream(self, ordinal: u8) -> u8 {
        (ordinal + 1) % self.members
    }

    /// All ordinals.
    pub fn ordinals(self) -> impl Iterator<Item = u8> {
        0..self.members
    }

    /// The links as people read them: `0→1→2→0`, with `✗` where `replicates(downstream)` is false.
    pub fn drawing(self, replicates: impl Fn(u8) -> bool) -> String {
        self.ordinals().fold(String::from("0"), |mut drawing, ordinal| {
            let downstream = self.downstream(ordinal);
            drawing.push(if replicates(downstream) { '→' } else { '✗' });
            drawing.push_str(&downstream.to_string());
            drawing
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_and_downstream_are_inverse() {
        for members in 2..=9 {
            let ring = Ring::new(members);
            for ordinal in ring.ordinals() {
                assert_eq!(ring.downstream(ring.upstream(ordinal)), ordinal);
            }
        }
        assert_eq!(Ring::new(3).upstream(0), 2);
    }

    #[test]
    fn a_broken_link_is_drawn_at_its_place() {
        assert_eq!(Ring::new(3).drawing(|_| true), "0→1→2→0");
        assert_eq!(Ring::new(3).drawing(|downstream| downstream != 2), "0→1✗2→0");
        assert_eq!(Ring::new(2).drawing(|downstream| downstream != 0), "0→1✗0");
    }
}
