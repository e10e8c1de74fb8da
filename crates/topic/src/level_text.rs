//! The text of one level, as the trees keep it.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// The text of one level in 24 bytes, with up to [`INLINE_MAX`] bytes of it inline. It orders bytewise.
pub(crate) enum LevelText {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Heap(Box<[u8]>),
}

impl LevelText {
    pub(crate) fn new(text: &str) -> LevelText {
        let text = text.as_bytes();
        if text.len() > INLINE_MAX {
            return LevelText::Heap(text.into());
        }
        let mut bytes = [0; INLINE_MAX];
        bytes[..text.len()].copy_from_slice(text);
        LevelText::Inline {
            // At most `INLINE_MAX`.
            len: text.len() as u8,
            bytes,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            LevelText::Inline { len, bytes } => &bytes[..usize::from(*len)],
            LevelText::Heap(bytes) => bytes,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("a level text is made from a str")
    }

    /// Bytes allocated beside the 24.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            LevelText::Inline { .. } => 0,
            LevelText::Heap(bytes) => bytes.len(),
        }
    }

    /// Bytes that `text` would take beside the 24.
    pub(crate) fn heap_bytes_of(text: &str) -> usize {
        if text.len() > INLINE_MAX {
            text.len()
        } else {
            0
        }
    }
}

impl PartialEq for LevelText {
    fn eq(&self, other: &LevelText) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for LevelText {}

impl PartialOrd for LevelText {
    fn partial_cmp(&self, other: &LevelText) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LevelText {
    fn cmp(&self, other: &LevelText) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Borrow<[u8]> for LevelText {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// What fits beside the variant and the length. Numbers, words, MAC addresses; not UUIDs.
const INLINE_MAX: usize = 22;

const _: () = assert!(size_of::<LevelText>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_any_length_are_kept() {
        for len in [0, 1, 21, 22, 23, 100, 65_535] {
            let text = "é".repeat(len / 2) + &"x".repeat(len % 2);
            let level = LevelText::new(&text);
            assert_eq!(level.as_str(), text);
            assert_eq!(level.heap_bytes(), if len > 22 { len } else { 0 });
            assert_eq!(level.heap_bytes(), LevelText::heap_bytes_of(&text));
        }
    }

    #[test]
    fn order_is_that_of_the_bytes_wherever_they_are_kept() {
        let long = "m".repeat(30);
        let sorted = ["", "$", "%", "a", "aa", "b", long.as_str(), "n", "é"];
        for pair in sorted.windows(2) {
            assert!(LevelText::new(pair[0]) < LevelText::new(pair[1]));
        }
        assert!(LevelText::new(&long) == LevelText::new(&long));
    }
}
