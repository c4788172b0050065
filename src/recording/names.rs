use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::pieces::AsItIs;

/// Names that get a number of their own; those that come later are all [`Names::OTHERS`].
const MAX_NAMES: usize = 1 << 16;

/// Numbers in the place of names, from 1 on, in the order in which they were first seen. A name is
/// known by its hash alone.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<u64, u32, BuildHasherDefault<AsItIs>>);

impl Names {
    /// The number of all names beyond the first [`MAX_NAMES`].
    pub(super) const OTHERS: u32 = 0;

    pub(super) fn number(&mut self, hash: u64) -> u32 {
        let next = self.0.len();
        if let Some(&number) = self.0.get(&hash) {
            return number;
        }
        if next >= MAX_NAMES {
            return Self::OTHERS;
        }
        let number = next as u32 + 1;
        self.0.insert(hash, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_as_they_come_and_bounded() {
        let mut names = Names::default();
        assert_eq!([7, 9, 7].map(|hash| names.number(hash)), [1, 2, 1]);
        for hash in 100..100 + MAX_NAMES as u64 {
            names.number(hash);
        }
        assert_eq!((names.number(u64::MAX), names.number(9)), (Names::OTHERS, 2));
        assert_eq!(names.0.len(), MAX_NAMES);
    }
}
