//! Intervals of transaction numbers of one origin. Lists of them are sorted; they neither overlap nor touch.

/// First and last number, both included. The intervals of a list are sorted; they neither overlap nor touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Interval {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Sorts intervals, and joins those that overlap or touch.
pub(super) fn normalise(intervals: &mut Vec<Interval>) {
    // The stable sort merges runs that are sorted already, which is what there is here, in linear time.
    intervals.sort();
    intervals.dedup_by(|next, kept| {
        // No overflow: `last` is at most MAX_GNO.
        let joins = next.first <= kept.last + 1;
        if joins {
            kept.last = kept.last.max(next.last);
        }
        joins
    });
}

/// Adds intervals in place. Only those that they meet are merged with them.
pub(super) fn add(ours: &mut Vec<Interval>, theirs: &[Interval]) {
    let (Some(first), Some(last)) = (theirs.first(), theirs.last()) else {
        return;
    };
    // No overflow: `last` is at most MAX_GNO.
    let begin = ours.partition_point(|own| own.last + 1 < first.first);
    let end = ours.partition_point(|own| own.first <= last.last + 1);
    let mut met = [ours.get(begin..end).unwrap_or_default(), theirs].concat();
    normalise(&mut met);
    ours.splice(begin..end, met);
}

/// Leaves out intervals that end before this number.
fn not_before(intervals: &[Interval], number: u64) -> &[Interval] {
    let before = intervals.partition_point(|interval| interval.last < number);
    intervals.get(before..).unwrap_or_default()
}

pub(super) fn covers(mut ours: &[Interval], theirs: &[Interval]) -> bool {
    theirs.iter().all(|their| {
        ours = not_before(ours, their.first);
        let next = ours.first();
        next.is_some_and(|own| own.first <= their.first && their.last <= own.last)
    })
}

pub(super) fn subtract(ours: &[Interval], mut theirs: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    for &Interval { mut first, last } in ours {
        // An interval that ends before this one cannot touch a later one either.
        theirs = not_before(theirs, first);
        while let Some((t, rest)) = theirs.split_first().filter(|(t, _)| t.first <= last) {
            if t.first > first {
                left.push(Interval {
                    first,
                    last: t.first - 1,
                });
            }
            first = t.last + 1;
            if first > last {
                break;
            }
            theirs = rest;
        }
        if first <= last {
            left.push(Interval { first, last });
        }
    }
    left
}

pub(super) fn intersect(ours: &[Interval], theirs: &[Interval]) -> Vec<Interval> {
    let mut both = Vec::new();
    let (mut a, mut b) = (ours.iter().peekable(), theirs.iter().peekable());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let (first, last) = (x.first.max(y.first), x.last.min(y.last));
        if first <= last {
            both.push(Interval { first, last });
        }
        if x.last < y.last {
            a.next()
        } else {
            b.next()
        };
    }
    both
}
