//! The levels of a topic name or topic filter.

use std::iter::FusedIterator;

/// The levels of a topic name or filter, first to last: the text between the slashes, which may be empty.
///
/// `"/a"` has the levels `""` and `"a"`. There is always at least one.
#[derive(Clone, Debug)]
pub struct Levels<'a> {
    /// What is not given out yet; `None` after the last level.
    rest: Option<&'a str>,
}

impl<'a> Levels<'a> {
    pub(crate) fn new(text: &'a str) -> Levels<'a> {
        Levels { rest: Some(text) }
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        match rest.split_once(SEPARATOR) {
            Some((level, rest)) => {
                self.rest = Some(rest);
                Some(level)
            }
            None => self.rest.take(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.rest {
            Some(rest) => (1, Some(rest.len() + 1)),
            None => (0, Some(0)),
        }
    }
}

impl FusedIterator for Levels<'_> {}

/// How many levels `text` has.
#[inline(never)]
pub(crate) fn count(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == SEPARATOR_BYTE).count() + 1
}

/// Whether `text` has more than `max` levels. A text too short for that is not read.
#[inline]
pub(crate) fn exceed(text: &str, max: usize) -> bool {
    text.len() >= max && count(text) > max
}

pub(crate) const SEPARATOR: char = '/';
pub(crate) const SEPARATOR_BYTE: u8 = b'/';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slash_parts_two_levels() {
        let levels = |text| Levels::new(text).collect::<Vec<_>>();
        assert_eq!(levels("a"), ["a"]);
        assert_eq!(levels("a/b"), ["a", "b"]);
        assert_eq!(levels("/"), ["", ""]);
        assert_eq!(levels("//a/"), ["", "", "a", ""]);
        assert_eq!(levels("ä ö/ü"), ["ä ö", "ü"]);
    }

    #[test]
    fn the_count_is_that_of_the_iterator() {
        for text in ["a", "/", "a/b/c", "//", "a//b/"] {
            assert_eq!(count(text), Levels::new(text).count(), "{text}");
        }
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        assert!(!exceed("a/b/c", 3));
        assert!(exceed("a/b/c", 2));
        assert!(exceed("/", 1));
        assert!(!exceed("/", 2));
        assert!(exceed("a", 0));
        assert!(!exceed("a", usize::MAX));
    }

    #[test]
    fn an_exhausted_iterator_stays_so() {
        let mut levels = Levels::new("a");
        assert_eq!(levels.size_hint(), (1, Some(2)));
        assert_eq!(levels.next(), Some("a"));
        assert_eq!(levels.next(), None);
        assert_eq!(levels.next(), None);
        assert_eq!(levels.size_hint(), (0, Some(0)));
    }
}
