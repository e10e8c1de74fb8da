//! The trace of a run: one hash over everything that happened, in order, and the text on request.

use std::fmt;

/// Hashes what happens; prints it too, if asked to.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    prints: bool,
    step: u64,
    now_ms: u64,
}

impl Trace {
    pub(crate) fn new(prints: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            prints,
            step: 0,
            now_ms: 0,
        }
    }

    /// The hash of all that was noted.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// A new step begins.
    pub(crate) fn begin(&mut self, step: u64, now_ms: u64) {
        self.step = step;
        self.now_ms = now_ms;
        self.mix(step);
        self.mix(now_ms);
    }

    /// Notes an event by its numbers; the text is only for people.
    pub(crate) fn note(&mut self, numbers: &[u64], text: impl FnOnce() -> String) {
        for &number in numbers {
            self.mix(number);
        }
        if self.prints {
            println!("{:>7} {:>8} ms  {}", self.step, self.now_ms, text());
        }
    }

    /// Notes something by how it prints.
    pub(crate) fn debug(&mut self, what: &str, value: &impl fmt::Debug) {
        use std::fmt::Write as _;
        // Writing into the hash cannot fail.
        let _ = write!(Hashing(self), "{what}{value:?}");
        if self.prints {
            println!("{:>7} {:>8} ms  {what} {value:?}", self.step, self.now_ms);
        }
    }

    /// Notes bytes on a link.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
        for &byte in words.remainder() {
            self.mix(u64::from(byte));
        }
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23);
    }
}

struct Hashing<'a>(&'a mut Trace);

impl fmt::Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.bytes(text.as_bytes());
        Ok(())
    }
}
