//! The serial form of a window.

use whimbrel_session::Stage;

use super::reader::Reader;
use super::{HAS_IDS, RETAIN, RecordError, VERSION, flag};
use crate::holders::put_varint;
use crate::record::{ExchangeRecord, Form, Position, QueueId, WindowRecord};

/// ```text
/// window   = version, queue, cursor, next packet id, exchange ...
/// exchange = flags (byte: bits 0-1 QoS, 2 RETAIN, 3 identifiers, 4 group, bits 5-6 stage, 7 no position),
///            packet id, [position less that of the exchange before (zigzag)], [group], [rank],
///            [count, identifier ...]
/// ```
impl WindowRecord {
    /// Appends the serial form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(out, self.session.get());
        put_varint(out, self.cursor.get());
        put_varint(out, u64::from(self.next_packet_id.get()));
        let mut previous = self.cursor.get();
        for exchange in &self.exchanges {
            exchange.encode(previous, out);
            previous = exchange.position.map_or(previous, Position::get);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// [`RecordError`] where it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes)?;
        let session = reader.queue()?;
        let cursor = reader.position()?;
        let next_packet_id = reader.packet_id()?;
        let mut exchanges = Vec::new();
        let mut previous = cursor.get();
        while reader.at() < bytes.len() {
            let exchange = exchange(&mut reader, previous)?;
            previous = exchange.position.map_or(previous, Position::get);
            exchanges.push(exchange);
        }
        reader.finish()?;
        Ok(Self {
            session,
            cursor,
            next_packet_id,
            exchanges,
        })
    }
}

impl ExchangeRecord {
    fn encode(&self, previous: u64, out: &mut Vec<u8>) {
        let (stage, rank) = match self.stage {
            Stage::AwaitPubAck => (AWAIT_PUBACK, None),
            Stage::AwaitPubRec => (AWAIT_PUBREC, None),
            Stage::AwaitPubComp { rank } => (AWAIT_PUBCOMP, Some(rank)),
        };
        let ids = self.form.subscription_ids();
        out.push(
            self.form.qos.bits()
                | flag(self.form.retain, RETAIN)
                | flag(!ids.is_empty(), HAS_IDS)
                | flag(self.group.is_some(), GROUP)
                | flag(self.position.is_none(), NO_POSITION)
                | (stage << STAGE_SHIFT),
        );
        put_varint(out, u64::from(self.packet_id.get()));
        if let Some(position) = self.position {
            let difference = position.get().wrapping_sub(previous).cast_signed();
            let zigzag = ((difference << 1) ^ (difference >> 63)).cast_unsigned();
            put_varint(out, zigzag);
        }
        if let Some(group) = self.group {
            put_varint(out, group.get());
        }
        if let Some(rank) = rank {
            put_varint(out, rank);
        }
        if !ids.is_empty() {
            put_varint(out, ids.len() as u64);
            for id in ids {
                put_varint(out, u64::from(id.get()));
            }
        }
    }
}

fn exchange(reader: &mut Reader<'_>, previous: u64) -> Result<ExchangeRecord, RecordError> {
    let at = reader.at();
    let flags = reader.byte()?;
    let malformed = reader.malformed_since(at);
    let packet_id = reader.packet_id()?;
    let position = if flags & NO_POSITION == 0 {
        Some(reader.of_number(|zigzag: u64| {
            let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
            Position::new(previous.wrapping_add_signed(difference))
        })?)
    } else {
        None
    };
    let group = if flags & GROUP == 0 {
        None
    } else {
        Some(reader.of_number(QueueId::new)?)
    };
    let stage = match (flags & STAGE) >> STAGE_SHIFT {
        AWAIT_PUBACK => Stage::AwaitPubAck,
        AWAIT_PUBREC => Stage::AwaitPubRec,
        AWAIT_PUBCOMP => Stage::AwaitPubComp {
            rank: reader.varint()?,
        },
        _ => return Err(malformed),
    };
    let form: Form = reader.form(flags)?;
    Ok(ExchangeRecord {
        packet_id,
        stage,
        position,
        group,
        form,
    })
}

const GROUP: u8 = 0b1_0000;
const STAGE: u8 = 0b110_0000;
const STAGE_SHIFT: u32 = 5;
const NO_POSITION: u8 = 0b1000_0000;
const AWAIT_PUBACK: u8 = 0;
const AWAIT_PUBREC: u8 = 1;
const AWAIT_PUBCOMP: u8 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whimbrel_session::codec::{PacketId, QoS, SubscriptionId};

    use super::*;

    fn exchange() -> impl Strategy<Value = ExchangeRecord> {
        let stage = prop_oneof![
            Just(Stage::AwaitPubAck),
            Just(Stage::AwaitPubRec),
            any::<u64>().prop_map(|rank| Stage::AwaitPubComp { rank }),
        ];
        let form = (
            0_u8..3,
            any::<bool>(),
            prop::collection::vec(1_u32..999, 0..4),
        );
        let group = prop::option::of(1..=u64::MAX);
        let position = prop::option::of(1..=u64::MAX);
        (1..=u16::MAX, stage, position, group, form).prop_map(
            |(packet_id, stage, position, group, (qos, retain, ids))| {
                let ids: Vec<_> = ids.into_iter().filter_map(SubscriptionId::new).collect();
                ExchangeRecord {
                    packet_id: PacketId::new(packet_id).expect("not 0"),
                    stage,
                    position: position.and_then(Position::new),
                    group: group.and_then(QueueId::new),
                    form: Form::new(QoS::from_bits(qos).expect("a QoS"), retain, &ids),
                }
            },
        )
    }

    fn window() -> impl Strategy<Value = WindowRecord> {
        let exchanges = prop::collection::vec(exchange(), 0..20);
        (1..=u64::MAX, 1..=u64::MAX, 1..=u16::MAX, exchanges).prop_map(
            |(session, cursor, next, exchanges)| WindowRecord {
                session: QueueId::new(session).expect("not 0"),
                cursor: Position::new(cursor).expect("not 0"),
                next_packet_id: PacketId::new(next).expect("not 0"),
                exchanges,
            },
        )
    }

    proptest! {
        #[test]
        fn a_window_reads_back_as_it_was_written(record in window()) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(WindowRecord::decode(&bytes), Ok(record));
        }

        #[test]
        fn any_bytes_are_a_window_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = bytes;
            bytes.insert(0, VERSION);
            if let Ok(record) = WindowRecord::decode(&bytes) {
                prop_assert!(record.exchanges.len() < bytes.len());
            }
        }
    }

    #[test]
    fn an_exchange_of_the_usual_kind_costs_a_few_bytes() {
        let window = |count: u16| {
            let exchanges = (1..=count).map(|id| ExchangeRecord {
                packet_id: PacketId::new(id).expect("not 0"),
                stage: Stage::AwaitPubAck,
                position: Position::new((1 << 40) + u64::from(id) * 64),
                group: None,
                form: Form::new(QoS::AtLeastOnce, false, &[]),
            });
            let record = WindowRecord {
                session: QueueId::new(7).expect("not 0"),
                cursor: Position::new(1 << 40).expect("not 0"),
                next_packet_id: PacketId::MIN,
                exchanges: exchanges.collect(),
            };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            bytes.len()
        };
        assert_eq!(window(101) - window(1), 4 * 100);
    }
}
