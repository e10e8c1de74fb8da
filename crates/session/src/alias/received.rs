//! The peer's aliases: what it gave topics on this connection.

use std::num::NonZeroU16;
use std::ops::Deref;

use whimbrel_codec::topic::{TopicName, TopicNameBuf};

use crate::ProtocolError;

/// The topic of a received PUBLISH.
#[derive(Clone, Debug)]
pub enum TopicRef<'a> {
    /// It is in the packet.
    Borrowed(&'a TopicName),
    /// The packet has an alias in its place.
    Aliased(TopicNameBuf),
}

/// Topics by the aliases that the peer gave them on this connection [MQTT-3.3.2-7].
///
/// Bounded by the Topic Alias Maximum that was announced, of at most 64 KiB each; grows with the
/// highest alias in use.
#[derive(Debug, Default)]
pub(crate) struct ReceivedAliases {
    alias_max: u16,
    /// The topic of alias 1 is the first one.
    topics: Vec<Option<TopicNameBuf>>,
}

impl ReceivedAliases {
    pub(crate) fn new(alias_max: u16) -> Self {
        Self {
            alias_max,
            topics: Vec::new(),
        }
    }

    /// The topic of a PUBLISH; a topic with an alias sets or replaces the mapping [U5-052].
    pub(crate) fn resolve<'a>(
        &mut self,
        topic: Option<&'a TopicName>,
        alias: Option<NonZeroU16>,
    ) -> Result<TopicRef<'a>, ProtocolError> {
        let Some(alias) = alias else {
            // The codec lets no packet pass that has neither [U5-044].
            let topic = topic.ok_or(ProtocolError::TopicAliasUnknown)?;
            return Ok(TopicRef::Borrowed(topic));
        };
        // [MQTT-3.3.2-8]
        if alias.get() > self.alias_max {
            return Err(ProtocolError::TopicAliasInvalid);
        }
        let index = usize::from(alias.get()) - 1;
        let Some(topic) = topic else {
            let known = self.topics.get(index).cloned().flatten();
            return known
                .map(TopicRef::Aliased)
                .ok_or(ProtocolError::TopicAliasUnknown);
        };
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        if let Some(slot) = self.topics.get_mut(index) {
            *slot = Some(topic.to_owned());
        }
        Ok(TopicRef::Borrowed(topic))
    }
}

impl Deref for TopicRef<'_> {
    type Target = TopicName;

    fn deref(&self) -> &TopicName {
        match self {
            Self::Borrowed(topic) => topic,
            Self::Aliased(topic) => topic,
        }
    }
}

impl AsRef<TopicName> for TopicRef<'_> {
    fn as_ref(&self) -> &TopicName {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &TopicName {
        TopicName::new(text).expect("a valid name")
    }

    fn resolved(
        aliases: &mut ReceivedAliases,
        topic: Option<&str>,
        alias: u16,
    ) -> Result<String, ProtocolError> {
        let topic = aliases.resolve(topic.map(name), NonZeroU16::new(alias))?;
        Ok(topic.as_str().to_owned())
    }

    #[test]
    fn an_alias_stands_for_the_last_topic_it_came_with() {
        // [U5-052]
        let mut aliases = ReceivedAliases::new(4);
        assert_eq!(resolved(&mut aliases, Some("a"), 4), Ok("a".to_owned()));
        assert_eq!(resolved(&mut aliases, None, 4), Ok("a".to_owned()));
        assert_eq!(resolved(&mut aliases, Some("b"), 4), Ok("b".to_owned()));
        assert_eq!(resolved(&mut aliases, None, 4), Ok("b".to_owned()));
    }

    #[test]
    fn an_alias_without_a_topic_is_an_error() {
        // [U5-051]
        let mut aliases = ReceivedAliases::new(4);
        assert_eq!(resolved(&mut aliases, Some("a"), 3), Ok("a".to_owned()));
        let unknown = Err(ProtocolError::TopicAliasUnknown);
        assert_eq!(resolved(&mut aliases, None, 2), unknown);
        assert_eq!(resolved(&mut aliases, None, 4), unknown);
    }

    #[test]
    fn an_alias_above_the_maximum_is_an_error() {
        // [U5-050]
        let mut aliases = ReceivedAliases::new(4);
        let invalid = Err(ProtocolError::TopicAliasInvalid);
        assert_eq!(resolved(&mut aliases, Some("a"), 5), invalid);
        let mut none = ReceivedAliases::new(0);
        assert_eq!(resolved(&mut none, Some("a"), 1), invalid);
    }
}
