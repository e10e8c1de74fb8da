//! Received `QoS` 2 messages between PUBREC and PUBCOMP.

use whimbrel_session::mutant;

use super::obligation::{Debt, InboundKey, OnCommit};
use super::session::InboundRelease;
use super::source::Source;
use super::{Env, Shard};
use crate::effects::Hop;
use crate::{DropCause, Message, MsgId, QueueId, Record, SessionKey, SessionRef, ShardId};

impl Shard {
    /// Every target has the message: PUBCOMP as soon as PUBREL is there.
    pub(super) fn inbound_routed(&mut self, env: Env<'_>, key: InboundKey) {
        let InboundKey {
            session,
            packet_id,
            queue,
            message,
        } = key;
        let inbound = self
            .session_mut(session)
            .and_then(|found| found.rare.get_mut()?.inbound.get_mut(&packet_id))
            .filter(|inbound| inbound.id == message);
        let Some(inbound) = inbound else {
            // A will, or the session has ended: nobody will release it.
            return self.append_released(queue, packet_id, message);
        };
        inbound.routed = true;
        if let Some(release) = inbound.release.take() {
            self.release_inbound(env, session, packet_id, release);
        }
    }

    /// Routes a will that is recorded as a message of its own.
    pub(super) fn route_will(&mut self, env: Env<'_>, key: InboundKey, message: &Message) {
        self.route_taken_over(env, key, message, Debt::Inbound(key));
    }

    /// Routes a message that was taken over: again, if its broker has stopped in between.
    pub(super) fn route_taken_over(
        &mut self,
        env: Env<'_>,
        key: InboundKey,
        message: &Message,
        debt: Debt,
    ) {
        if message.is_expired(env.now.wall) && self.commits.has_journal() {
            // [MQTT-3.3.2-5]; the handshake goes on [MQTT-4.3.3-13].
            self.stats.count_drop(DropCause::Expired);
            return self.inbound_routed(env, key);
        }
        let matched = self.matches(env, message.topic());
        let publisher = SessionRef {
            shard: self.id,
            key: key.session,
        };
        let mut buffers = self.take_buffers();
        let mut source = Source::of_message(message, env.now.wall, &mut buffers);
        self.route_for(
            env,
            &mut source,
            &matched,
            Some(publisher),
            Some(debt),
            false,
        );
        self.keep_buffers(buffers);
    }

    /// Records that a message which was taken over is with everybody, and released.
    pub(super) fn append_released(
        &mut self,
        queue: Option<QueueId>,
        packet_id: u16,
        message: MsgId,
    ) {
        let Some(session) = queue else {
            return;
        };
        self.append(|| Record::InboundReleased {
            session,
            packet_id,
            message,
        });
        // Only what was routed by an earlier start is remembered at its targets.
        if self.known.remove(&message).is_some() {
            for shard in (0..self.config.shards).filter_map(ShardId::new) {
                if shard != self.id {
                    self.send(shard, Hop::Released { message });
                }
            }
        }
    }

    /// PUBREL is there: PUBCOMP as soon as every target has the message, and that is recorded.
    pub(super) fn release_inbound(
        &mut self,
        env: Env<'_>,
        session: SessionKey,
        packet_id: u16,
        release: InboundRelease,
    ) {
        let Some(found) = self.session_mut(session) else {
            return;
        };
        let rare = found.rare.get_mut();
        match rare.and_then(|rare| rare.inbound.get_mut(&packet_id)) {
            Some(inbound) if !inbound.routed => {
                // An earlier PUBREL came on a connection that is gone.
                inbound.release = Some(release);
            }
            Some(inbound) => {
                let (queue, message) = (inbound.queue, inbound.id);
                if let Some(rare) = found.rare.get_mut() {
                    rare.inbound.remove(&packet_id);
                }
                self.append_released(queue, packet_id, message);
                let InboundRelease { connection, token } = release;
                let then = OnCommit::Acknowledge { connection, token };
                if mutant!(PubCompBeforeRecord) {
                    return self.committed(env, then);
                }
                self.after_commit(env, then);
            }
            None => {
                let recorded = found.is_durable();
                let InboundRelease { connection, token } = release;
                let then = OnCommit::Acknowledge { connection, token };
                if recorded && !mutant!(RepeatedPubRelAtOnce) {
                    // A repeated PUBREL: the record that the first one asked for may still wait.
                    self.after_commit(env, then);
                } else {
                    self.committed(env, then);
                }
            }
        }
    }
}
