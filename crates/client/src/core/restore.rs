//! What an outbox held when it was opened, put back.

use whimbrel_session::codec::bytes::Bytes;
use whimbrel_session::codec::topic::TopicNameBuf;
use whimbrel_session::codec::{MessageProperties, QoS};
use whimbrel_session::{Exchange, SessionParts, SessionState, Tick};

use super::journal::{Journal, unix_ms};
use super::{Core, Publication, PublicationKey};
use crate::OptionsError;
use crate::outbox::{Accepted, Outbox, Outstanding, Restored};

impl Core {
    /// Goes on with the session of an earlier process.
    pub(crate) fn restore(
        &mut self,
        now: Tick,
        outbox: Outbox,
        restored: Restored,
    ) -> Result<(), OptionsError> {
        self.journal = Journal::new(outbox, &restored);
        let Restored {
            unsent, session, ..
        } = restored;
        let SessionParts {
            next_packet_id,
            exchanges,
            held,
        } = session;
        let exchanges = exchanges.into_iter().map(|exchange| Exchange {
            packet_id: exchange.packet_id,
            stage: exchange.stage,
            item: match exchange.item {
                Outstanding::Message(accepted) => self.put_back(now, accepted),
                Outstanding::Taken { sequence } => self.put_back(now, taken(sequence)),
            },
        });
        let exchanges = exchanges.collect();
        self.session = Some(SessionState::from_parts(SessionParts {
            next_packet_id,
            exchanges,
            held,
        })?);
        for accepted in unsent {
            let key = self.put_back(now, accepted);
            self.queue.push_back(key);
        }
        Ok(())
    }

    /// Takes a message whose receipt was of an earlier process.
    fn put_back(&mut self, now: Tick, accepted: Accepted) -> PublicationKey {
        let expires_at = accepted.expires_at_unix_ms.map(|due| {
            let left_ms = due.saturating_sub(unix_ms());
            now.saturating_add(left_ms)
        });
        let publication = Publication {
            topic: accepted.topic,
            payload: accepted.payload,
            properties: accepted.properties,
            qos: accepted.qos,
            retain: accepted.retain,
            expires_at,
            sequence: Some(accepted.sequence),
        };
        self.admission.take_restored(publication.cost());
        let key = self.publications.insert(publication);
        self.publications.abandon(key);
        key
    }
}

/// A message whose body is forgotten, since the server has it: only its exchange goes on.
fn taken(sequence: u64) -> Accepted {
    Accepted {
        sequence,
        qos: QoS::ExactlyOnce,
        retain: false,
        expires_at_unix_ms: None,
        topic: TopicNameBuf::try_from("-").expect("a topic name"),
        properties: MessageProperties::new(),
        payload: Bytes::new(),
    }
}
