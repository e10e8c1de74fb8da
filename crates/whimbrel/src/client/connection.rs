//! The connection of a command: made once or not at all, and why not.

use std::sync::Arc;

use whimbrel_client::codec::{ConnectReturnCode, ProtocolVersion, ReasonCode};
use whimbrel_client::{
    Client, Closed, ConnectionError, ConnectionState, DisconnectError, Established, PublishError,
    SubscribeError,
};

use super::server::{Server, ServerArguments};
use crate::failure::{Chain, Failure};

/// A client, and how to speak of its server.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    version: ProtocolVersion,
    server: String,
    has_will: bool,
    disconnect_expiry_secs: Option<u32>,
    voice: Voice,
}

/// What is told on standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice {
    is_quiet: bool,
    is_debugging: bool,
}

impl Voice {
    pub(crate) fn new(arguments: &ServerArguments) -> Self {
        Self {
            is_quiet: arguments.quiet,
            is_debugging: arguments.debug,
        }
    }

    /// With `-d`.
    pub(crate) fn debug(self, line: impl FnOnce() -> String) {
        if self.is_debugging {
            eprintln_or_nothing(&line());
        }
    }

    /// Without `--quiet`: something that is not the end.
    pub(crate) fn warn(self, line: impl FnOnce() -> String) {
        if !self.is_quiet {
            eprintln_or_nothing(&format!("whimbrel: {}", line()));
        }
    }

    /// With `--quiet` only the status is left of what went wrong at run time.
    pub(crate) fn of(self, failure: Failure) -> Failure {
        match failure {
            Failure::Usage(_) | Failure::Told(_) => failure,
            failure if self.is_quiet => Failure::Silent(failure.status()),
            failure => failure,
        }
    }
}

/// Without a standard error there is nobody to tell.
fn eprintln_or_nothing(line: &str) {
    use std::io::Write;

    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Connection {
    /// Begins to connect. Within a runtime.
    pub(crate) fn begin(arguments: &ServerArguments, server: Server) -> Result<Self, Failure> {
        let voice = Voice::new(arguments);
        let client = Client::spawn(server.options);
        let client = client.map_err(|error| Failure::Usage(Chain(&error).to_string()))?;
        voice.debug(|| format!("connecting to {} with MQTT {}", server.name, server.version));
        Ok(Self {
            client,
            version: server.version,
            server: server.name,
            has_will: server.has_will,
            disconnect_expiry_secs: arguments.disconnect_expiry_secs(),
            voice,
        })
    }

    /// Waits for the first connection. What stands in its way ends the command: whoever waits at a terminal wants to know.
    pub(crate) async fn made(&self) -> Result<Arc<Established>, Failure> {
        let mut state = self.client.state();
        loop {
            match &*state.borrow_and_update() {
                ConnectionState::Connected(established) => {
                    let established = established.clone();
                    self.voice.debug(|| describe(&established));
                    return Ok(established);
                }
                ConnectionState::Waiting { error, .. } => return Err(self.failed(error)),
                ConnectionState::Closed(closed) => return Err(self.closed(closed)),
                _ => {}
            }
            if state.changed().await.is_err() {
                return Err(self.closed(&Closed::DriverDropped));
            }
        }
    }

    /// Tells of lost connections and of new ones until there will be none, and says why.
    pub(crate) async fn watch(&self) -> Failure {
        self.watch_losses(|_| None).await
    }

    /// The same, until `is_enough` of the losses.
    pub(crate) async fn watch_losses(
        &self,
        mut is_enough: impl FnMut(&ConnectionError) -> Option<Failure>,
    ) -> Failure {
        let mut state = self.client.state();
        if let ConnectionState::Closed(closed) = &*state.borrow_and_update() {
            return self.closed(closed);
        }
        loop {
            if state.changed().await.is_err() {
                return self.closed(&Closed::DriverDropped);
            }
            match &*state.borrow_and_update() {
                ConnectionState::Closed(closed) => return self.closed(closed),
                ConnectionState::Waiting { error, delay, .. } => {
                    if let Some(failure) = is_enough(error) {
                        return failure;
                    }
                    self.voice.warn(|| {
                        format!(
                            "{}; trying again in {:.1} s",
                            self.describe(error),
                            delay.as_secs_f32()
                        )
                    });
                }
                ConnectionState::Connected(established) => {
                    self.voice.debug(|| describe(established));
                }
                _ => {}
            }
        }
    }

    /// Sends what was accepted, and DISCONNECT.
    pub(crate) async fn end(&self, how: Ending) -> Result<(), Failure> {
        self.voice.debug(|| "disconnecting".to_owned());
        let mut disconnecting = self.client.disconnect();
        if how == Ending::Interrupted && self.has_will && self.version.is_v5() {
            // As mosquitto_sub does: who is interrupted has not left by itself.
            disconnecting = disconnecting.with_will();
        }
        if let Some(seconds) = self.disconnect_expiry_secs {
            disconnecting = disconnecting.session_expiry_secs(seconds);
        }
        match disconnecting.await {
            Ok(()) | Err(DisconnectError::Closed(Closed::Disconnected)) => Ok(()),
            Err(DisconnectError::Closed(closed)) => Err(self.closed(&closed)),
            Err(error) => Err(Failure::Runtime(Chain(&error).to_string())),
        }
    }

    pub(crate) fn voice(&self) -> Voice {
        self.voice
    }

    /// Why nothing more will happen.
    pub(crate) fn closed(&self, closed: &Closed) -> Failure {
        match closed {
            Closed::Failed(error) => self.failed(error),
            closed => Failure::Runtime(closed.to_string()),
        }
    }

    pub(crate) fn not_published(&self, topic: &str, error: &PublishError) -> Failure {
        match error {
            PublishError::Closed(closed) => self.closed(closed),
            PublishError::Refused(refusal) => Failure::Status {
                line: format!(
                    "{} refused the message to {topic}: {}",
                    self.server,
                    words(refusal.reason, refusal.reason_string.as_deref())
                ),
                status: refusal.reason.as_u8(),
            },
            error => Failure::Runtime(format!("cannot publish to {topic}: {}", Chain(error))),
        }
    }

    pub(crate) fn not_subscribed(&self, error: &SubscribeError) -> Failure {
        match error {
            SubscribeError::Closed(closed) => self.closed(closed),
            SubscribeError::Refused { codes } => {
                let words: Vec<_> = codes.iter().map(|code| words(*code, None)).collect();
                Failure::Runtime(format!(
                    "{} refused every subscription: {}",
                    self.server,
                    words.join(", ")
                ))
            }
            error => Failure::Runtime(format!("cannot subscribe: {}", Chain(error))),
        }
    }

    fn failed(&self, error: &ConnectionError) -> Failure {
        let status = match error {
            ConnectionError::Refused(refusal) if self.version.is_v5() => refusal.reason.as_u8(),
            ConnectionError::Refused(refusal) => ConnectReturnCode::from_reason(refusal.reason)
                .unwrap_or(ConnectReturnCode::ServerUnavailable)
                .as_u8(),
            _ => 1,
        };
        Failure::Status {
            line: self.describe(error),
            status,
        }
    }

    fn describe(&self, error: &ConnectionError) -> String {
        let server = &self.server;
        match error {
            // It says where, and what to look at.
            ConnectionError::Unreachable(source) => Chain(&**source).to_string(),
            ConnectionError::Refused(refusal) => {
                let words = words(refusal.reason, refusal.reason_string.as_deref());
                let mut line = format!("{server} refused the connection: {words}");
                if let Some(advice) = advice(refusal.reason) {
                    line.push_str("; ");
                    line.push_str(advice);
                }
                if let Some(other) = &refusal.server_reference {
                    line.push_str("; it names ");
                    line.push_str(other);
                }
                line
            }
            ConnectionError::Disconnected(refusal) => format!(
                "{server} ended the connection: {}",
                words(refusal.reason, refusal.reason_string.as_deref())
            ),
            error => format!("{server}: {}", Chain(error)),
        }
    }
}

/// Why a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is done.
    Done,
    /// By a signal.
    Interrupted,
}

fn describe(established: &Established) -> String {
    let session = if established.session_present() {
        "the session it had"
    } else {
        "a new session"
    };
    match established.assigned_client_id() {
        Some(id) => format!("connected, client id {id}, {session}"),
        None => format!("connected, {session}"),
    }
}

/// A reason code in words: `not authorized (0x87)`, with the server's own where it has some.
pub(crate) fn words(reason: ReasonCode, text: Option<&str>) -> String {
    let mut words = String::new();
    for character in format!("{reason:?}").chars() {
        if character.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    let code = reason.as_u8();
    match text {
        // It is printed to a terminal.
        Some(text) => format!("{words} ({code:#04x}): {}", text.escape_debug()),
        None => format!("{words} ({code:#04x})"),
    }
}

fn advice(reason: ReasonCode) -> Option<&'static str> {
    Some(match reason {
        ReasonCode::NotAuthorized | ReasonCode::BadUserNameOrPassword => {
            "check the user name and password, -u and -P"
        }
        ReasonCode::ClientIdentifierNotValid => "choose another client id with -i",
        ReasonCode::UnsupportedProtocolVersion => "choose another version with -V",
        ReasonCode::ServerUnavailable | ReasonCode::ServerBusy => "try again later",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_in_words_with_their_number() {
        assert_eq!(
            words(ReasonCode::NotAuthorized, None),
            "not authorized (0x87)"
        );
        assert_eq!(
            words(ReasonCode::ServerBusy, Some("at \x1b[1m noon")),
            "server busy (0x89): at \\u{1b}[1m noon"
        );
    }
}
