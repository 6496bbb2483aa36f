//! The cyclic order of the members that are in the ring.

/// A set of ordinals in their cyclic order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// One bit for each ordinal.
    members: u16,
}

impl FromIterator<u8> for Ring {
    fn from_iter<I: IntoIterator<Item = u8>>(ordinals: I) -> Self {
        Self {
            members: ordinals.into_iter().fold(0, |members, ordinal| members | 1 << ordinal),
        }
    }
}

impl Ring {
    /// Whether this member is in it.
    pub fn contains(self, ordinal: u8) -> bool {
        self.members & 1 << ordinal != 0
    }

    /// The ordinals in it, in order.
    pub fn ordinals(self) -> impl DoubleEndedIterator<Item = u8> + Clone {
        (0..16).filter(move |ordinal| self.contains(*ordinal))
    }

    /// The member that this one replicates from, or would if it were in the ring: the nearest one before it. `None` when there is no other.
    pub fn upstream(self, ordinal: u8) -> Option<u8> {
        let before = self.ordinals().rev().find(|other| *other < ordinal);
        before
            .or_else(|| self.ordinals().next_back())
            .filter(|other| *other != ordinal)
    }

    /// The member that replicates from this one, or would if it were in the ring. `None` when there is no other.
    pub fn downstream(self, ordinal: u8) -> Option<u8> {
        let behind = self.ordinals().find(|other| *other > ordinal);
        behind
            .or_else(|| self.ordinals().next())
            .filter(|other| *other != ordinal)
    }

    /// The links as people read them: `0→1→2→0`, with `✗` where `replicates(downstream)` is false; one that is alone is `0`.
    pub fn drawing(self, replicates: impl Fn(u8) -> bool) -> String {
        let Some(first) = self.ordinals().next() else {
            return String::new();
        };
        let arrow = |downstream| if replicates(downstream) { '→' } else { '✗' };
        let mut drawing = first.to_string();
        for downstream in self.ordinals().skip(1).chain(self.upstream(first).map(|_| first)) {
            drawing.push(arrow(downstream));
            drawing.push_str(&downstream.to_string());
        }
        drawing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(ordinals: &[u8]) -> Ring {
        ordinals.iter().copied().collect()
    }

    #[test]
    fn upstream_and_downstream_are_inverse_in_every_ring() {
        for members in 1..1u16 << 9 {
            let ring = Ring { members };
            for ordinal in ring.ordinals() {
                match ring.upstream(ordinal) {
                    Some(upstream) => assert_eq!(ring.downstream(upstream), Some(ordinal)),
                    None => assert_eq!(members.count_ones(), 1),
                }
            }
        }
    }

    #[test]
    fn following_the_links_meets_every_member_once() {
        for members in 1..1u16 << 9 {
            let ring = Ring { members };
            let first = ring.ordinals().next().unwrap();
            let mut met = vec![first];
            while let Some(next) = ring.downstream(met[met.len() - 1]).filter(|next| *next != first) {
                met.push(next);
            }
            assert_eq!(met, ring.ordinals().collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_that_is_not_in_the_ring_has_its_place_in_it() {
        assert_eq!(ring(&[0, 2]).upstream(1), Some(0));
        assert_eq!(ring(&[0, 2]).downstream(1), Some(2));
        assert_eq!(ring(&[1]).upstream(0), Some(1));
        assert_eq!(ring(&[1]).downstream(2), Some(1));
        assert_eq!(ring(&[1]).upstream(1), None);
    }

    #[test]
    fn a_broken_link_is_drawn_at_its_place() {
        assert_eq!(ring(&[0, 1, 2]).drawing(|_| true), "0→1→2→0");
        assert_eq!(ring(&[0, 1, 2]).drawing(|downstream| downstream != 2), "0→1✗2→0");
        assert_eq!(ring(&[0, 1]).drawing(|downstream| downstream != 0), "0→1✗0");
        assert_eq!(ring(&[0, 2]).drawing(|_| true), "0→2→0");
        assert_eq!(ring(&[2]).drawing(|_| true), "2");
        assert_eq!(ring(&[]).drawing(|_| true), "");
    }
}
