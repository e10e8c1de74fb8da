//! Received `QoS` 2 messages between PUBREC and PUBCOMP.

use whimbrel_session::mutant;

use super::obligation::OnCommit;
use super::session::InboundRelease;
use super::{Env, Shard};
use crate::{OldRecord, SessionKey};

impl Shard {
    /// Every target has the message: PUBCOMP as soon as PUBREL is there.
    pub(super) fn inbound_routed(&mut self, env: Env<'_>, session: SessionKey, packet_id: u16) {
        let Some(found) = self.session_mut(session) else {
            return;
        };
        let Some(inbound) = found.inbound.get_mut(&packet_id) else {
            return;
        };
        inbound.routed = true;
        if let Some(release) = inbound.release.take() {
            self.release_inbound(env, session, packet_id, release);
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
        let client_id = found.client_id.clone();
        match found.inbound.get_mut(&packet_id) {
            Some(inbound) if !inbound.routed => {
                // An earlier PUBREL came on a connection that is gone.
                inbound.release = Some(release);
            }
            Some(inbound) => {
                let message = inbound.id;
                found.inbound.remove(&packet_id);
                self.append(|| OldRecord::InboundReleased {
                    client_id,
                    packet_id,
                    message,
                });
                let InboundRelease { connection, token } = release;
                let then = OnCommit::Acknowledge { connection, token };
                if mutant!(PubCompBeforeRecord) {
                    return self.committed(env, then);
                }
                self.after_commit(env, then);
            }
            None => {
                let recorded = found.recorded;
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
