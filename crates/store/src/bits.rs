//! [`Bits`]: a row of bits whose length is known to its owner.

/// Up to 64 bits stand in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    Few(u64),
    Many(Box<[u64]>),
}

impl Bits {
    /// All clear.
    pub(crate) fn new(length: usize) -> Self {
        if length <= WORD {
            Self::Few(0)
        } else {
            Self::Many(vec![0; length.div_ceil(WORD)].into())
        }
    }

    pub(crate) fn get(&self, place: usize) -> bool {
        let word = match self {
            Self::Few(word) => *word,
            Self::Many(words) => words.get(place / WORD).copied().unwrap_or(0),
        };
        word >> (place % WORD) & 1 != 0
    }

    pub(crate) fn set(&mut self, place: usize) {
        let word = match self {
            Self::Few(word) => Some(word),
            Self::Many(words) => words.get_mut(place / WORD),
        };
        if let Some(word) = word {
            *word |= 1 << (place % WORD);
        }
    }
}

const WORD: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_is_its_own() {
        for length in [1, 64, 65, 1000] {
            let mut bits = Bits::new(length);
            for place in (0..length).step_by(3) {
                bits.set(place);
            }
            for place in 0..length {
                assert_eq!(bits.get(place), place % 3 == 0);
            }
        }
    }
}
