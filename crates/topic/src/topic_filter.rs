//! Topic filters: patterns over topic names.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

use crate::levels::{self, Levels};
use crate::{ByteStr, TOPIC_BYTES_MAX, TopicName, byte_str};

/// A valid topic filter, borrowed: to [`TopicFilterBuf`] what `str` is to `String`.
///
/// It is checked once, by [`TopicFilter::new`]. A filter is what is matched: the `$share/{name}/` in front of a shared
/// subscription's filter is no part of it, see [`SubscriptionFilter`](crate::SubscriptionFilter).
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TopicFilter(str);

impl TopicFilter {
    /// Checks `text` as a topic filter: 1 to 65,535 bytes, no U+0000, `#` only as the whole last level, `+` only as a
    /// whole level.
    ///
    /// A leading `$share/` has no meaning here: `$share/g/x` is taken as the filter of three levels.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn new(text: &str) -> Result<&TopicFilter, TopicFilterError> {
        check(text)?;
        Ok(byte_str::cast_topic_filter(text))
    }

    /// The filter's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The filter's bytes, as on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The filter's levels, first to last.
    pub fn levels(&self) -> Levels<'_> {
        Levels::new(&self.0)
    }

    /// How many levels the filter has, wildcards included: 1 to 65,536.
    pub fn level_count(&self) -> usize {
        levels::count(&self.0)
    }

    /// Whether the filter has more than `max` levels, a limit that is the caller's to set.
    pub fn exceeds_levels(&self, max: usize) -> bool {
        levels::exceed(&self.0, max)
    }

    /// Whether the filter holds `+` or `#`; without, it matches the one topic that reads the same.
    pub fn has_wildcard(&self) -> bool {
        // In a valid filter these bytes are nothing but wildcards.
        self.0.bytes().any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// Whether the first level is a wildcard, so that the filter does not match names that start with `$`
    /// [MQTT-4.7.2-1].
    pub fn starts_with_wildcard(&self) -> bool {
        self.0.starts_with(['+', '#'])
    }

    /// The topic name that reads like this filter, if it has no wildcard.
    pub fn as_topic_name(&self) -> Option<&TopicName> {
        TopicName::new(&self.0).ok()
    }

    /// Whether the filter matches `topic`, level by level and bytewise [MQTT-4.7.3-4].
    ///
    /// This is the plain reading of the standard and takes time linear in both texts. [`FilterTrie`](crate::FilterTrie)
    /// and [`TopicTree`](crate::TopicTree) are held to it by their tests.
    pub fn matches(&self, topic: &TopicName) -> bool {
        // [MQTT-4.7.2-1]
        if topic.is_dollar() && self.starts_with_wildcard() {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            if level == MULTI_LEVEL {
                // Also the parent level, where `names` is already at its end [U5-101].
                return true;
            }
            match names.next() {
                Some(name) if level == SINGLE_LEVEL || level == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

impl AsRef<str> for TopicFilter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for TopicFilter {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<TopicFilter> for TopicFilter {
    fn as_ref(&self) -> &TopicFilter {
        self
    }
}

impl<'a> TryFrom<&'a str> for &'a TopicFilter {
    type Error = TopicFilterError;

    fn try_from(text: &'a str) -> Result<&'a TopicFilter, TopicFilterError> {
        TopicFilter::new(text)
    }
}

impl<'a> From<&'a TopicName> for &'a TopicFilter {
    /// Every topic name is a filter: the one that matches nothing else.
    fn from(name: &'a TopicName) -> &'a TopicFilter {
        byte_str::cast_topic_filter(name.as_str())
    }
}

impl ToOwned for TopicFilter {
    type Owned = TopicFilterBuf;

    fn to_owned(&self) -> TopicFilterBuf {
        TopicFilterBuf(ByteStr::from(&self.0))
    }
}

impl PartialEq<str> for TopicFilter {
    fn eq(&self, other: &str) -> bool {
        &self.0 == other
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A valid topic filter, owned; cloning it shares its memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilterBuf(ByteStr);

impl TopicFilterBuf {
    /// Checks `text` as a topic filter and keeps it without copying.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn new(text: ByteStr) -> Result<TopicFilterBuf, TopicFilterError> {
        check(&text)?;
        Ok(TopicFilterBuf(text))
    }

    /// Shares the memory of `filter`, a filter that lies inside `owner`, without checking it again.
    ///
    /// # Panics
    /// When `filter` does not lie in the memory of `owner`.
    pub fn from_part_of(owner: &Bytes, filter: &TopicFilter) -> TopicFilterBuf {
        TopicFilterBuf(ByteStr::from_part_of(owner, &filter.0))
    }

    /// The borrowed form.
    pub fn as_filter(&self) -> &TopicFilter {
        byte_str::cast_topic_filter(&self.0)
    }

    /// Gives the text back without copying it.
    pub fn into_byte_str(self) -> ByteStr {
        self.0
    }
}

impl Deref for TopicFilterBuf {
    type Target = TopicFilter;

    fn deref(&self) -> &TopicFilter {
        self.as_filter()
    }
}

impl Borrow<TopicFilter> for TopicFilterBuf {
    fn borrow(&self) -> &TopicFilter {
        self
    }
}

impl AsRef<TopicFilter> for TopicFilterBuf {
    fn as_ref(&self) -> &TopicFilter {
        self
    }
}

impl AsRef<str> for TopicFilterBuf {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&TopicFilter> for TopicFilterBuf {
    fn from(filter: &TopicFilter) -> TopicFilterBuf {
        filter.to_owned()
    }
}

impl From<TopicFilterBuf> for ByteStr {
    fn from(filter: TopicFilterBuf) -> ByteStr {
        filter.0
    }
}

impl TryFrom<ByteStr> for TopicFilterBuf {
    type Error = TopicFilterError;

    fn try_from(text: ByteStr) -> Result<TopicFilterBuf, TopicFilterError> {
        TopicFilterBuf::new(text)
    }
}

impl TryFrom<String> for TopicFilterBuf {
    type Error = TopicFilterError;

    fn try_from(text: String) -> Result<TopicFilterBuf, TopicFilterError> {
        TopicFilterBuf::new(ByteStr::from(text))
    }
}

impl TryFrom<&str> for TopicFilterBuf {
    type Error = TopicFilterError;

    fn try_from(text: &str) -> Result<TopicFilterBuf, TopicFilterError> {
        TopicFilter::new(text).map(ToOwned::to_owned)
    }
}

impl FromStr for TopicFilterBuf {
    type Err = TopicFilterError;

    fn from_str(text: &str) -> Result<TopicFilterBuf, TopicFilterError> {
        TopicFilterBuf::try_from(text)
    }
}

impl PartialEq<TopicFilter> for TopicFilterBuf {
    fn eq(&self, other: &TopicFilter) -> bool {
        self.as_filter() == other
    }
}

impl PartialEq<str> for TopicFilterBuf {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<&str> for TopicFilterBuf {
    fn eq(&self, other: &&str) -> bool {
        self.0 == **other
    }
}

impl fmt::Debug for TopicFilterBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicFilterBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a text is no topic filter, or names no subscription. Clauses are those of MQTT 5.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum TopicFilterError {
    /// It has no character [MQTT-4.7.3-1].
    #[error("topic filter is empty [MQTT-4.7.3-1]")]
    Empty,
    /// It takes more than 65,535 bytes [MQTT-4.7.3-3].
    #[error("topic filter is longer than 65,535 bytes [MQTT-4.7.3-3]")]
    TooLong,
    /// It holds U+0000 [MQTT-4.7.3-2].
    #[error("topic filter holds U+0000 [MQTT-4.7.3-2]")]
    NullCharacter,
    /// `#` is not the whole last level [MQTT-4.7.1-1].
    #[error("\"#\" is not the whole last level of the topic filter [MQTT-4.7.1-1]")]
    MultiLevelWildcard,
    /// `+` does not fill its level [MQTT-4.7.1-2].
    #[error("\"+\" does not fill a whole level of the topic filter [MQTT-4.7.1-2]")]
    SingleLevelWildcard,
    /// `$share` without a share name of at least one character [MQTT-4.8.2-1].
    #[error("shared subscription has no share name [MQTT-4.8.2-1]")]
    ShareNameMissing,
    /// The share name holds `+` or `#` [MQTT-4.8.2-2].
    #[error("share name holds a wildcard [MQTT-4.8.2-2]")]
    ShareNameWildcard,
    /// The share name is not followed by `/` and a topic filter [MQTT-4.8.2-2].
    #[error("share name is not followed by a topic filter [MQTT-4.8.2-2]")]
    ShareFilterMissing,
}

/// What every filter on the wire has to keep to, shared or not.
pub(crate) fn check_length_and_null(text: &str) -> Result<(), TopicFilterError> {
    if text.is_empty() {
        return Err(TopicFilterError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicFilterError::TooLong);
    }
    if text.as_bytes().contains(&0) {
        return Err(TopicFilterError::NullCharacter);
    }
    Ok(())
}

fn check(text: &str) -> Result<(), TopicFilterError> {
    check_length_and_null(text)?;
    let mut levels = Levels::new(text).peekable();
    while let Some(level) = levels.next() {
        let alone = level.len() == 1;
        if level.contains('#') && !(alone && levels.peek().is_none()) {
            return Err(TopicFilterError::MultiLevelWildcard);
        }
        if level.contains('+') && !alone {
            return Err(TopicFilterError::SingleLevelWildcard);
        }
    }
    Ok(())
}

/// The level that matches every level of one name.
pub(crate) const SINGLE_LEVEL: &str = "+";

/// The level that matches its parent and everything below.
pub(crate) const MULTI_LEVEL: &str = "#";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_filters_name_the_rule_they_break() {
        // [3:MQTT-4.7.1-2] [3:MQTT-4.7.1-3] [3:MQTT-4.7.3-1] [3:MQTT-4.7.3-2] [3:MQTT-4.7.3-3]
        // [5:MQTT-4.7.1-1] [5:MQTT-4.7.1-2] [5:MQTT-4.7.3-1] [5:MQTT-4.7.3-2] [5:MQTT-4.7.3-3]
        let long = "+/".repeat(32_768);
        let table = [
            ("", TopicFilterError::Empty),
            (long.as_str(), TopicFilterError::TooLong),
            ("a\0", TopicFilterError::NullCharacter),
            ("sport/tennis#", TopicFilterError::MultiLevelWildcard),
            (
                "sport/tennis/#/ranking",
                TopicFilterError::MultiLevelWildcard,
            ),
            ("#/", TopicFilterError::MultiLevelWildcard),
            ("##", TopicFilterError::MultiLevelWildcard),
            ("a/#b", TopicFilterError::MultiLevelWildcard),
            ("+#", TopicFilterError::MultiLevelWildcard),
            ("#/#", TopicFilterError::MultiLevelWildcard),
            ("sport+", TopicFilterError::SingleLevelWildcard),
            ("+sport/a", TopicFilterError::SingleLevelWildcard),
            ("a/++", TopicFilterError::SingleLevelWildcard),
            ("a/+b/#", TopicFilterError::SingleLevelWildcard),
        ];
        for (text, error) in table {
            assert_eq!(TopicFilter::new(text), Err(error), "{text:.30}");
            assert_eq!(TopicFilterBuf::new(ByteStr::from(text)), Err(error));
            assert_eq!(TopicFilterBuf::try_from(text), Err(error));
        }
    }

    #[test]
    fn valid_filters_are_kept_as_they_are() {
        let long = "+/".repeat(32_767) + "#";
        for text in [
            "#",
            "+",
            "/",
            "/#",
            "+/+",
            "/+",
            "+/#",
            "a/+/b/#",
            "+/tennis/#",
            "$SYS/#",
            "a b/ ",
            "$share/g/x",
            long.as_str(),
        ] {
            let filter = TopicFilter::new(text).unwrap();
            assert_eq!(filter.as_str(), text);
            assert_eq!(filter.to_owned(), *text);
            assert_eq!(
                TopicFilterBuf::try_from(String::from(text)).unwrap(),
                *filter
            );
        }
    }

    #[test]
    fn wildcards_are_told_apart() {
        let filter = |text| TopicFilter::new(text).unwrap();
        assert!(!filter("a/b").has_wildcard());
        assert!(filter("a/+/b").has_wildcard());
        assert!(filter("a/#").has_wildcard());
        assert!(!filter("a/+").starts_with_wildcard());
        assert!(filter("+/a").starts_with_wildcard());
        assert!(filter("#").starts_with_wildcard());
        assert_eq!(filter("a/+").as_topic_name(), None);
        let name = TopicName::new("a/b").unwrap();
        assert_eq!(filter("a/b").as_topic_name(), Some(name));
        assert_eq!(<&TopicFilter>::from(name), filter("a/b"));
    }

    #[test]
    fn filters_match_what_the_standard_says() {
        // [3:MQTT-4.7.2-1] [3:MQTT-4.7.3-4] [5:MQTT-4.7.2-1] [5:MQTT-4.7.3-4] [U5-101] [U5-102]
        // [U311-013]
        let table: &[(&str, &[&str], &[&str])] = &[
            ("a", &["a"], &["b", "A", "a/", "/a", "aa", " a", "$a"]),
            ("/", &["/"], &["//", "a/", "/a"]),
            (
                "sport/tennis/player1/#",
                &[
                    "sport/tennis/player1",
                    "sport/tennis/player1/",
                    "sport/tennis/player1/ranking",
                    "sport/tennis/player1/score/wimbledon",
                ],
                &["sport/tennis", "sport/tennis/player10", "sport"],
            ),
            ("sport/#", &["sport", "sport/", "sport/a/b"], &["sports"]),
            ("#", &["a", "/", "/a", "a/b/c"], &["$SYS", "$SYS/a", "$"]),
            ("/#", &["/", "/a", "//"], &["a", "a/"]),
            (
                "sport/tennis/+",
                &["sport/tennis/player1", "sport/tennis/"],
                &["sport/tennis", "sport/tennis/player1/ranking"],
            ),
            ("sport/+", &["sport/"], &["sport", "sport//"]),
            ("+", &["finance", "a"], &["/finance", "/", "$SYS"]),
            ("+/+", &["/finance", "a/b", "/"], &["finance", "$SYS/a"]),
            ("/+", &["/finance", "/"], &["finance", "a/b"]),
            ("+/#", &["a", "a/b", "/", "/a/b"], &["$SYS", "$SYS/a"]),
            ("$SYS/#", &["$SYS", "$SYS/a", "$SYS/a/b"], &["$SY", "SYS/a"]),
            ("$SYS/+/x", &["$SYS/a/x"], &["$SYS/x", "$SYS/a/b/x"]),
            // The `$` rule concerns the first character of the name only.
            ("a/+", &["a/$b", "a/$"], &[]),
            ("a/#", &["a/$b/c"], &[]),
            ("+/tennis/#", &["x/tennis", "/tennis/a"], &["$x/tennis"]),
            ("a/+/b/#", &["a//b", "a/c/b/d"], &["a/b", "a/c/d/b"]),
            // No normalisation: "Å" is not "A" with a combining ring.
            ("\u{c5}", &["\u{c5}"], &["A\u{30a}"]),
            ("a b", &["a b"], &["ab", "a%20b"]),
        ];
        for (filter, matching, others) in table {
            let filter = TopicFilter::new(filter).unwrap();
            for topic in *matching {
                assert!(
                    filter.matches(TopicName::new(topic).unwrap()),
                    "{filter} {topic}"
                );
            }
            for topic in *others {
                assert!(
                    !filter.matches(TopicName::new(topic).unwrap()),
                    "{filter} {topic}"
                );
            }
        }
    }

    #[test]
    fn an_owned_filter_shares_the_frame_it_came_in() {
        let frame = Bytes::from_static(b"\x00\x03a/#");
        let filter = TopicFilter::new(str::from_utf8(&frame[2..]).unwrap()).unwrap();
        let owned = TopicFilterBuf::from_part_of(&frame, filter);
        assert_eq!(owned.as_bytes().as_ptr(), frame[2..].as_ptr());
        assert_eq!(owned.level_count(), 2);
        assert!(owned.exceeds_levels(1));
        assert!(!owned.exceeds_levels(2));
        assert_eq!(owned.into_byte_str(), "a/#");
    }
}
