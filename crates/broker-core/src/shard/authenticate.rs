//! A client that authenticates itself anew: its steps, and the answers of who decides on them.

use whimbrel_session::UsageError;
use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::{AckProperties, Disconnect, ReasonCode};

use super::publish::Verdict;
use super::{Env, Shard};
use crate::ConnectionKey;
use crate::effects::CloseReason;

/// The answer to a step of a client's new authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthenticationAnswer {
    /// AUTH 0x18: the client is to say more.
    Continue(Option<Bytes>),
    /// AUTH 0x00: it is who it was.
    Confirm(Option<Bytes>),
    /// The connection ends with this DISCONNECT [MQTT-4.12.1-2], or with 0x80 where a server's has no such code.
    Refuse(Box<Disconnect>),
}

impl Shard {
    /// Answers the AUTH that a gate said is [`Verdict::Pending`]. Does nothing if the connection is gone.
    pub fn answer_authentication(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        answer: AuthenticationAnswer,
    ) {
        let Some(wire) = self
            .running_mut(key)
            .and_then(super::connection::Connection::wire)
        else {
            return;
        };
        let properties = AckProperties::new();
        let written = match answer {
            AuthenticationAnswer::Continue(data) => wire.challenge(data, properties),
            AuthenticationAnswer::Confirm(data) => wire.confirm_authentication(data, properties),
            AuthenticationAnswer::Refuse(disconnect) => {
                self.disconnect_saying(env, key, *disconnect, CloseReason::NotAuthorized);
                return self.finish(env);
            }
        };
        match written {
            Ok(()) => self.wake(key),
            // Its turn was over, for instance because the time was.
            Err(UsageError::NoAuthenticationStep) => {}
            // The client accepts no AUTH of this size: it can't be authenticated.
            Err(_) => {
                let reason = ReasonCode::NotAuthorized;
                self.disconnect_with(env, key, reason, CloseReason::NotAuthorized);
            }
        }
        self.finish(env);
    }

    /// AUTH came, and the time of the whole exchange runs from the first one.
    pub(super) fn authenticating(&mut self, env: Env<'_>, key: ConnectionKey, verdict: Verdict) {
        if let Some(disconnect) = verdict.into_disconnect() {
            return self.disconnect_saying(env, key, disconnect, CloseReason::NotAuthorized);
        }
        self.arm_connection(key);
    }
}
