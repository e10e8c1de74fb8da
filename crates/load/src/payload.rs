//! What is in a payload: who sent it, as which of its messages, when, and a checksum of all of it.
//!
//! ```text
//!  0        4           8          12             20         24
//!  │ run    │ publisher │ sequence │ time in ns   │ checksum │ filler …
//! ```
//!
//! Numbers are big endian. The checksum is the CRC-32 of the filler followed by the first 20 bytes: in that order the
//! filler, which is the same in every message of a run, is hashed once by the sender.

use crc32fast::Hasher;

/// Bytes of a payload before its filler: no payload can be smaller.
pub(crate) const HEADER_BYTES: usize = 24;

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Tells the messages of one run from those of another.
    pub(crate) run: u32,
    pub(crate) publisher: u32,
    /// Rank of the message among those of its publisher.
    pub(crate) sequence: u32,
    /// When it was sent, or with a fixed rate was to be sent, in nanoseconds of the run's clock.
    pub(crate) sent: u64,
}

/// The payload of one message after the other, in the same memory.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    filler: Hasher,
}

impl Template {
    /// Payloads of `size` bytes, filled with noise of `seed`.
    ///
    /// # Panics
    ///
    /// When `size` has no room for the header; the options were checked.
    pub(crate) fn new(size: usize, seed: u64) -> Self {
        let mut bytes = vec![0; size];
        let mut state = seed;
        for chunk in bytes[HEADER_BYTES..].chunks_mut(8) {
            let noise = splitmix(&mut state).to_be_bytes();
            chunk.copy_from_slice(&noise[..chunk.len()]);
        }
        let mut filler = Hasher::new();
        filler.update(&bytes[HEADER_BYTES..]);
        Self { bytes, filler }
    }

    /// The payload with this header.
    pub(crate) fn fill_in(&mut self, header: Header) -> &[u8] {
        let place = &mut self.bytes[..HEADER_BYTES];
        place[..4].copy_from_slice(&header.run.to_be_bytes());
        place[4..8].copy_from_slice(&header.publisher.to_be_bytes());
        place[8..12].copy_from_slice(&header.sequence.to_be_bytes());
        place[12..20].copy_from_slice(&header.sent.to_be_bytes());
        let mut checksum = self.filler.clone();
        checksum.update(&place[..CHECKSUM_AT]);
        place[CHECKSUM_AT..].copy_from_slice(&checksum.finalize().to_be_bytes());
        &self.bytes
    }

    /// Reads a payload of the same length; `None` when its length or its checksum is wrong.
    ///
    /// A filler like this one's is compared and not hashed again, which is most of the work.
    pub(crate) fn read(&self, payload: &[u8]) -> Option<Header> {
        let (header, filler) = payload.split_first_chunk::<HEADER_BYTES>()?;
        if payload.len() != self.bytes.len() {
            return None;
        }
        let mut hasher = if *filler == self.bytes[HEADER_BYTES..] {
            self.filler.clone()
        } else {
            // Of another run, or damaged: only its checksum tells.
            let mut hasher = Hasher::new();
            hasher.update(filler);
            hasher
        };
        let (fields, checksum) = header.split_first_chunk::<CHECKSUM_AT>()?;
        hasher.update(fields);
        if hasher.finalize().to_be_bytes() != checksum {
            return None;
        }
        Header::of(fields)
    }
}

impl Header {
    fn of(fields: &[u8; CHECKSUM_AT]) -> Option<Self> {
        let (run, rest) = fields.split_first_chunk()?;
        let (publisher, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        Some(Self {
            run: u32::from_be_bytes(*run),
            publisher: u32::from_be_bytes(*publisher),
            sequence: u32::from_be_bytes(*sequence),
            sent: u64::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

/// The next number of a sequence that looks like chance (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014).
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

const CHECKSUM_AT: usize = HEADER_BYTES - 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header = Header {
        run: 7,
        publisher: 3,
        sequence: 99,
        sent: 1_234_567_890,
    };

    proptest! {
        #[test]
        fn what_is_filled_in_is_read_back(
            run: u32, publisher: u32, sequence: u32, sent: u64, seed: u64,
            size in HEADER_BYTES..300,
        ) {
            let header = Header { run, publisher, sequence, sent };
            let mut template = Template::new(size, seed);
            let payload = template.fill_in(header);
            prop_assert_eq!(payload.len(), size);
            let payload = payload.to_vec();
            prop_assert_eq!(template.read(&payload), Some(header));
            // Whose filler it is does not matter.
            let other = Template::new(size, seed ^ 1);
            prop_assert_eq!(other.read(&payload), Some(header));
        }

        #[test]
        fn any_wrong_byte_is_found(size in HEADER_BYTES..300, place: prop::sample::Index, change in 1..=u8::MAX) {
            let mut template = Template::new(size, 1);
            let mut payload = template.fill_in(HEADER).to_vec();
            let place = place.index(payload.len());
            payload[place] ^= change;
            prop_assert_eq!(template.read(&payload), None);
            prop_assert_eq!(Template::new(size, 2).read(&payload), None);
        }

        #[test]
        fn a_payload_that_is_cut_off_is_found(length in 0..100usize) {
            let mut template = Template::new(100, 1);
            let payload = template.fill_in(HEADER).to_vec();
            prop_assert_eq!(template.read(&payload[..length]), None);
        }
    }

    #[test]
    fn the_filler_is_noise_of_the_seed() {
        let filler = |seed| Template::new(64, seed).fill_in(HEADER)[HEADER_BYTES..].to_vec();
        assert_eq!(filler(1), filler(1));
        assert_ne!(filler(1), filler(2));
        assert!(filler(1).iter().any(|byte| *byte != filler(1)[0]));
    }
}
