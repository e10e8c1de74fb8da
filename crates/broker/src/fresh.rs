//! [`Fresh`]: messages of a batch that is not committed yet.

use whimbrel_broker_core::{Journal, JournalError, Position, QueueId, Record, StoredMessage};

/// Messages of a batch by place, so that loads can be answered before it is committed.
#[derive(Debug)]
pub(crate) struct Fresh<'a>(Vec<(Position, &'a Record)>);

impl<'a> Fresh<'a> {
    pub(crate) fn new(records: &'a [Record]) -> Self {
        let enqueued = records.iter().filter_map(|record| match record {
            Record::Enqueued { position, .. } => Some((*position, record)),
            _ => None,
        });
        let mut enqueued: Vec<_> = enqueued.collect();
        // Already in order, but for the shards.
        enqueued.sort_by_key(|&(position, _)| position);
        Self(enqueued)
    }

    /// Messages of a queue, from the batch or the journal, in the order of `positions`.
    ///
    /// # Errors
    ///
    /// Those of [`Journal::read`]; [`JournalError::Damaged`] also where a message is in neither.
    pub(crate) fn read(
        &self,
        journal: &mut dyn Journal,
        queue: QueueId,
        positions: &[Position],
    ) -> Result<Vec<StoredMessage>, JournalError> {
        let places = positions.iter().copied();
        let committed: Vec<_> = places.filter(|&at| self.find(at).is_none()).collect();
        let read = match &*committed {
            [] => Vec::new(),
            committed => journal.read(queue, committed)?,
        };
        let mut read = read.into_iter();
        let place = |&position: &Position| {
            let found = match self.find(position) {
                Some(record) => held_by(queue, record),
                None => read.next(),
            };
            found.ok_or_else(|| JournalError::Damaged {
                detail: format!(
                    "queue {} does not hold a message at {}",
                    queue.get(),
                    position.get()
                ),
            })
        };
        positions.iter().map(place).collect()
    }

    fn find(&self, position: Position) -> Option<&'a Record> {
        let found = self.0.binary_search_by_key(&position, |&(at, _)| at);
        found.ok().map(|index| self.0[index].1)
    }
}

/// The message of a record, as `queue` holds it.
fn held_by(queue: QueueId, record: &Record) -> Option<StoredMessage> {
    let Record::Enqueued {
        position,
        message,
        holders,
    } = record
    else {
        return None;
    };
    let holder = holders.iter().find(|holder| holder.queue == queue)?;
    Some(StoredMessage {
        position: *position,
        message: message.clone(),
        form: holder.form,
    })
}

#[cfg(test)]
mod tests {
    use whimbrel_broker_core::session::codec::QoS;
    use whimbrel_broker_core::session::codec::topic::TopicName;
    use whimbrel_broker_core::{
        Batch, Form, Holder, Holders, JournalFigures, Maintenance, Message, MessageParts, MsgId,
        Replay, Replayed, UnixMillis,
    };

    use super::*;

    /// Has every message at a place below 100.
    #[derive(Debug)]
    struct Old;

    impl Journal for Old {
        fn incarnation(&self) -> u32 {
            1
        }

        fn replay(
            &mut self,
            _: &mut dyn FnMut(Replayed) -> Result<(), JournalError>,
        ) -> Result<Replay, JournalError> {
            Ok(Replay::default())
        }

        fn commit(&mut self, _: &Batch) -> Result<(), JournalError> {
            Ok(())
        }

        fn read(
            &mut self,
            _: QueueId,
            positions: &[Position],
        ) -> Result<Vec<StoredMessage>, JournalError> {
            assert!(!positions.is_empty(), "it is not asked for nothing");
            let positions = positions.iter().filter(|position| position.get() < 100);
            Ok(positions
                .map(|&position| StoredMessage {
                    position,
                    message: message(position.get()),
                    form: form(QoS::AtLeastOnce),
                })
                .collect())
        }

        fn maintain(&mut self) -> Result<Maintenance, JournalError> {
            Ok(Maintenance::Done)
        }

        fn is_full(&mut self) -> bool {
            false
        }

        fn figures(&self) -> JournalFigures {
            JournalFigures::default()
        }
    }

    fn queue(number: u64) -> QueueId {
        QueueId::new(number).expect("not 0")
    }

    fn place(number: u64) -> Position {
        Position::new(number).expect("not 0")
    }

    fn form(qos: QoS) -> Form {
        Form::new(qos, false, &[])
    }

    fn message(number: u64) -> Message {
        let properties = whimbrel_broker_core::session::codec::PublishProperties::default();
        Message::new(&MessageParts {
            id: MsgId {
                node: 0,
                incarnation: 1,
                sequence: number,
            },
            topic: TopicName::new("a").expect("valid"),
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at: UnixMillis::NEVER,
            properties,
            payload: &number.to_be_bytes(),
        })
    }

    fn enqueued(number: u64) -> Record {
        let holders = [
            Holder {
                queue: queue(1),
                form: form(QoS::AtLeastOnce),
            },
            Holder {
                queue: queue(2),
                form: form(QoS::ExactlyOnce),
            },
        ];
        Record::Enqueued {
            position: place(number),
            message: message(number),
            holders: Holders::of(&holders),
        }
    }

    #[test]
    fn messages_come_in_order_from_the_journal_and_the_batch_as_the_queue_holds_them() {
        // Places of two shards.
        let records = [
            enqueued(192),
            Record::Retained,
            enqueued(256),
            enqueued(129),
        ];
        let fresh = Fresh::new(&records);
        let positions = [place(64), place(65), place(129), place(192), place(256)];
        let read = fresh.read(&mut Old, queue(2), &positions).expect("there");
        let found: Vec<_> = read.iter().map(|stored| stored.position).collect();
        assert_eq!(found, positions);
        for stored in &read {
            let number = stored.position.get();
            assert_eq!(&stored.message.payload()[..], number.to_be_bytes());
            let qos = if number < 100 {
                QoS::AtLeastOnce
            } else {
                QoS::ExactlyOnce
            };
            assert_eq!(stored.form.qos, qos);
        }
    }

    #[test]
    fn what_only_the_batch_has_does_not_ask_the_journal() {
        let records = [enqueued(192)];
        let read = Fresh::new(&records).read(&mut Old, queue(1), &[place(192)]);
        assert_eq!(read.expect("there").len(), 1);
    }

    #[test]
    fn a_message_that_is_nowhere_or_another_queues_is_damage() {
        let records = [enqueued(192)];
        let fresh = Fresh::new(&records);
        for (number, position) in [(1, 200), (3, 192)] {
            let read = fresh.read(&mut Old, queue(number), &[place(position)]);
            assert!(
                matches!(read, Err(JournalError::Damaged { .. })),
                "{read:?}"
            );
        }
    }
}
