//! Settling: acknowledgements leave when what they promise is done.

use whimbrel_session::codec::ReasonCode;
use whimbrel_session::{AckToken, ServerConnection, UsageError};

use super::connection::{Phase, WaitsFor};
use super::obligation::{Debt, OnCommit, Settled, SubscribeAnswer, SubscribeDebt};
use super::session::Inflight;
use super::{Env, Shard};
use crate::effects::{CloseReason, LocalOutcome, ObligationId};
use crate::{ConnectionKey, DropCause};

impl Shard {
    /// Counts one answer to an obligation of this shard.
    pub(super) fn fulfil(&mut self, env: Env<'_>, obligation: ObligationId, reason: ReasonCode) {
        if let Some(Settled { debt, reason }) = self.obligations.fulfil(obligation, reason) {
            self.pay(env, debt, reason);
        }
    }

    /// Pays a debt: the peer hears the outcome.
    pub(super) fn pay(&mut self, env: Env<'_>, debt: Debt, reason: ReasonCode) {
        match debt {
            Debt::Publisher { connection, token } => {
                self.acknowledge(env, connection, token, reason);
            }
            Debt::Local {
                connection,
                request,
            } => self.effects.local.push(LocalOutcome {
                connection,
                request,
                reasons: vec![reason],
            }),
            Debt::Subscribe(subscribe) => self.subscribed(env, subscribe),
            Debt::Inbound(key) => {
                if reason.is_error() {
                    // A will that a full queue refused: nobody can be told.
                    self.stats.count_drop(DropCause::QueueFull);
                }
                self.inbound_routed(env, key);
            }
        }
    }

    /// Runs what waited for a record.
    pub(super) fn committed(&mut self, env: Env<'_>, ready: OnCommit) {
        match ready {
            OnCommit::Accept(connection) => self.accept(env, connection),
            OnCommit::Fulfil(obligation) => self.fulfil(env, obligation, ReasonCode::Success),
            OnCommit::Stored { to, obligation } => {
                self.answer(env, to, obligation, ReasonCode::Success);
            }
            OnCommit::Acknowledge { connection, token } => {
                self.acknowledge(env, connection, token, ReasonCode::Success);
            }
            OnCommit::Unsubscribed {
                connection,
                answer,
                codes,
            } => {
                let acknowledge = ServerConnection::ack_unsubscribe;
                self.answer_filters(env, connection, answer, codes, acknowledge);
            }
            OnCommit::RouteInbound(route) => self.route_inbound(env, route),
            OnCommit::RouteBehind(route) => self.route_behind(env, route),
            OnCommit::Prepared {
                connection,
                packet_id,
            } => self.prepared(env, connection, packet_id),
            OnCommit::GroupMessage { group, sequence } => {
                self.group_message_committed(env, group, sequence);
            }
            OnCommit::RouteWill { key, message } => self.route_will(env, key, &message),
        }
    }

    /// Sends the SUBACK, then starts the retained scans that go with it.
    pub(super) fn subscribed(&mut self, env: Env<'_>, debt: SubscribeDebt) {
        let SubscribeDebt {
            connection: key,
            answer,
            codes,
            scans,
        } = debt;
        self.answer_filters(env, key, answer, codes, ServerConnection::ack_subscribe);
        if let Some(session) = self.connection(key).map(|connection| connection.session) {
            self.scan_later(session, scans);
        }
        self.refill(env, key);
    }

    /// Answers a SUBSCRIBE or UNSUBSCRIBE with a code for each of its filters.
    fn answer_filters(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        answer: SubscribeAnswer,
        codes: Vec<ReasonCode>,
        acknowledge: AckFilters,
    ) {
        match answer {
            SubscribeAnswer::Wire(token) => {
                if let Some(connection) = self.running_mut(key)
                    && let Some(wire) = connection.wire()
                {
                    let written = acknowledge(wire, token, &codes);
                    debug_assert!(written.is_ok(), "{written:?}");
                    if wire.is_closing() {
                        // The client takes no answer of its size, and waits in vain [MQTT-3.1.2-24].
                        return self.close(env, key, CloseReason::ProtocolError);
                    }
                    self.wake(key);
                    self.unblock(env, key, WaitsFor::Client);
                }
            }
            SubscribeAnswer::Local(request) => self.effects.local.push(LocalOutcome {
                connection: key,
                request,
                reasons: codes,
            }),
        }
    }

    /// Writes PUBACK, PUBREC, PUBREL or PUBCOMP, whichever the token stands for.
    fn acknowledge(
        &mut self,
        env: Env<'_>,
        key: ConnectionKey,
        token: AckToken,
        reason: ReasonCode,
    ) {
        let Some(connection) = self.running_mut(key) else {
            return;
        };
        let Some(wire) = connection.wire() else {
            return;
        };
        if reason == ReasonCode::QuotaExceeded && !wire.version().is_v5() {
            // 3.x has no way to say no: the publisher keeps the message and sends it again
            // when it reconnects [DESIGN §5].
            wire.withhold(token);
        } else {
            // Hooks may give any code.
            let reason = if reason.allowed_in(token.acknowledged_by()) {
                reason
            } else {
                ReasonCode::UnspecifiedError
            };
            let written = wire.ack(token, reason);
            debug_assert!(written.is_ok(), "{written:?}");
        }
        self.wake(key);
        self.unblock(env, key, WaitsFor::Client);
    }

    pub(super) fn running_mut(
        &mut self,
        key: ConnectionKey,
    ) -> Option<&mut super::connection::Connection> {
        self.connection_mut(key)
            .filter(|connection| connection.phase == Phase::Running)
    }
}

/// How the codes for filters are sent: as SUBACK or as UNSUBACK.
type AckFilters =
    fn(&mut ServerConnection<Inflight>, AckToken, &[ReasonCode]) -> Result<(), UsageError>;
