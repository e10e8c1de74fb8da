//! Topic names: what a PUBLISH is sent to.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

use crate::levels::{self, Levels};
use crate::{ByteStr, byte_str, scan};

/// A valid topic name, borrowed: to [`TopicNameBuf`] what `str` is to `String`.
///
/// It is checked once, by [`TopicName::new`]: 1 to 65,535 bytes, no U+0000, no wildcard. It compares, orders and hashes
/// like its text, bytewise [MQTT-4.7.3-4].
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TopicName(str);

impl TopicName {
    /// Checks `text` as a topic name.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn new(text: &str) -> Result<&TopicName, TopicNameError> {
        check(text)?;
        Ok(byte_str::cast_topic_name(text))
    }

    /// Checks `bytes` as a topic name, UTF-8 included, as fast as it goes for one that is ASCII.
    ///
    /// # Errors
    /// The rule that `bytes` break.
    #[inline]
    pub fn from_utf8(bytes: &[u8]) -> Result<&TopicName, TopicNameError> {
        match TopicName::from_ascii(bytes) {
            Some(name) => Ok(name),
            None => TopicName::from_unusual_utf8(bytes),
        }
    }

    /// `bytes` as a topic name, if they are one and all ASCII. Of others nothing is said.
    ///
    /// For who has [`from_utf8`](TopicName::from_utf8) to go on with: this is its fast half, which gives two registers.
    // Never inlined: vectors want registers that callers need.
    #[inline(never)]
    pub fn from_ascii(bytes: &[u8]) -> Option<&TopicName> {
        let text = byte_str::ascii_without(bytes, is_forbidden)?;
        let is_fitting = (1..=TOPIC_BYTES_MAX).contains(&text.len());
        is_fitting.then(|| byte_str::cast_topic_name(text))
    }

    /// Names that are not ASCII, and bytes that are no name.
    #[cold]
    fn from_unusual_utf8(bytes: &[u8]) -> Result<&TopicName, TopicNameError> {
        let text = str::from_utf8(bytes).map_err(|_| TopicNameError::NotUtf8)?;
        TopicName::new(text)
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name's bytes, as on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The name's levels, first to last.
    pub fn levels(&self) -> Levels<'_> {
        Levels::new(&self.0)
    }

    /// How many levels the name has: 1 to 65,536.
    pub fn level_count(&self) -> usize {
        levels::count(&self.0)
    }

    /// Whether the name has more than `max` levels, a limit that is the caller's to set.
    #[inline]
    pub fn exceeds_levels(&self, max: usize) -> bool {
        levels::exceed(&self.0, max)
    }

    /// Whether the name starts with `$`, so that filters starting with a wildcard do not match it [MQTT-4.7.2-1].
    pub fn is_dollar(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for TopicName {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<TopicName> for TopicName {
    fn as_ref(&self) -> &TopicName {
        self
    }
}

impl<'a> TryFrom<&'a str> for &'a TopicName {
    type Error = TopicNameError;

    fn try_from(text: &'a str) -> Result<&'a TopicName, TopicNameError> {
        TopicName::new(text)
    }
}

impl ToOwned for TopicName {
    type Owned = TopicNameBuf;

    fn to_owned(&self) -> TopicNameBuf {
        TopicNameBuf(ByteStr::from(&self.0))
    }
}

impl PartialEq<str> for TopicName {
    fn eq(&self, other: &str) -> bool {
        &self.0 == other
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A valid topic name, owned; cloning it shares its memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNameBuf(ByteStr);

impl TopicNameBuf {
    /// Checks `text` as a topic name and keeps it without copying.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn new(text: ByteStr) -> Result<TopicNameBuf, TopicNameError> {
        check(&text)?;
        Ok(TopicNameBuf(text))
    }

    /// Shares the memory of `name`, a name that lies inside `owner`, without checking it again.
    ///
    /// # Panics
    /// When `name` does not lie in the memory of `owner`.
    pub fn from_part_of(owner: &Bytes, name: &TopicName) -> TopicNameBuf {
        TopicNameBuf(ByteStr::from_part_of(owner, &name.0))
    }

    /// The borrowed form.
    pub fn as_name(&self) -> &TopicName {
        byte_str::cast_topic_name(&self.0)
    }

    /// Gives the text back without copying it.
    pub fn into_byte_str(self) -> ByteStr {
        self.0
    }
}

impl Deref for TopicNameBuf {
    type Target = TopicName;

    fn deref(&self) -> &TopicName {
        self.as_name()
    }
}

impl Borrow<TopicName> for TopicNameBuf {
    fn borrow(&self) -> &TopicName {
        self
    }
}

impl AsRef<TopicName> for TopicNameBuf {
    fn as_ref(&self) -> &TopicName {
        self
    }
}

impl AsRef<str> for TopicNameBuf {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&TopicName> for TopicNameBuf {
    fn from(name: &TopicName) -> TopicNameBuf {
        name.to_owned()
    }
}

impl From<TopicNameBuf> for ByteStr {
    fn from(name: TopicNameBuf) -> ByteStr {
        name.0
    }
}

impl TryFrom<ByteStr> for TopicNameBuf {
    type Error = TopicNameError;

    fn try_from(text: ByteStr) -> Result<TopicNameBuf, TopicNameError> {
        TopicNameBuf::new(text)
    }
}

impl TryFrom<String> for TopicNameBuf {
    type Error = TopicNameError;

    fn try_from(text: String) -> Result<TopicNameBuf, TopicNameError> {
        TopicNameBuf::new(ByteStr::from(text))
    }
}

impl TryFrom<&str> for TopicNameBuf {
    type Error = TopicNameError;

    fn try_from(text: &str) -> Result<TopicNameBuf, TopicNameError> {
        TopicName::new(text).map(ToOwned::to_owned)
    }
}

impl FromStr for TopicNameBuf {
    type Err = TopicNameError;

    fn from_str(text: &str) -> Result<TopicNameBuf, TopicNameError> {
        TopicNameBuf::try_from(text)
    }
}

impl PartialEq<TopicName> for TopicNameBuf {
    fn eq(&self, other: &TopicName) -> bool {
        self.as_name() == other
    }
}

impl PartialEq<str> for TopicNameBuf {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<&str> for TopicNameBuf {
    fn eq(&self, other: &&str) -> bool {
        self.0 == **other
    }
}

impl fmt::Debug for TopicNameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for TopicNameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a text is no topic name. Clauses are those of MQTT 5.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum TopicNameError {
    /// It has no character [MQTT-4.7.3-1].
    #[error("topic name is empty [MQTT-4.7.3-1]")]
    Empty,
    /// It takes more than 65,535 bytes [MQTT-4.7.3-3].
    #[error("topic name is longer than 65,535 bytes [MQTT-4.7.3-3]")]
    TooLong,
    /// It holds U+0000 [MQTT-4.7.3-2].
    #[error("topic name holds U+0000 [MQTT-4.7.3-2]")]
    NullCharacter,
    /// It is not UTF-8 [MQTT-1.5.4-1].
    #[error("topic name is not UTF-8 [MQTT-1.5.4-1]")]
    NotUtf8,
    /// It holds `+` or `#`, which belong in filters [MQTT-4.7.0-1].
    #[error("topic name holds a wildcard [MQTT-4.7.0-1]")]
    Wildcard,
}

/// The most bytes of a topic name or topic filter, the limit of every MQTT string [MQTT-4.7.3-3].
pub const TOPIC_BYTES_MAX: usize = 65_535;

fn check(text: &str) -> Result<(), TopicNameError> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if bytes.len() > TOPIC_BYTES_MAX {
        return Err(TopicNameError::TooLong);
    }
    if !scan::any(bytes, is_forbidden) {
        return Ok(());
    }
    if bytes.contains(&0) {
        Err(TopicNameError::NullCharacter)
    } else {
        Err(TopicNameError::Wildcard)
    }
}

/// U+0000 or a wildcard. None of them is a part of a longer character.
#[inline(always)]
fn is_forbidden(byte: u8) -> bool {
    (byte == 0) | (byte == b'+') | (byte == b'#')
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn invalid_names_name_the_rule_they_break() {
        // [3:MQTT-4.7.1-1] [3:MQTT-4.7.3-1] [3:MQTT-4.7.3-2] [3:MQTT-4.7.3-3] [5:MQTT-4.7.0-1]
        // [5:MQTT-4.7.3-1] [5:MQTT-4.7.3-2] [5:MQTT-4.7.3-3]
        let long = "x".repeat(65_536);
        let table = [
            ("", TopicNameError::Empty),
            (long.as_str(), TopicNameError::TooLong),
            ("\0", TopicNameError::NullCharacter),
            ("a/b\0c", TopicNameError::NullCharacter),
            ("a/\0/#", TopicNameError::NullCharacter),
            ("#", TopicNameError::Wildcard),
            ("+", TopicNameError::Wildcard),
            ("a/+/b", TopicNameError::Wildcard),
            ("a/b#", TopicNameError::Wildcard),
            ("sport+", TopicNameError::Wildcard),
        ];
        for (text, error) in table {
            assert_eq!(TopicName::new(text), Err(error), "{text:.20}");
            assert_eq!(TopicName::from_utf8(text.as_bytes()), Err(error));
            assert_eq!(TopicNameBuf::new(ByteStr::from(text)), Err(error));
            assert_eq!(TopicNameBuf::try_from(text), Err(error));
        }
    }

    #[test]
    fn a_bad_character_is_found_in_every_place_beside_any_other() {
        for length in 1..=26 {
            for place in 0..length {
                for other in ['a', '\u{1}', '"', '$', '*', ',', '\u{7f}'] {
                    let mut text = vec![other; length];
                    let of = |text: &[char]| text.iter().collect::<String>();
                    assert!(TopicName::new(&of(&text)).is_ok());
                    assert!(TopicName::from_utf8(of(&text).as_bytes()).is_ok());
                    for (bad, error) in [
                        ('\0', TopicNameError::NullCharacter),
                        ('+', TopicNameError::Wildcard),
                        ('#', TopicNameError::Wildcard),
                    ] {
                        text[place] = bad;
                        let text = of(&text);
                        assert_eq!(TopicName::new(&text), Err(error));
                        assert_eq!(TopicName::from_utf8(text.as_bytes()), Err(error));
                    }
                }
            }
            let text = "ä€\u{1f426}".repeat(length);
            assert!(TopicName::new(&text).is_ok());
            assert!(TopicName::from_utf8(text.as_bytes()).is_ok());
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_no_name() {
        // [3:MQTT-1.5.3-1] [5:MQTT-1.5.4-1]
        for bad in [
            &b"\xff"[..],
            b"\xc0\x80",
            b"\xed\xa0\x80",
            b"a\xe2\x82",
            b"+\x80",
        ] {
            for before in ["", "site/12/345/state/of/many/levels"] {
                let bytes = [before.as_bytes(), bad].concat();
                let name = TopicName::from_utf8(&bytes);
                assert_eq!(name, Err(TopicNameError::NotUtf8), "{bytes:?}");
            }
        }
    }

    #[test]
    fn valid_names_are_kept_as_they_are() {
        // [3:MQTT-4.7.3-4] [5:MQTT-4.7.3-4] [U5-102]
        let long = "x".repeat(65_535);
        for text in [
            "/",
            "//",
            "a",
            "/a",
            "a/",
            "a//b",
            " ",
            "Accounts payable",
            "ACCOUNTS",
            "$SYS/broker",
            "$share/g/x",
            "\u{feff}a/\u{1f427}",
            "a\tb",
            &long,
        ] {
            let name = TopicName::new(text).unwrap();
            assert_eq!(name.as_str(), text);
            assert_eq!(TopicName::from_utf8(text.as_bytes()), Ok(name));
            assert_eq!(name.to_owned(), *text);
            assert_eq!(TopicNameBuf::try_from(String::from(text)).unwrap(), *name);
        }
        assert_ne!(TopicName::new("a"), TopicName::new("a/"));
        assert_ne!(TopicName::new("A"), TopicName::new("a"));
    }

    #[test]
    fn only_a_dollar_in_front_makes_a_dollar_name() {
        assert!(TopicName::new("$SYS/x").unwrap().is_dollar());
        assert!(TopicName::new("$").unwrap().is_dollar());
        assert!(!TopicName::new("/$SYS").unwrap().is_dollar());
        assert!(!TopicName::new("a$").unwrap().is_dollar());
    }

    #[test]
    fn the_longest_name_has_65_536_levels() {
        let text = "/".repeat(65_535);
        let name = TopicName::new(&text).unwrap();
        assert_eq!(name.level_count(), 65_536);
        assert_eq!(name.levels().count(), 65_536);
        assert!(name.exceeds_levels(65_535));
        assert!(!name.exceeds_levels(65_536));
    }

    #[test]
    fn an_owned_name_shares_the_frame_it_came_in() {
        let frame = Bytes::from_static(b"\x30\x05\x00\x03a/b");
        let name = TopicName::new(str::from_utf8(&frame[4..]).unwrap()).unwrap();
        let owned = TopicNameBuf::from_part_of(&frame, name);
        assert_eq!(owned.as_bytes().as_ptr(), frame[4..].as_ptr());
        assert_eq!(owned.clone().into_byte_str(), "a/b");
        let map = HashMap::from([(owned, 7)]);
        assert_eq!(map.get(name), Some(&7));
    }
}
