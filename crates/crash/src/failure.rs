//! [`Failure`]: why a judge could not do its work, as against what it has found.

use std::io;

use thiserror::Error;

use crate::link::LinkError;

/// Why nothing can be said about the broker.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The command of the broker is empty, or lacks `{port}` or `{dir}`.
    #[error("the broker's command needs a program, {{port}} and {{dir}}: '{0}'")]
    Command(String),
    /// A program could not be started.
    #[error("could not start '{program}'")]
    Start {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The broker ended instead of listening, or did not listen in time. Its last words are in the log that is named.
    #[error("the broker does not listen: {why}; its log, {log}, ends with:\n{tail}")]
    NotListening {
        /// What it did.
        why: String,
        /// The file.
        log: String,
        /// The end of the file.
        tail: String,
    },
    /// The judge's own client could not do what it had to.
    #[error("{doing}")]
    Client {
        /// What it was about to do.
        doing: String,
        /// What came between.
        #[source]
        source: LinkError,
    },
    /// A file or process of the judge.
    #[error("{doing}")]
    System {
        /// What was to be done.
        doing: String,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
    /// Something that is not an error of the system.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }

    pub(crate) fn client(doing: impl Into<String>) -> impl FnOnce(LinkError) -> Self {
        let doing = doing.into();
        move |source| Self::Client { doing, source }
    }

    /// The error with all of its causes, in one line.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
