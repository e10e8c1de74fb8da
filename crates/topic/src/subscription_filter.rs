//! What a SUBSCRIBE or UNSUBSCRIBE names: a topic filter, or a share of one.

use std::fmt;
use std::str::FromStr;

use crate::topic_filter::check_length_and_null;
use crate::{ByteStr, TopicFilter, TopicFilterError, byte_str};

/// What a SUBSCRIBE or UNSUBSCRIBE names, borrowed: a topic filter, or a group's share of one.
///
/// ```
/// use whimbrel_topic::SubscriptionFilter;
///
/// let shared = SubscriptionFilter::parse("$share/workers/jobs/+")?;
/// assert_eq!(shared.share_name().unwrap().as_str(), "workers");
/// assert_eq!(shared.filter().as_str(), "jobs/+");
///
/// let plain = SubscriptionFilter::parse("jobs/+")?;
/// assert!(plain.share_name().is_none());
/// # Ok::<(), whimbrel_topic::TopicFilterError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionFilter<'a> {
    /// Every message that `filter` matches.
    Plain(&'a TopicFilter),
    /// A share of them: of `$share/{group}/{filter}`, each message goes to one member of the group [U5-103].
    Shared {
        /// The group.
        group: &'a ShareName,
        /// What the group is subscribed to. The `$` rule applies to this text, without the prefix.
        filter: &'a TopicFilter,
    },
}

impl<'a> SubscriptionFilter<'a> {
    /// Reads the text of a subscription.
    ///
    /// `$share` and all that starts with `$share/` is a shared subscription or an error [MQTT-4.8.2-1]; `$shared/x` is
    /// a plain filter. Servers that offer no shared subscriptions to 3.1.1 clients use [`TopicFilter::new`] instead.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn parse(text: &'a str) -> Result<SubscriptionFilter<'a>, TopicFilterError> {
        let Some(share) = text.strip_prefix(SHARE_PREFIX) else {
            return TopicFilter::new(text).map(SubscriptionFilter::Plain);
        };
        check_length_and_null(text)?;
        let share = match share.strip_prefix('/') {
            Some(share) => share,
            None if share.is_empty() => return Err(TopicFilterError::ShareNameMissing),
            None => return TopicFilter::new(text).map(SubscriptionFilter::Plain),
        };
        let (group, filter) = share.split_once('/').unwrap_or((share, ""));
        let group = ShareName::new(group)?;
        if filter.is_empty() {
            return Err(TopicFilterError::ShareFilterMissing);
        }
        let filter = TopicFilter::new(filter)?;
        Ok(SubscriptionFilter::Shared { group, filter })
    }

    /// The filter that topics are matched with: without `$share/{group}/`.
    pub fn filter(self) -> &'a TopicFilter {
        match self {
            SubscriptionFilter::Plain(filter) | SubscriptionFilter::Shared { filter, .. } => filter,
        }
    }

    /// The group of a shared subscription.
    pub fn share_name(self) -> Option<&'a ShareName> {
        match self {
            SubscriptionFilter::Plain(_) => None,
            SubscriptionFilter::Shared { group, .. } => Some(group),
        }
    }

    /// Whether this is a shared subscription.
    pub fn is_shared(self) -> bool {
        matches!(self, SubscriptionFilter::Shared { .. })
    }
}

impl<'a> From<&'a TopicFilter> for SubscriptionFilter<'a> {
    fn from(filter: &'a TopicFilter) -> SubscriptionFilter<'a> {
        SubscriptionFilter::Plain(filter)
    }
}

impl fmt::Display for SubscriptionFilter<'_> {
    /// The text as it stands in the packet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubscriptionFilter::Plain(filter) => fmt::Display::fmt(filter, f),
            SubscriptionFilter::Shared { group, filter } => {
                write!(f, "{SHARE_PREFIX}/{group}/{filter}")
            }
        }
    }
}

/// What a SUBSCRIBE or UNSUBSCRIBE names, owned: the text as it stood in the packet, checked. Cloning it shares its
/// memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionFilterBuf {
    text: ByteStr,
    /// Bytes of the share name; 0 for a plain filter, as no share name is empty.
    share_name_len: u16,
}

impl SubscriptionFilterBuf {
    /// Reads the text of a subscription, as [`SubscriptionFilter::parse`] does, and keeps it without copying.
    ///
    /// # Errors
    /// The rule that `text` breaks.
    pub fn new(text: ByteStr) -> Result<SubscriptionFilterBuf, TopicFilterError> {
        let name = SubscriptionFilter::parse(&text)?.share_name();
        let len = name.map_or(0, |name| name.as_str().len());
        // A part of a checked text is within the text's own limit.
        let share_name_len = u16::try_from(len).map_err(|_| TopicFilterError::TooLong)?;
        Ok(SubscriptionFilterBuf {
            text,
            share_name_len,
        })
    }

    /// The borrowed form; it is not checked again.
    pub fn as_filter(&self) -> SubscriptionFilter<'_> {
        if self.share_name_len == 0 {
            return SubscriptionFilter::Plain(byte_str::cast_topic_filter(&self.text));
        }
        // "$share/" in front of the name and "/" after it, as `new` found them.
        let name_start = SHARE_PREFIX.len() + 1;
        let name_end = name_start + usize::from(self.share_name_len);
        SubscriptionFilter::Shared {
            group: byte_str::cast_share_name(&self.text[name_start..name_end]),
            filter: byte_str::cast_topic_filter(&self.text[name_end + 1..]),
        }
    }

    /// The text as it stands in the packet.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Gives the text back without copying it.
    pub fn into_byte_str(self) -> ByteStr {
        self.text
    }
}

impl From<SubscriptionFilter<'_>> for SubscriptionFilterBuf {
    /// Copies the text into an allocation of its own.
    fn from(filter: SubscriptionFilter<'_>) -> SubscriptionFilterBuf {
        let len = filter.share_name().map_or(0, |name| name.as_str().len());
        SubscriptionFilterBuf {
            text: ByteStr::from(filter.to_string()),
            // A share name is at most `SHARE_NAME_BYTES_MAX` long, which fits.
            share_name_len: len as u16,
        }
    }
}

impl TryFrom<ByteStr> for SubscriptionFilterBuf {
    type Error = TopicFilterError;

    fn try_from(text: ByteStr) -> Result<SubscriptionFilterBuf, TopicFilterError> {
        SubscriptionFilterBuf::new(text)
    }
}

impl TryFrom<&str> for SubscriptionFilterBuf {
    type Error = TopicFilterError;

    fn try_from(text: &str) -> Result<SubscriptionFilterBuf, TopicFilterError> {
        SubscriptionFilterBuf::new(ByteStr::from(text))
    }
}

impl FromStr for SubscriptionFilterBuf {
    type Err = TopicFilterError;

    fn from_str(text: &str) -> Result<SubscriptionFilterBuf, TopicFilterError> {
        SubscriptionFilterBuf::try_from(text)
    }
}

impl AsRef<str> for SubscriptionFilterBuf {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for SubscriptionFilterBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for SubscriptionFilterBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.text, f)
    }
}

/// The name of a group of a shared subscription: at least one character, none of `/`, `+`, `#` and U+0000.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct ShareName(str);

impl ShareName {
    /// Checks `text` as a share name [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    ///
    /// # Errors
    /// The rule that `text` breaks. A `/` is told as a missing filter, for that is what it would start.
    pub fn new(text: &str) -> Result<&ShareName, TopicFilterError> {
        if text.is_empty() {
            return Err(TopicFilterError::ShareNameMissing);
        }
        if text.len() > SHARE_NAME_BYTES_MAX {
            return Err(TopicFilterError::TooLong);
        }
        for byte in text.bytes() {
            match byte {
                0 => return Err(TopicFilterError::NullCharacter),
                b'+' | b'#' => return Err(TopicFilterError::ShareNameWildcard),
                b'/' => return Err(TopicFilterError::ShareFilterMissing),
                _ => {}
            }
        }
        Ok(byte_str::cast_share_name(text))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ShareName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for ShareName {
    fn eq(&self, other: &str) -> bool {
        &self.0 == other
    }
}

impl fmt::Debug for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

const SHARE_PREFIX: &str = "$share";

/// What a text of [`TOPIC_BYTES_MAX`](crate::TOPIC_BYTES_MAX) leaves beside `$share/`, `/` and a filter of one byte.
const SHARE_NAME_BYTES_MAX: usize = crate::TOPIC_BYTES_MAX - "$share///".len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_subscriptions_name_the_rule_they_break() {
        // [5:MQTT-4.8.2-1] [5:MQTT-4.8.2-2]
        let long_name = format!("$share/{}/x", "n".repeat(65_527));
        let table = [
            ("$share", TopicFilterError::ShareNameMissing),
            ("$share/", TopicFilterError::ShareNameMissing),
            ("$share//", TopicFilterError::ShareNameMissing),
            ("$share//x", TopicFilterError::ShareNameMissing),
            ("$share/g", TopicFilterError::ShareFilterMissing),
            ("$share/g/", TopicFilterError::ShareFilterMissing),
            ("$share/g+/x", TopicFilterError::ShareNameWildcard),
            ("$share/+/x", TopicFilterError::ShareNameWildcard),
            ("$share/#", TopicFilterError::ShareNameWildcard),
            ("$share/g#/x", TopicFilterError::ShareNameWildcard),
            ("$share/g\0/x", TopicFilterError::NullCharacter),
            ("$share/g/x#", TopicFilterError::MultiLevelWildcard),
            ("$share/g/#/x", TopicFilterError::MultiLevelWildcard),
            ("$share/g/x+", TopicFilterError::SingleLevelWildcard),
            (&long_name, TopicFilterError::TooLong),
            ("$shared/+x", TopicFilterError::SingleLevelWildcard),
            ("", TopicFilterError::Empty),
            ("a\0", TopicFilterError::NullCharacter),
        ];
        for (text, error) in table {
            assert_eq!(SubscriptionFilter::parse(text), Err(error), "{text:.30}");
            assert_eq!(SubscriptionFilterBuf::try_from(text), Err(error));
        }
    }

    #[test]
    fn shared_subscriptions_are_split_after_the_name() {
        let long_name = "n".repeat(65_526);
        let long = format!("$share/{long_name}/x");
        let table = [
            ("$share/g/x", "g", "x"),
            ("$share/g//x", "g", "/x"),
            ("$share/g//", "g", "/"),
            ("$share/g/#", "g", "#"),
            ("$share/g h/+/+", "g h", "+/+"),
            ("$share/$g/$SYS/#", "$g", "$SYS/#"),
            ("$share/g/$share/h/x", "g", "$share/h/x"),
            (&long, long_name.as_str(), "x"),
        ];
        for (text, group, filter) in table {
            let parsed = SubscriptionFilter::parse(text).unwrap();
            assert_eq!(
                parsed,
                SubscriptionFilter::Shared {
                    group: ShareName::new(group).unwrap(),
                    filter: TopicFilter::new(filter).unwrap(),
                }
            );
            assert!(parsed.is_shared());
            assert_eq!(parsed.to_string(), text);
            let owned = SubscriptionFilterBuf::try_from(text).unwrap();
            assert_eq!(owned.as_filter(), parsed);
            assert_eq!(SubscriptionFilterBuf::from(parsed), owned);
        }
    }

    #[test]
    fn other_texts_are_plain_filters() {
        for text in [
            "a",
            "#",
            "$shared/g/x",
            "$SHARE/g/x",
            "/$share/g/x",
            "$shar",
            "$queue/x",
        ] {
            let filter = TopicFilter::new(text).unwrap();
            let parsed = SubscriptionFilter::parse(text).unwrap();
            assert_eq!(parsed, SubscriptionFilter::Plain(filter));
            assert_eq!(parsed, SubscriptionFilter::from(filter));
            assert_eq!(parsed.share_name(), None);
            assert!(!parsed.is_shared());
            let owned = SubscriptionFilterBuf::try_from(text).unwrap();
            assert_eq!(owned.as_filter().filter(), filter);
            assert_eq!(SubscriptionFilterBuf::from(parsed), owned);
            assert_eq!(owned.into_byte_str(), text);
        }
    }

    #[test]
    fn a_share_name_holds_no_slash() {
        assert_eq!(
            ShareName::new("a/b"),
            Err(TopicFilterError::ShareFilterMissing)
        );
        assert_eq!(ShareName::new("a").unwrap(), "a");
    }
}
