//! [`Reader`]: bytes of a serial form, front to back.

use whimbrel_session::codec::topic::ByteStr;
use whimbrel_session::codec::{PacketId, QoS, SubscriptionId};

use super::{HAS_IDS, QOS, RETAIN, RecordError, VERSION};
use crate::queue::SubscriptionIds;
use crate::record::{Form, Position, QueueId};

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Of bytes that begin with the version all forms here have.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut reader = Self { bytes, at: 0 };
        match reader.byte()? {
            VERSION => Ok(reader),
            version => Err(RecordError::Version { version }),
        }
    }

    /// The error that says: what was just read, from `start` on, can't be.
    pub(super) fn malformed_since(&self, start: usize) -> RecordError {
        RecordError::Malformed { at: start }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        self.take(1)
            .map(|bytes| bytes.first().copied().unwrap_or(0))
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let truncated = RecordError::Truncated {
            at: self.bytes.len(),
        };
        let end = self.at.checked_add(length).ok_or(truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(truncated)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn varint(&mut self) -> Result<u64, RecordError> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed_since(start))
    }

    pub(super) fn number<N: TryFrom<u64>>(&mut self) -> Result<N, RecordError> {
        let start = self.at;
        N::try_from(self.varint()?).map_err(|_| self.malformed_since(start))
    }

    /// Something that is made of a number and not of every one.
    pub(super) fn of_number<N: TryFrom<u64>, T>(
        &mut self,
        make: impl FnOnce(N) -> Option<T>,
    ) -> Result<T, RecordError> {
        let start = self.at;
        let number = self.number()?;
        make(number).ok_or_else(|| self.malformed_since(start))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let length = self.number()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<ByteStr, RecordError> {
        let start = self.at;
        let text = std::str::from_utf8(self.bytes()?);
        text.map(ByteStr::from)
            .map_err(|_| self.malformed_since(start))
    }

    pub(super) fn queue(&mut self) -> Result<QueueId, RecordError> {
        self.of_number(QueueId::new)
    }

    pub(super) fn position(&mut self) -> Result<Position, RecordError> {
        self.of_number(Position::new)
    }

    pub(super) fn packet_id(&mut self) -> Result<PacketId, RecordError> {
        self.of_number(PacketId::new)
    }

    /// A form whose flags have been read.
    pub(super) fn form(&mut self, flags: u8) -> Result<Form, RecordError> {
        let start = self.at;
        let qos = QoS::from_bits(flags & QOS).ok_or_else(|| self.malformed_since(start))?;
        let mut subscription_ids = SubscriptionIds::None;
        if flags & HAS_IDS != 0 {
            let count: usize = self.of_number(|count: usize| (count > 0).then_some(count))?;
            for _ in 0..count {
                subscription_ids.push(self.of_number(SubscriptionId::new)?);
            }
        }
        Ok(Form {
            qos,
            retain: flags & RETAIN != 0,
            subscription_ids,
        })
    }

    pub(super) fn finish(self) -> Result<(), RecordError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(RecordError::Malformed { at: self.at })
        }
    }
}
