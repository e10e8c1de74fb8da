//! [`Failure`]: why the program ends without having done what it was asked, in one line.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;

/// One line for a person, and the exit status for a script.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line can't be meant: exit status 2.
    Usage(String),
    /// It was tried and did not work: exit status 1.
    Runtime(String),
    /// There is no broker to talk to: exit status 3.
    Unreachable(String),
    /// It was tried, and what the server said of it is the exit status.
    Status {
        /// What to tell.
        line: String,
        /// The exit status, which is not 0.
        status: u8,
    },
    /// Like the others, but the status alone tells it: `--quiet` was asked for.
    Silent(u8),
    /// Not a failure: `--help` or `--version` was asked for.
    Told(clap::Error),
}

impl Failure {
    /// clap's message, which has several paragraphs, in one line.
    pub(crate) fn from_clap(error: clap::Error) -> Self {
        if !error.use_stderr() {
            return Self::Told(error);
        }
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::Usage(
                "a command is missing; try whimbrel serve, or whimbrel --help".to_owned(),
            );
        }
        let rendered = error.render().to_string();
        let paragraphs = rendered
            .split("\n\n")
            .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|paragraph| !paragraph.is_empty() && !paragraph.starts_with("Usage:"))
            .map(|paragraph| paragraph.replace("For more information, try", "for more try"));
        let line = paragraphs.collect::<Vec<_>>().join("; ");
        let line = line.strip_prefix("error: ").unwrap_or(&line);
        Self::Usage(line.trim_end_matches('.').to_owned())
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Told(_) => 0,
            Self::Runtime(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Status { status, .. } | Self::Silent(status) => *status,
        }
    }

    /// With the statuses of mosquitto_pub and the like, for whom a command line that can't be meant is 1 too.
    pub(crate) fn into_that_of_a_client(self) -> Self {
        match self {
            Self::Usage(line) => Self::Runtime(line),
            failure => failure,
        }
    }

    /// Tells the user, and says how the process is to exit.
    pub(crate) fn report(self) -> ExitCode {
        let status = self.status();
        let line = match self {
            Self::Usage(line) | Self::Runtime(line) | Self::Unreachable(line) => line,
            Self::Status { line, .. } => line,
            Self::Silent(status) => return ExitCode::from(status),
            Self::Told(help) => {
                return match help.print() {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(_) => ExitCode::FAILURE,
                };
            }
        };
        // Without a standard error the status alone has to tell it.
        let _ = writeln!(std::io::stderr(), "whimbrel: {line}");
        ExitCode::from(status)
    }
}

impl fmt::Display for Failure {
    /// The line, without who says it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(line) | Self::Runtime(line) | Self::Unreachable(line) => f.write_str(line),
            Self::Status { line, .. } => f.write_str(line),
            Self::Silent(status) => write!(f, "exit status {status}"),
            Self::Told(help) => write!(f, "{help}"),
        }
    }
}

/// An error with everything behind it, in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
