//! What messages carry: who published them, their number, and a checksum over both and the filler.

use bytes::Bytes;

/// The identity of a message in a simulation, as in `m3.17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    /// The number of the client that published it.
    pub publisher: u16,
    /// Its number among that client's messages, from 1.
    pub sequence: u32,
}

/// A text that names no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMessageKey;

impl std::str::FromStr for MessageKey {
    type Err = NoMessageKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.strip_prefix('m').and_then(|rest| rest.split_once('.'));
        let (publisher, sequence) = numbers.ok_or(NoMessageKey)?;
        Ok(Self {
            publisher: publisher.parse().map_err(|_| NoMessageKey)?,
            sequence: sequence.parse().map_err(|_| NoMessageKey)?,
        })
    }
}

impl std::fmt::Display for NoMessageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a message is named by its publisher and number, as in m3.17")
    }
}

impl std::error::Error for NoMessageKey {}

impl std::fmt::Display for MessageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "m{}.{}", self.publisher, self.sequence)
    }
}

/// A payload of at least `length` bytes for `key`.
pub(crate) fn encode(key: MessageKey, length: usize) -> Bytes {
    let mut payload = Vec::with_capacity(length.max(HEADER));
    payload.extend_from_slice(&key.publisher.to_be_bytes());
    payload.extend_from_slice(&key.sequence.to_be_bytes());
    payload.extend_from_slice(&[0; 4]);
    while payload.len() < length {
        let position = payload.len() as u32;
        payload.push(key.sequence.wrapping_mul(31).wrapping_add(position) as u8);
    }
    let sum = checksum(&payload);
    payload[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    payload.into()
}

/// Who a payload is from; `None` if it is not what [`encode`] made.
pub(crate) fn decode(payload: &[u8]) -> Option<MessageKey> {
    let publisher = u16::from_be_bytes(payload.get(..2)?.try_into().ok()?);
    let sequence = u32::from_be_bytes(payload.get(2..6)?.try_into().ok()?);
    let sum = u32::from_be_bytes(payload.get(CHECKSUM)?.try_into().ok()?);
    (sum == checksum(payload)).then_some(MessageKey {
        publisher,
        sequence,
    })
}

/// FNV-1a over everything but the checksum itself, and the length.
fn checksum(payload: &[u8]) -> u32 {
    let covered = payload[..CHECKSUM.start].iter().chain(&payload[HEADER..]);
    let sum = covered.fold(0x811c_9dc5_u32, |sum, &byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    sum ^ payload.len() as u32
}

const CHECKSUM: std::ops::Range<usize> = 6..10;
const HEADER: usize = CHECKSUM.end;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = MessageKey {
            publisher: 3,
            sequence: 17,
        };
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["3.17", "m3", "m3.", "m.1", "mx.1"] {
            assert_eq!(text.parse::<MessageKey>(), Err(NoMessageKey));
        }
    }

    #[test]
    fn a_payload_tells_who_it_is_from_and_notices_any_change() {
        let key = MessageKey {
            publisher: 7,
            sequence: 70_000,
        };
        for length in [0, 10, 11, 300] {
            let payload = encode(key, length);
            assert_eq!(decode(&payload), Some(key));
            for position in 0..payload.len() {
                let mut changed = payload.to_vec();
                changed[position] ^= 1;
                assert_eq!(decode(&changed), None, "byte {position} of {length}");
            }
            assert_eq!(decode(&payload[..payload.len() - 1]), None);
        }
    }
}
