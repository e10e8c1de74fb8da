//! [`Population`]: many filters, and topics that match one of them each.

use whimbrel_topic::{FilterTrie, TopicFilterBuf, TopicNameBuf};

/// Filters as a large deployment has them: a third each `site/{group}/{device}/+`, `site/{group}/{device}/#` and
/// `+/{group}/{device}/value`, a thousand devices a group.
///
/// Every topic of the population matches exactly one of its filters.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    /// How many filters there are.
    pub size: usize,
}

impl Population {
    /// A trie of all filters, each with its number.
    ///
    /// # Panics
    /// When the population exceeds `u32`.
    pub fn trie(self) -> FilterTrie<u32> {
        let mut trie = FilterTrie::new();
        for index in 0..self.size {
            let number = u32::try_from(index).expect("a population of less than 2^32");
            trie.insert(&self.filter(index), number);
        }
        trie
    }

    /// One of the filters.
    pub fn filter(self, index: usize) -> TopicFilterBuf {
        let (group, device) = place(index);
        let text = match index % 3 {
            0 => format!("site/{group}/{device}/+"),
            1 => format!("site/{group}/{device}/#"),
            _ => format!("+/{group}/{device}/value"),
        };
        TopicFilterBuf::try_from(text).expect("a valid filter")
    }

    /// A topic that matches the filter `index` only.
    pub fn topic(self, index: usize) -> TopicNameBuf {
        let (group, device) = place(index);
        let text = match index % 3 {
            0 => format!("site/{group}/{device}/state"),
            1 => format!("site/{group}/{device}/state/battery"),
            _ => format!("plant/{group}/{device}/value"),
        };
        TopicNameBuf::try_from(text).expect("a valid topic name")
    }

    /// `count` numbers of filters, spread over the whole population: neighbours lie far apart, as the publishers of
    /// successive messages do.
    pub fn sample(self, count: usize) -> impl Iterator<Item = usize> {
        (0..count).map(move |step| step.wrapping_mul(STRIDE) % self.size)
    }

    /// `count` numbers of filters, of which a filter's share falls with its rank, as with topics of which a few are
    /// busy: about as many numbers are among the first ten ranks as among the next ninety, or the next nine hundred.
    pub fn skewed_sample(self, count: usize) -> impl Iterator<Item = usize> {
        let largest = (self.size as f64).ln();
        (0..count).map(move |step| {
            // Evenly spread over 0 to 1, whatever the count; and the ranks lie far apart.
            let spread = (step as f64 * GOLDEN_RATIO).fract();
            let rank = (spread * largest).exp() as usize;
            rank.wrapping_mul(STRIDE) % self.size
        })
    }
}

fn place(index: usize) -> (usize, usize) {
    (index / DEVICES, index % DEVICES)
}

/// Devices in a group.
const DEVICES: usize = 1_000;
/// A prime that divides no size used here.
const STRIDE: usize = 7_368_787;
/// Its multiples without their whole part fill an interval more evenly than those of any other number.
const GOLDEN_RATIO: f64 = 1.618_033_988_749_895;
