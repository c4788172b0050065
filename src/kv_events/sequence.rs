/// What a batch's number says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one after the last, or the first ever seen.
    Next,
    /// It was taken in already.
    Old,
    /// Batches between the last and this one are missing; the first of them.
    Gap { from: u64 },
    /// The publisher began anew.
    Restart,
}

/// Follows the numbers of a publisher's batches, which rise by one from 0 (or 1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequence {
    last: Option<u64>,
}

impl Sequence {
    /// The number of the last batch taken in.
    pub fn last(&self) -> Option<u64> {
        self.last
    }

    /// What `number` says about a batch that comes live. Nothing is noted.
    pub fn live(&self, number: u64) -> Verdict {
        match self.last {
            // The very first batches may have gone by before anyone listened.
            None if number <= 1 => Verdict::Next,
            None => Verdict::Gap { from: 0 },
            Some(last) if last.checked_add(1) == Some(number) => Verdict::Next,
            Some(last) if number > last => Verdict::Gap { from: last + 1 },
            Some(_) => Verdict::Restart,
        }
    }

    /// The same for a batch that was set aside during a replay, which may have brought it.
    pub fn set_aside(&self, number: u64) -> Verdict {
        match self.last {
            Some(last) if number <= last => Verdict::Old,
            _ => self.live(number),
        }
    }

    /// The batch with this number was taken in.
    pub fn advance(&mut self, number: u64) {
        self.last = Some(number);
    }

    /// Whatever comes next is the first.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use Verdict::{Gap, Next, Old, Restart};
        // (last, number, live, set aside during a replay)
        let cases = [
            (None, 0, Next, Next),
            (None, 1, Next, Next),
            (None, 2, Gap { from: 0 }, Gap { from: 0 }),
            (Some(4), 5, Next, Next),
            (Some(4), 7, Gap { from: 5 }, Gap { from: 5 }),
            (Some(4), 4, Restart, Old),
            (Some(4), 0, Restart, Old),
            (Some(u64::MAX), 0, Restart, Old),
            (Some(u64::MAX), u64::MAX, Restart, Old),
        ];
        for (last, number, live, set_aside) in cases {
            let sequence = Sequence { last };
            assert_eq!(sequence.live(number), live, "{last:?} {number}");
            assert_eq!(sequence.set_aside(number), set_aside, "{last:?} {number}");
        }
    }
}
