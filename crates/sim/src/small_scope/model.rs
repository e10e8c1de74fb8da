//! [`World`]: what an exploration asks of the thing it explores.

use std::fmt;

use crate::Finding;

/// A world that takes one step at a time and behaves the same whenever it is begun again.
///
/// The types of the core can't be cloned, and should not be: a token that acknowledges exists once. So a
/// state is reached again by taking its steps again from the beginning.
pub(crate) trait World: Sized {
    /// One thing that may happen.
    type Step: Copy + fmt::Debug;

    /// What may happen now.
    fn choices(&self, choices: &mut Choices<Self::Step>);

    /// Lets it happen.
    fn take(&mut self, step: Self::Step);

    /// The first rule that was broken.
    fn finding(&self) -> Option<&Finding>;

    /// Writes everything that decides what can happen from now on.
    fn write_state(&self, text: &mut StateText);

    /// Nothing is left to happen but faults: what should be true then and is not.
    fn rest(self) -> Option<Finding>;

    /// Begins to tell what happens, one line a step.
    fn narrate(&mut self);

    /// What was told.
    fn story(&mut self) -> Vec<String>;
}

/// The steps that are possible in one state.
#[derive(Debug)]
pub(crate) struct Choices<S> {
    /// What has to happen in the end, in whatever order.
    pub(crate) progress: Vec<S>,
    /// What may happen.
    pub(crate) faults: Vec<S>,
}

impl<S> Choices<S> {
    pub(crate) fn new() -> Self {
        Self {
            progress: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// A state as text; two states are the same if their texts are.
#[derive(Debug, Default)]
pub(crate) struct StateText {
    bytes: Vec<u8>,
}

impl StateText {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a value by how it prints.
    pub(crate) fn debug(&mut self, value: &impl fmt::Debug) {
        use fmt::Write as _;
        // Writing into memory can't fail.
        let _ = write!(self, "{value:?};");
    }

    /// Adds bytes, with their number in front so that two runs of them can't be mixed up.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(&bytes.len().to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// 128 bits of it: two keyed hashes of 64. With ten million states the chance that any two of them
    /// have one fingerprint is below 10⁻²⁴.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        use std::hash::{DefaultHasher, Hasher};
        let half = |key: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(key);
            hasher.write(&self.bytes);
            hasher.finish()
        };
        Fingerprint([half(1), half(2)])
    }
}

impl fmt::Write for StateText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Stands for a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u64; 2]);
