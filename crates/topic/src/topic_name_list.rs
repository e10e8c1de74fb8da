//! [`TopicNameList`]: names one behind the other.

use std::fmt;

use crate::{TopicName, byte_str};

/// Topic names in one piece of memory, by number: no allocation for each, and no check when they are read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TopicNameList {
    text: String,
    /// Where each name ends in `text`.
    ends: Vec<usize>,
}

impl TopicNameList {
    /// A list without names or memory.
    pub const fn new() -> TopicNameList {
        TopicNameList {
            text: String::new(),
            ends: Vec::new(),
        }
    }

    /// Adds `name` at the end.
    pub fn push(&mut self, name: &TopicName) {
        self.text.push_str(name.as_str());
        self.ends.push(self.text.len());
    }

    /// The name that was added as number `index`, from 0; `None` if there are not so many.
    pub fn get(&self, index: usize) -> Option<&TopicName> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..end).map(byte_str::cast_topic_name)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all names together.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Takes all names out; the memory stays.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// The names, first to last.
    pub fn iter(&self) -> impl Iterator<Item = &TopicName> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl fmt::Debug for TopicNameList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &TopicName {
        TopicName::new(text).expect("a valid name")
    }

    #[test]
    fn names_come_back_by_their_number() {
        let mut list = TopicNameList::new();
        assert!(list.is_empty());
        for text in ["a/b", "β/γ", "/"] {
            list.push(name(text));
        }
        assert_eq!(list.len(), 3);
        assert_eq!(list.text_bytes(), 9);
        assert_eq!(list.get(1), Some(name("β/γ")));
        assert_eq!(list.get(3), None);
        assert_eq!(format!("{list:?}"), r#"["a/b", "β/γ", "/"]"#);
    }

    #[test]
    fn a_cleared_list_begins_anew() {
        let mut list = TopicNameList::new();
        list.push(name("long/enough"));
        list.clear();
        assert_eq!(list.get(0), None);
        list.push(name("x"));
        assert_eq!(list.iter().collect::<Vec<_>>(), [name("x")]);
    }
}
