//! [`ByteStr`], and the few casts that Rust offers no safe form of.
//!
//! This is the only file of the project that holds `unsafe` code.
#![allow(unsafe_code)]

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

use bytes::Bytes;

use crate::{ShareName, TopicFilter, TopicName, scan};

/// An immutable UTF-8 string that is cheap to clone and to cut: a [`Bytes`] known to be UTF-8.
///
/// It compares, orders and hashes like `str`, so a map keyed by `ByteStr` is asked with a `&str`.
///
/// ```
/// use whimbrel_topic::ByteStr;
///
/// let whole = ByteStr::from("sensors/kitchen");
/// let part = whole.slice_ref(&whole[8..]); // shares the memory of `whole`
/// assert_eq!(part, "kitchen");
/// ```
#[derive(Clone, Default)]
pub struct ByteStr {
    /// Invariant: valid UTF-8, checked or proved where it is made.
    bytes: Bytes,
}

impl ByteStr {
    /// The empty string.
    pub const fn new() -> ByteStr {
        ByteStr {
            bytes: Bytes::new(),
        }
    }

    /// A string over static memory: no allocation.
    pub const fn from_static(text: &'static str) -> ByteStr {
        ByteStr {
            bytes: Bytes::from_static(text.as_bytes()),
        }
    }

    /// Takes `bytes` without copying them.
    ///
    /// # Errors
    /// When `bytes` are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<ByteStr, Utf8Error> {
        str::from_utf8(&bytes)?;
        Ok(ByteStr { bytes })
    }

    /// Shares the memory of `part`, a string that lies inside `owner`, without checking UTF-8 again.
    ///
    /// # Panics
    /// When `part` does not lie in the memory of `owner`.
    pub fn from_part_of(owner: &Bytes, part: &str) -> ByteStr {
        // `slice_ref` gives the very bytes of `part`, which is a `str`.
        ByteStr {
            bytes: owner.slice_ref(part.as_bytes()),
        }
    }

    /// Shares the memory of `part`, a slice of this string.
    ///
    /// # Panics
    /// When `part` does not lie in the memory of this string.
    pub fn slice_ref(&self, part: &str) -> ByteStr {
        ByteStr::from_part_of(&self.bytes, part)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor checked the bytes as UTF-8, was given a `str`, or shares the memory of a `str`;
        // `Bytes` is immutable.
        unsafe { str::from_utf8_unchecked(&self.bytes) }
    }

    /// The text's bytes, which are UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the bytes back without copying them.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl Deref for ByteStr {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for ByteStr {
    fn borrow(&self) -> &str {
        self
    }
}

impl AsRef<str> for ByteStr {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for ByteStr {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<&str> for ByteStr {
    /// Copies `text` into an allocation of its own.
    fn from(text: &str) -> ByteStr {
        ByteStr {
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        }
    }
}

impl From<String> for ByteStr {
    fn from(text: String) -> ByteStr {
        ByteStr {
            bytes: Bytes::from(text),
        }
    }
}

impl From<ByteStr> for Bytes {
    fn from(text: ByteStr) -> Bytes {
        text.into_bytes()
    }
}

impl TryFrom<Bytes> for ByteStr {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<ByteStr, Utf8Error> {
        ByteStr::from_utf8(bytes)
    }
}

impl PartialEq for ByteStr {
    fn eq(&self, other: &ByteStr) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for ByteStr {}

impl PartialEq<str> for ByteStr {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for ByteStr {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<ByteStr> for str {
    fn eq(&self, other: &ByteStr) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialOrd for ByteStr {
    fn partial_cmp(&self, other: &ByteStr) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByteStr {
    fn cmp(&self, other: &ByteStr) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for ByteStr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// `bytes` as text, if all are ASCII and none is U+0000: most strings of MQTT, at a small part of what
/// [`str::from_utf8`] costs. Of other bytes nothing is said: they may be text, too.
///
/// ```
/// use whimbrel_topic::ascii_text;
///
/// assert_eq!(ascii_text(b"sensors/kitchen"), Some("sensors/kitchen"));
/// assert_eq!(ascii_text("k\u{fc}che".as_bytes()), None);
/// assert_eq!(ascii_text(b"a\0b"), None);
/// ```
#[inline]
pub fn ascii_text(bytes: &[u8]) -> Option<&str> {
    ascii_without(bytes, |byte| byte == 0)
}

/// `bytes` as text, if all are ASCII and `is_unwanted` holds for none.
#[inline(always)]
pub(crate) fn ascii_without(bytes: &[u8], is_unwanted: impl Fn(u8) -> bool + Copy) -> Option<&str> {
    if scan::any(bytes, |byte| !byte.is_ascii() | is_unwanted(byte)) {
        return None;
    }
    // SAFETY: every byte is below 0x80, and so is a character of UTF-8 by itself.
    Some(unsafe { str::from_utf8_unchecked(bytes) })
}

/// Views `text` as a topic name. Its rules are the caller's to check; memory safety does not hang on them.
pub(crate) fn cast_topic_name(text: &str) -> &TopicName {
    // SAFETY: `TopicName` is `repr(transparent)` over `str`, so the pointer, its length and its lifetime carry over.
    unsafe { &*(std::ptr::from_ref(text) as *const TopicName) }
}

/// Views `text` as a topic filter. Its rules are the caller's to check; memory safety does not hang on them.
pub(crate) fn cast_topic_filter(text: &str) -> &TopicFilter {
    // SAFETY: `TopicFilter` is `repr(transparent)` over `str`, so the pointer, its length and its lifetime carry over.
    unsafe { &*(std::ptr::from_ref(text) as *const TopicFilter) }
}

/// Views `text` as a share name. Its rules are the caller's to check; memory safety does not hang on them.
pub(crate) fn cast_share_name(text: &str) -> &ShareName {
    // SAFETY: `ShareName` is `repr(transparent)` over `str`, so the pointer, its length and its lifetime carry over.
    unsafe { &*(std::ptr::from_ref(text) as *const ShareName) }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        for bad in [&b"\xff"[..], b"a\xc0\x80", b"\xed\xa0\x80", b"ok\xe2\x82"] {
            let expected = str::from_utf8(bad).unwrap_err();
            assert_eq!(
                ByteStr::from_utf8(Bytes::copy_from_slice(bad)),
                Err(expected)
            );
        }
        assert_eq!(
            ByteStr::try_from(Bytes::from_static("grüße".as_bytes())).unwrap(),
            "grüße"
        );
    }

    #[test]
    fn a_slice_shares_the_memory_of_its_owner() {
        let whole = ByteStr::from(String::from("alpha/beta"));
        let part = whole.slice_ref(&whole[6..]);
        assert_eq!(part.as_bytes().as_ptr(), whole[6..].as_ptr());
        drop(whole);
        assert_eq!(part, "beta");

        let frame = Bytes::from_static(b"\xff\xfeabc\xff");
        let text = str::from_utf8(&frame[2..5]).unwrap();
        assert_eq!(ByteStr::from_part_of(&frame, text), "abc");
    }

    #[test]
    #[should_panic(expected = "subset")]
    fn a_slice_of_other_memory_panics() {
        let whole = ByteStr::from("alpha");
        let other = String::from("alpha");
        drop(whole.slice_ref(&other));
    }

    #[test]
    fn maps_keyed_by_byte_str_are_asked_with_str() {
        let hashed = HashMap::from([(ByteStr::from("a"), 1), (ByteStr::from_static("b"), 2)]);
        assert_eq!(hashed.get("b"), Some(&2));
        let sorted = BTreeMap::from([(ByteStr::from("a"), 1), (ByteStr::from_static("b"), 2)]);
        assert_eq!(sorted.get("a"), Some(&1));
        assert_eq!(sorted.get("c"), None);
    }

    #[test]
    fn it_shows_as_its_text() {
        let text = ByteStr::from("a\"b");
        assert_eq!(format!("{text}|{text:?}"), "a\"b|\"a\\\"b\"");
        assert_eq!(ByteStr::new(), ByteStr::default());
        assert_eq!(Bytes::from(text), Bytes::from_static(b"a\"b"));
    }
}
