//! The serial forms of a subscription and of a shared subscription.

use whimbrel_session::codec::{QoS, RetainHandling, SubscriptionId, SubscriptionOptions};

use super::reader::Reader;
use super::{QOS, RecordError, VERSION, flag, put_bytes};
use crate::holders::put_varint;
use crate::record::{GroupRecord, SubscriptionRecord};

/// ```text
/// subscription = version, options (byte, as in SUBSCRIBE), identifier or 0, filter
/// ```
impl SubscriptionRecord {
    /// Appends the serial form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        let options = &self.options;
        out.push(
            options.qos.bits()
                | flag(options.no_local, NO_LOCAL)
                | flag(options.retain_as_published, RETAIN_AS_PUBLISHED)
                | ((options.retain_handling as u8) << RETAIN_HANDLING_SHIFT),
        );
        put_varint(out, self.subscription_id.map_or(0, |id| id.get().into()));
        put_bytes(out, self.filter.as_bytes());
    }

    /// Reads what [`encode`](Self::encode) wrote. Whether the filter is one is not checked.
    ///
    /// # Errors
    ///
    /// [`RecordError`] where it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes)?;
        let at = reader.at();
        let options = options(reader.byte()?).ok_or(reader.malformed_since(at))?;
        let subscription_id = reader.of_number(|id| match id {
            0 => Some(None),
            id => SubscriptionId::new(id).map(Some),
        })?;
        let filter = reader.text()?;
        reader.finish()?;
        Ok(Self {
            filter,
            options,
            subscription_id,
        })
    }
}

fn options(byte: u8) -> Option<SubscriptionOptions> {
    Some(SubscriptionOptions {
        qos: QoS::from_bits(byte & QOS)?,
        no_local: byte & NO_LOCAL != 0,
        retain_as_published: byte & RETAIN_AS_PUBLISHED != 0,
        // The two highest bits are reserved.
        retain_handling: RetainHandling::from_bits(byte >> RETAIN_HANDLING_SHIFT)?,
    })
}

/// ```text
/// group = version, queue, share name, filter
/// ```
impl GroupRecord {
    /// Appends the serial form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(out, self.group.get());
        put_bytes(out, self.share.as_bytes());
        put_bytes(out, self.filter.as_bytes());
    }

    /// Reads what [`encode`](Self::encode) wrote. Whether name and filter are such is not checked.
    ///
    /// # Errors
    ///
    /// [`RecordError`] where it did not.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes)?;
        let group = reader.queue()?;
        let share = reader.text()?;
        let filter = reader.text()?;
        reader.finish()?;
        Ok(Self {
            group,
            share,
            filter,
        })
    }
}

const NO_LOCAL: u8 = 0b100;
const RETAIN_AS_PUBLISHED: u8 = 0b1000;
const RETAIN_HANDLING_SHIFT: u32 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::QueueId;

    fn subscription() -> impl Strategy<Value = SubscriptionRecord> {
        let id = prop::option::of(1_u32..=SubscriptionId::MAX.get());
        ("\\PC{0,30}", 0_u8..0x30, id).prop_filter_map("reserved", |(filter, byte, id)| {
            Some(SubscriptionRecord {
                filter: filter.into(),
                options: options(byte)?,
                subscription_id: id.and_then(SubscriptionId::new),
            })
        })
    }

    proptest! {
        #[test]
        fn a_subscription_reads_back_as_it_was_written(record in subscription()) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for end in 0..bytes.len() {
                prop_assert!(SubscriptionRecord::decode(&bytes[..end]).is_err());
            }
            prop_assert_eq!(SubscriptionRecord::decode(&bytes), Ok(record));
        }

        #[test]
        fn a_group_reads_back_as_it_was_written(
            queue in 1..=u64::MAX, share in "\\PC{0,9}", filter in "\\PC{0,9}",
        ) {
            let group = QueueId::new(queue).expect("not 0");
            let record = GroupRecord { group, share: share.into(), filter: filter.into() };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for end in 0..bytes.len() {
                prop_assert!(GroupRecord::decode(&bytes[..end]).is_err());
            }
            prop_assert_eq!(GroupRecord::decode(&bytes), Ok(record));
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first %= 3;
            }
            if let Ok(record) = SubscriptionRecord::decode(&bytes) {
                prop_assert!(record.filter.len() < bytes.len());
            }
            if let Ok(record) = GroupRecord::decode(&bytes) {
                prop_assert!(record.share.len() + record.filter.len() < bytes.len());
            }
        }
    }
}
