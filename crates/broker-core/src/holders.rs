//! [`Holders`]: the queues that hold a message, a few bytes each.

use bytes::Bytes;
use whimbrel_session::codec::{QoS, SubscriptionId};

use crate::journal::Holder;
use crate::queue::SubscriptionIds;
use crate::record::{Form, QueueId};

/// The queues that hold a message, each with the form in which its client gets it.
///
/// One entry each: the difference to the queue before, zigzag, with the lowest bit set where the form is another one
/// than before; then that form. So a queue costs one or two bytes.
///
/// ```text
/// entry = varint(zigzag(queue - previous) << 1 | form follows) [form]
/// form  = byte (bits 0-1 QoS, bit 2 RETAIN, bit 3 identifiers follow) [varint count, varint identifier ...]
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders(Bytes);

/// Collects [`Holders`].
#[derive(Debug, Default)]
pub(crate) struct HoldersBuilder {
    bytes: Vec<u8>,
    queue: u64,
    form: Option<Form>,
}

/// Bytes that are no [`Holders`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the holders of a message are malformed at byte {at}")]
pub struct HoldersError {
    /// Where.
    pub at: usize,
}

impl HoldersBuilder {
    pub(crate) fn push(&mut self, queue: QueueId, form: &Form) {
        // Both are below 2^62, so that nothing wraps.
        let difference = queue.get().cast_signed() - self.queue.cast_signed();
        self.queue = queue.get();
        let zigzag = ((difference << 1) ^ (difference >> 63)).cast_unsigned();
        let is_same = self.form.as_ref() == Some(form);
        put_varint(&mut self.bytes, zigzag << 1 | u64::from(!is_same));
        if is_same {
            return;
        }
        let ids = form.subscription_ids();
        let has_ids = if ids.is_empty() { 0 } else { HAS_IDS };
        let retain = if form.retain { RETAIN } else { 0 };
        self.bytes.push(form.qos.bits() | retain | has_ids);
        if !ids.is_empty() {
            put_varint(&mut self.bytes, ids.len() as u64);
            for id in ids {
                put_varint(&mut self.bytes, u64::from(id.get()));
            }
        }
        self.form = Some(form.clone());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was collected; the builder is empty again.
    pub(crate) fn finish(&mut self) -> Holders {
        let holders = Holders(Bytes::copy_from_slice(&self.bytes));
        self.bytes.clear();
        self.queue = 0;
        self.form = None;
        holders
    }
}

impl Holders {
    /// From the bytes that [`as_bytes`](Self::as_bytes) gave.
    ///
    /// # Errors
    ///
    /// [`HoldersError`] where they are not.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, HoldersError> {
        let mut reader = Reader::new(&bytes);
        while reader.next_holder()?.is_some() {}
        Ok(Self(bytes))
    }

    /// Of these queues.
    #[must_use]
    pub fn of<'a>(holders: impl IntoIterator<Item = &'a Holder>) -> Self {
        let mut builder = HoldersBuilder::default();
        for Holder { queue, form } in holders {
            builder.push(*queue, form);
        }
        builder.finish()
    }

    /// Their form on the disk.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The queues, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = Holder> + '_ {
        let mut reader = Reader::new(&self.0);
        // Checked when it was made.
        std::iter::from_fn(move || reader.next_holder().ok().flatten())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    queue: u64,
    form: Option<Form>,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            queue: 0,
            form: None,
        }
    }

    fn next_holder(&mut self) -> Result<Option<Holder>, HoldersError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let malformed = HoldersError { at: start };
        let entry = self.varint()?;
        let zigzag = entry >> 1;
        let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        self.queue = self.queue.wrapping_add_signed(difference);
        let queue = QueueId::new(self.queue).ok_or(malformed)?;
        if entry & 1 != 0 {
            self.form = Some(self.form()?);
        }
        let form = self.form.clone().ok_or(malformed)?;
        Ok(Some(Holder { queue, form }))
    }

    fn form(&mut self) -> Result<Form, HoldersError> {
        let malformed = HoldersError { at: self.at };
        let byte = self.byte()?;
        let qos = QoS::from_bits(byte & QOS).ok_or(malformed)?;
        if byte & !(QOS | RETAIN | HAS_IDS) != 0 {
            return Err(malformed);
        }
        let mut subscription_ids = SubscriptionIds::None;
        if byte & HAS_IDS != 0 {
            for _ in 0..self.varint()? {
                let id = u32::try_from(self.varint()?).map_err(|_| malformed)?;
                subscription_ids.push(SubscriptionId::new(id).ok_or(malformed)?);
            }
        }
        Ok(Form {
            qos,
            retain: byte & RETAIN != 0,
            subscription_ids,
        })
    }

    fn byte(&mut self) -> Result<u8, HoldersError> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte.ok_or(HoldersError { at: self.at - 1 })
    }

    fn varint(&mut self) -> Result<u64, HoldersError> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HoldersError { at: start })
    }
}

pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

const QOS: u8 = 0b11;
const RETAIN: u8 = 0b100;
const HAS_IDS: u8 = 0b1000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holder() -> impl Strategy<Value = Holder> {
        let ids = prop::collection::vec(1_u32..300, 0..3);
        (1_u64..1 << 40, 0_u8..3, any::<bool>(), ids).prop_map(|(queue, qos, retain, ids)| {
            let ids: Vec<_> = ids.into_iter().filter_map(SubscriptionId::new).collect();
            Holder {
                queue: QueueId::new(queue).expect("not 0"),
                form: Form::new(QoS::from_bits(qos).expect("a QoS"), retain, &ids),
            }
        })
    }

    proptest! {
        #[test]
        fn holders_read_back_as_they_were_given(given in prop::collection::vec(holder(), 0..50)) {
            let holders = Holders::of(&given);
            prop_assert_eq!(holders.iter().collect::<Vec<_>>(), given);
            prop_assert_eq!(Holders::from_bytes(holders.0.clone()), Ok(holders));
        }

        #[test]
        fn any_bytes_are_holders_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            let length = bytes.len();
            if let Err(HoldersError { at }) = Holders::from_bytes(bytes.into()) {
                prop_assert!(at <= length);
            }
        }
    }

    #[test]
    fn one_more_session_costs_its_id_alone() {
        let form = Form::new(QoS::AtLeastOnce, false, &[]);
        let bytes = |count: u64| {
            let holders: Vec<_> = (1..=count)
                .map(|queue| Holder {
                    queue: QueueId::new(queue * 64).expect("not 0"),
                    form: form.clone(),
                })
                .collect();
            Holders::of(&holders).as_bytes().len()
        };
        assert_eq!(bytes(1), 3);
        assert_eq!(bytes(1_000) - bytes(1), 2 * 999);
    }
}
