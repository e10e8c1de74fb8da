//! [`Journal`]: what is kept of a client's session beyond the process, if anything is.

use whimbrel_session::codec::PacketId;

use super::publications::Publication;
use crate::OutboxFailure;

/// The client's outbox, with what is to be written before the next bytes leave. Without one it does nothing.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    #[cfg(feature = "outbox")]
    kept: Option<Kept>,
}

#[cfg(feature = "outbox")]
#[derive(Debug)]
struct Kept {
    outbox: crate::outbox::Outbox,
    records: Vec<crate::outbox::Record>,
    /// Of the next message.
    next_sequence: u64,
    /// Why nothing is written any more.
    failure: Option<OutboxFailure>,
}

#[cfg(feature = "outbox")]
mod kept {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use whimbrel_session::Tick;
    use whimbrel_session::codec::QoS;

    use super::{Journal, Kept, OutboxFailure, Publication};
    use crate::outbox::{Accepted, Outbox, Record, Restored};

    impl Journal {
        pub(crate) fn new(outbox: Outbox, restored: &Restored) -> Self {
            Self {
                kept: Some(Kept {
                    outbox,
                    records: Vec::new(),
                    next_sequence: restored.next_sequence,
                    failure: None,
                }),
            }
        }

        /// Writes down a message that is accepted, and says under which number; `None` where nothing is kept of it.
        ///
        /// # Errors
        ///
        /// Why it is not kept; nothing is accepted then.
        pub(crate) fn accept(
            &mut self,
            now: Tick,
            publication: &Publication,
        ) -> Result<Option<u64>, OutboxFailure> {
            let Some(kept) = self
                .kept
                .as_mut()
                .filter(|_| publication.qos > QoS::AtMostOnce)
            else {
                return Ok(None);
            };
            let sequence = kept.next_sequence;
            let expires_at = publication.expires_at.map(|due| {
                let left_ms = due.0.saturating_sub(now.0);
                unix_ms().saturating_add(left_ms)
            });
            let accepted = accepted(sequence, publication, expires_at);
            self.flush()?;
            if let Some(kept) = &mut self.kept {
                let appended = kept.outbox.append(&[Record::Accepted(accepted)]);
                appended.map_err(|error| Arc::new(error) as OutboxFailure)?;
                kept.sync()?;
                kept.next_sequence = sequence + 1;
            }
            Ok(Some(sequence))
        }

        /// Whether a message has to wait for others to be done with.
        pub(crate) fn is_full_for(&self, publication: &Publication) -> bool {
            let kept = self
                .kept
                .as_ref()
                .filter(|_| publication.qos > QoS::AtMostOnce);
            kept.is_some_and(|kept| {
                let message = accepted(0, publication, Some(0));
                kept.outbox.live_bytes() > 0 && !kept.outbox.has_room_for(&message)
            })
        }

        pub(crate) fn note(&mut self, step: super::Step) {
            let Some(kept) = &mut self.kept else {
                return;
            };
            kept.records.push(match step {
                super::Step::Sent(sequence, packet_id) => Record::Sent {
                    sequence,
                    packet_id,
                },
                super::Step::Received(packet_id) => Record::Received { packet_id },
                super::Step::Done(sequence) => Record::Done { sequence },
                super::Step::Held(packet_id) => Record::Held { packet_id },
                super::Step::Released(packet_id) => Record::Released { packet_id },
                super::Step::SessionBegan => Record::SessionBegan,
            });
        }

        /// Writes what was noted. Nothing that depends on it may leave before.
        ///
        /// # Errors
        ///
        /// Why it could not be written, from then on each time.
        pub(crate) fn flush(&mut self) -> Result<(), OutboxFailure> {
            let Some(kept) = &mut self.kept else {
                return Ok(());
            };
            if let Some(failure) = &kept.failure {
                return Err(failure.clone());
            }
            if kept.records.is_empty() {
                return Ok(());
            }
            let written = kept.write();
            kept.records.clear();
            if let Err(failure) = &written {
                kept.failure = Some(failure.clone());
            }
            written
        }
    }

    impl Kept {
        fn write(&mut self) -> Result<(), OutboxFailure> {
            for batch in self.records.chunks(BATCH_MAX) {
                let appended = self.outbox.append(batch);
                appended.map_err(|error| Arc::new(error) as OutboxFailure)?;
            }
            self.sync()?;
            // A compaction that fails leaves the file as it was, and is tried again.
            let _ = self.outbox.maintain();
            Ok(())
        }

        fn sync(&mut self) -> Result<(), OutboxFailure> {
            let synced = self.outbox.sync();
            synced.map_err(|error| Arc::new(error) as OutboxFailure)
        }
    }

    fn accepted(sequence: u64, publication: &Publication, expires_at: Option<u64>) -> Accepted {
        Accepted {
            sequence,
            qos: publication.qos,
            retain: publication.retain,
            expires_at_unix_ms: expires_at.filter(|_| publication.expires_at.is_some()),
            topic: publication.topic.clone(),
            properties: publication.properties.clone(),
            payload: publication.payload.clone(),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn unix_ms() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Records in one write.
    const BATCH_MAX: usize = 1_024;
}

#[cfg(feature = "outbox")]
pub(crate) use self::kept::unix_ms;

/// What happens to a session, as the journal has it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "outbox"),
    expect(dead_code, reason = "there is nothing to note it in")
)]
pub(crate) enum Step {
    /// A message gets its packet id.
    Sent(u64, PacketId),
    /// PUBREC came.
    Received(PacketId),
    /// A message is done with.
    Done(u64),
    /// A QoS 2 message of the server was taken.
    Held(PacketId),
    /// The server has released it.
    Released(PacketId),
    /// The server has no session.
    SessionBegan,
}

#[cfg(not(feature = "outbox"))]
impl Journal {
    pub(crate) fn accept(
        &mut self,
        _now: whimbrel_session::Tick,
        _publication: &Publication,
    ) -> Result<Option<u64>, OutboxFailure> {
        Ok(None)
    }

    pub(crate) fn is_full_for(&self, _publication: &Publication) -> bool {
        false
    }

    pub(crate) fn note(&mut self, _step: Step) {}

    pub(crate) fn flush(&mut self) -> Result<(), OutboxFailure> {
        Ok(())
    }
}
