//! What the trace has to say against the workspace.

use std::fmt;

/// One thing to mend: where, what is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    place: String,
    fault: String,
    mend: String,
}

impl Finding {
    pub(super) fn new(place: &str, fault: &str, mend: &str) -> Self {
        Self {
            place: place.to_owned(),
            fault: fault.to_owned(),
            mend: mend.to_owned(),
        }
    }

    /// A statement's id, or a file and its line.
    #[cfg(test)]
    pub(super) fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}\n  mend: {}", self.place, self.fault, self.mend)
    }
}
