//! Numbered messages whose payload tells which they are, and whether they are whole.

use std::fmt;

use crate::rng::mix;

/// Which message: the `number`th of a stream, which is what one publisher sends to one topic with one QoS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MessageName {
    pub(crate) publisher: u16,
    pub(crate) stream: u16,
    pub(crate) number: u32,
}

/// The smallest payload there is.
pub(crate) const HEADER_BYTES: usize = 16;

/// The payload of a message: magic, name, a check over all of it, and a filler that depends on the name.
///
/// `length` is raised to [`HEADER_BYTES`].
pub(crate) fn payload(name: MessageName, length: usize) -> Vec<u8> {
    let length = length.max(HEADER_BYTES);
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&name.publisher.to_be_bytes());
    bytes.extend_from_slice(&name.stream.to_be_bytes());
    bytes.extend_from_slice(&name.number.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    let mut state = name.seed();
    while bytes.len() < length {
        state = mix(state.wrapping_add(1));
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    let check = check(&bytes);
    bytes[CHECK].copy_from_slice(&check);
    bytes
}

/// Reads a payload; `None` when it is not one that [`payload`] made.
pub(crate) fn read(bytes: &[u8]) -> Option<MessageName> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let [
        m0,
        m1,
        m2,
        m3,
        p0,
        p1,
        s0,
        s1,
        n0,
        n1,
        n2,
        n3,
        check_bytes @ ..,
    ] = *header;
    if [m0, m1, m2, m3] != MAGIC || check(bytes) != check_bytes {
        return None;
    }
    Some(MessageName {
        publisher: u16::from_be_bytes([p0, p1]),
        stream: u16::from_be_bytes([s0, s1]),
        number: u32::from_be_bytes([n0, n1, n2, n3]),
    })
}

/// The places in `bytes` where the header of a payload may begin.
pub(crate) fn headers(bytes: &[u8]) -> impl Iterator<Item = [u8; HEADER_BYTES]> {
    let windows = bytes.windows(HEADER_BYTES);
    windows
        .filter(|window| window.starts_with(&MAGIC))
        .filter_map(|window| window.first_chunk().copied())
}

/// A check over everything but itself.
fn check(bytes: &[u8]) -> [u8; 4] {
    let mut state = bytes.len() as u64;
    let words = bytes.chunks(8);
    for (index, word) in words.enumerate() {
        let mut whole = [0; 8];
        whole[..word.len()].copy_from_slice(word);
        if index == 1 {
            // The check itself.
            whole[4..].fill(0);
        }
        state = mix(state ^ u64::from_le_bytes(whole));
    }
    let [c0, c1, c2, c3, ..] = state.to_le_bytes();
    [c0, c1, c2, c3]
}

impl MessageName {
    fn seed(self) -> u64 {
        (u64::from(self.publisher) << 48) | (u64::from(self.stream) << 32) | u64::from(self.number)
    }
}

impl fmt::Display for MessageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            publisher,
            stream,
            number,
        } = self;
        write!(f, "message {publisher}/{stream}/{number}")
    }
}

const MAGIC: [u8; 4] = *b"wcm1";
const CHECK: std::ops::Range<usize> = 12..16;

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: MessageName = MessageName {
        publisher: 3,
        stream: 1,
        number: 70_000,
    };

    #[test]
    fn a_payload_tells_its_name() {
        for length in [0, 16, 17, 23, 24, 25, 4_096] {
            let bytes = payload(NAME, length);
            assert_eq!(bytes.len(), length.max(HEADER_BYTES));
            assert_eq!(read(&bytes), Some(NAME));
        }
    }

    #[test]
    fn a_payload_that_was_changed_is_no_payload() {
        let whole = payload(NAME, 40);
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            assert_eq!(read(&bytes), None, "byte {place}");
        }
        assert_eq!(read(&whole[..39]), None);
        assert_eq!(read(&[whole.as_slice(), &[0]].concat()), None);
    }
}
