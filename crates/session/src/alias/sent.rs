//! Our own aliases: what this side gave topics on this connection.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use whimbrel_codec::TopicForm;
use whimbrel_codec::topic::{TopicName, TopicNameBuf};

/// Aliases given to the peer, from 1 up to a maximum that it announced [MQTT-3.1.2-26] [MQTT-3.2.2-17].
///
/// Topics get one as they come while there are any left. Then an alias changes hands only once it has gone
/// unused for a while: the hand goes round over the aliases, one at each topic that has none, and takes that of
/// a topic which was not sent since its last visit. So topics that keep coming keep theirs, and a stream of
/// topics that come once costs no more than their names.
///
/// Bounded by `alias_max`, with one topic for each.
#[derive(Debug)]
pub(crate) struct SentAliases {
    alias_max: NonZeroU16,
    by_topic: BTreeMap<TopicNameBuf, NonZeroU16>,
    /// The holder of alias 1 is the first one.
    holders: Vec<Holder>,
    /// Index of the holder that is looked at next, once all aliases are given.
    hand: usize,
}

#[derive(Debug)]
struct Holder {
    topic: TopicNameBuf,
    /// Sent since the hand passed.
    is_recent: bool,
}

impl SentAliases {
    pub(crate) fn new(alias_max: NonZeroU16) -> Self {
        Self {
            alias_max,
            by_topic: BTreeMap::new(),
            holders: Vec::new(),
            hand: 0,
        }
    }

    /// How the next PUBLISH is to name `topic`. Only [`note_sent`](Self::note_sent) makes a new alias known.
    pub(crate) fn form(&mut self, topic: &TopicName) -> TopicForm {
        if let Some(&alias) = self.by_topic.get(topic) {
            if let Some(holder) = self.holders.get_mut(index(alias)) {
                holder.is_recent = true;
            }
            return TopicForm::Alias(alias);
        }
        if let Some(alias) = self.unused() {
            return TopicForm::NameAndAlias(alias);
        }
        match self.holders.get_mut(self.hand) {
            Some(holder) if holder.is_recent => {
                holder.is_recent = false;
                self.hand = (self.hand + 1) % self.holders.len();
                TopicForm::Name
            }
            _ => alias_at(self.hand).map_or(TopicForm::Name, TopicForm::NameAndAlias),
        }
    }

    /// A PUBLISH of `topic` in this form was written, so that the peer knows its alias.
    pub(crate) fn note_sent(&mut self, topic: &TopicName, form: TopicForm) {
        let TopicForm::NameAndAlias(alias) = form else {
            return;
        };
        let holder = Holder {
            topic: topic.to_owned(),
            is_recent: true,
        };
        self.by_topic.insert(holder.topic.clone(), alias);
        match self.holders.get_mut(index(alias)) {
            Some(held) => {
                let before = std::mem::replace(held, holder);
                self.by_topic.remove(&before.topic);
                self.hand = (self.hand + 1) % self.holders.len();
            }
            None => self.holders.push(holder),
        }
        debug_assert_eq!(
            self.by_topic.len(),
            self.holders.len(),
            "one topic an alias"
        );
    }

    fn unused(&self) -> Option<NonZeroU16> {
        alias_at(self.holders.len()).filter(|&alias| alias <= self.alias_max)
    }
}

fn index(alias: NonZeroU16) -> usize {
    usize::from(alias.get()) - 1
}

fn alias_at(index: usize) -> Option<NonZeroU16> {
    u16::try_from(index + 1).ok().and_then(NonZeroU16::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &TopicName {
        TopicName::new(text).expect("a valid name")
    }

    fn alias(number: u16) -> NonZeroU16 {
        NonZeroU16::new(number).expect("not 0")
    }

    fn sent(aliases: &mut SentAliases, topic: &str) -> TopicForm {
        let form = aliases.form(name(topic));
        aliases.note_sent(name(topic), form);
        form
    }

    #[test]
    fn a_topic_goes_by_its_alias_from_the_second_time_on() {
        let mut aliases = SentAliases::new(alias(2));
        assert_eq!(sent(&mut aliases, "a"), TopicForm::NameAndAlias(alias(1)));
        assert_eq!(sent(&mut aliases, "b"), TopicForm::NameAndAlias(alias(2)));
        assert_eq!(sent(&mut aliases, "a"), TopicForm::Alias(alias(1)));
        assert_eq!(sent(&mut aliases, "b"), TopicForm::Alias(alias(2)));
    }

    #[test]
    fn an_alias_that_was_not_written_is_not_known() {
        let mut aliases = SentAliases::new(alias(1));
        assert_eq!(aliases.form(name("a")), TopicForm::NameAndAlias(alias(1)));
        assert_eq!(sent(&mut aliases, "b"), TopicForm::NameAndAlias(alias(1)));
        assert_eq!(sent(&mut aliases, "b"), TopicForm::Alias(alias(1)));
        assert_eq!(sent(&mut aliases, "a"), TopicForm::Name);
    }

    #[test]
    fn an_alias_changes_hands_once_it_has_gone_unused() {
        let mut aliases = SentAliases::new(alias(2));
        sent(&mut aliases, "often");
        sent(&mut aliases, "once");
        // The hand passes both.
        assert_eq!(sent(&mut aliases, "new"), TopicForm::Name);
        assert_eq!(sent(&mut aliases, "newer"), TopicForm::Name);
        assert_eq!(sent(&mut aliases, "often"), TopicForm::Alias(alias(1)));
        // That of "often" was used meanwhile, that of "once" was not.
        assert_eq!(sent(&mut aliases, "new"), TopicForm::Name);
        assert_eq!(sent(&mut aliases, "new"), TopicForm::NameAndAlias(alias(2)));
        assert_eq!(sent(&mut aliases, "new"), TopicForm::Alias(alias(2)));
        assert_eq!(sent(&mut aliases, "often"), TopicForm::Alias(alias(1)));
        assert_eq!(sent(&mut aliases, "once"), TopicForm::Name);
    }
}
