//! The file's header, and the batches that follow it.

use crc32fast::Hasher;

/// What stands at the start of a file.
///
/// ```text
/// file   = header, batch*
/// header = magic (8), version (2), number (4), client id length (2), client id, CRC-32 of all that (4)
/// batch  = length of the records (4), CRC-32 (4), number (4), durable to (8), records
/// ```
///
/// Numbers are little-endian. The CRC-32 of a batch is over its offset in the file (8 bytes), and over all of it but the
/// CRC itself. The number is drawn for each file, so that bytes of another file, or a payload that looks like a batch, are
/// none here. *Durable to* is the offset up to which the file was known to be on the disk when the batch was written:
/// what is damaged before it is no torn tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u32,
    pub(super) client_id: String,
}

/// Why the start of a file is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// It is no file of ours.
    Magic,
    /// A later release wrote it.
    Version(u16),
    Damaged,
}

/// One write, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch<'a> {
    pub(super) number: u32,
    pub(super) durable_to: u64,
    /// Invariant: not empty.
    pub(super) records: &'a [u8],
}

/// What a search for a batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Search<'a> {
    Found(usize, Batch<'a>),
    Nothing,
    /// There is too much that looks like one.
    GivenUp,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        // The caller has checked it.
        let length = u16::try_from(self.client_id.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.client_id.as_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the header at the start of a file; returns its length too.
    pub(super) fn decode(image: &[u8]) -> Result<(Self, usize), NoHeader> {
        let Some(rest) = image.strip_prefix(&MAGIC) else {
            return Err(NoHeader::Magic);
        };
        let (version, rest) = rest.split_first_chunk().ok_or(NoHeader::Damaged)?;
        let version = u16::from_le_bytes(*version);
        if version > VERSION {
            return Err(NoHeader::Version(version));
        }
        let (number, rest) = rest.split_first_chunk().ok_or(NoHeader::Damaged)?;
        let (length, rest) = rest.split_first_chunk().ok_or(NoHeader::Damaged)?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (client_id, rest) = rest.split_at_checked(length).ok_or(NoHeader::Damaged)?;
        let (checksum, rest) = rest.split_first_chunk().ok_or(NoHeader::Damaged)?;
        let bytes = image.len() - rest.len();
        let checked = image.get(..bytes - 4).ok_or(NoHeader::Damaged)?;
        if version != VERSION || crc32fast::hash(checked) != u32::from_le_bytes(*checksum) {
            return Err(NoHeader::Damaged);
        }
        let client_id = str::from_utf8(client_id).map_err(|_| NoHeader::Damaged)?;
        let header = Self {
            number: u32::from_le_bytes(*number),
            client_id: client_id.to_owned(),
        };
        Ok((header, bytes))
    }
}

/// Makes room for the head of a batch; records are appended behind it.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEAD_BYTES, 0);
}

/// Fills in the head of the batch in `out`, which is to stand at `offset`. The caller bounds its length.
pub(super) fn finish(out: &mut [u8], offset: u64, number: u32, durable_to: u64) {
    let Some((head, records)) = out.split_first_chunk_mut::<HEAD_BYTES>() else {
        return;
    };
    let length = u32::try_from(records.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    let number = number.to_le_bytes();
    let durable_to = durable_to.to_le_bytes();
    let checksum = checksum(offset, length, number, durable_to, records).to_le_bytes();
    let fields = length
        .into_iter()
        .chain(checksum)
        .chain(number)
        .chain(durable_to);
    for (byte, value) in head.iter_mut().zip(fields) {
        *byte = value;
    }
}

/// The batch at `at`, if one stands there; of the file `number`, where that is known.
///
/// What the checksum costs is taken from `budget`, in bytes; below it nothing is checked.
pub(super) fn batch_at<'a>(
    image: &'a [u8],
    at: usize,
    number: Option<u32>,
    budget: &mut usize,
) -> Option<Batch<'a>> {
    let (head, rest) = image.get(at..)?.split_first_chunk::<HEAD_BYTES>()?;
    let (length, head) = head.split_first_chunk()?;
    let (expected, head) = head.split_first_chunk()?;
    let (own_number, head) = head.split_first_chunk()?;
    let durable_to = *head.first_chunk()?;
    let own = u32::from_le_bytes(*own_number);
    if number.is_some_and(|number| number != own) {
        return None;
    }
    let records = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    if records.is_empty() {
        return None;
    }
    *budget = budget.checked_sub(HEAD_BYTES + records.len())?;
    let found = checksum(at as u64, *length, *own_number, durable_to, records);
    (found == u32::from_le_bytes(*expected)).then_some(Batch {
        number: own,
        durable_to: u64::from_le_bytes(durable_to),
        records,
    })
}

/// The first batch at or after `from`.
pub(super) fn search<'a>(
    image: &'a [u8],
    from: usize,
    number: Option<u32>,
    budget: &mut usize,
) -> Search<'a> {
    for at in from..image.len().saturating_sub(HEAD_BYTES) {
        if let Some(batch) = batch_at(image, at, number, budget) {
            return Search::Found(at, batch);
        }
        // The next one that is as long as the file could not be checked any more.
        if *budget < image.len() {
            return Search::GivenUp;
        }
    }
    Search::Nothing
}

/// How many bytes of checksums are worth a search in a file of this length: enough for every accident, and an end for
/// files that were made to take long.
pub(super) fn search_budget(image: &[u8]) -> usize {
    image
        .len()
        .saturating_mul(16)
        .saturating_add(64 * 1024 * 1024)
}

fn checksum(
    offset: u64,
    length: [u8; 4],
    number: [u8; 4],
    durable_to: [u8; 8],
    records: &[u8],
) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&length);
    hasher.update(&number);
    hasher.update(&durable_to);
    hasher.update(records);
    hasher.finalize()
}

/// With a byte above 127 and both line ends: a transfer as text breaks it.
const MAGIC: [u8; 8] = *b"\x89whbx\r\n\n";
pub(super) const VERSION: u16 = 1;
/// Length, checksum, number, durable to.
pub(super) const HEAD_BYTES: usize = 4 + 4 + 4 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: u32 = 0x1234_5678;

    fn header() -> Header {
        Header {
            number: NUMBER,
            client_id: "sensor".to_owned(),
        }
    }

    fn batch(offset: usize, durable_to: u64, records: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out);
        out.extend(records);
        finish(&mut out, offset as u64, NUMBER, durable_to);
        out
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let mut image = header().encode();
        let length = image.len();
        image.extend(b"more");
        assert_eq!(Header::decode(&image), Ok((header(), length)));
    }

    #[test]
    fn a_header_with_any_flipped_bit_is_none() {
        let image = header().encode();
        for bit in 0..image.len() * 8 {
            let mut changed = image.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&changed).is_err(), "bit {bit}");
        }
        for length in 0..image.len() {
            assert!(Header::decode(&image[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut image = header().encode();
        image[8] = 2;
        assert_eq!(Header::decode(&image), Err(NoHeader::Version(2)));
        assert_eq!(Header::decode(b"SQLite format 3"), Err(NoHeader::Magic));
    }

    #[test]
    fn a_batch_stands_only_where_it_was_written() {
        let mut image = vec![0; 10];
        image.extend(batch(10, 5, b"records"));
        let found = batch_at(&image, 10, Some(NUMBER), &mut usize::MAX.clone());
        let expected = Batch {
            number: NUMBER,
            durable_to: 5,
            records: b"records",
        };
        assert_eq!(found, Some(expected));
        image.insert(0, 0);
        assert_eq!(batch_at(&image, 11, None, &mut usize::MAX.clone()), None);
    }

    #[test]
    fn a_batch_of_another_file_is_none() {
        let image = batch(0, 0, b"records");
        assert_eq!(
            batch_at(&image, 0, Some(NUMBER + 1), &mut usize::MAX.clone()),
            None
        );
    }

    #[test]
    fn a_batch_with_any_flipped_bit_is_none() {
        let image = batch(0, 0, b"records");
        for bit in 0..image.len() * 8 {
            let mut changed = image.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let found = batch_at(&changed, 0, None, &mut usize::MAX.clone());
            assert_eq!(found, None, "bit {bit}");
        }
    }

    #[test]
    fn a_search_finds_the_next_batch() {
        let mut image = b"damaged".to_vec();
        image.extend(batch(7, 0, b"r"));
        let mut budget = search_budget(&image);
        let found = search(&image, 0, Some(NUMBER), &mut budget);
        assert!(matches!(found, Search::Found(7, _)), "{found:?}");
        let after = search(&image, 8, Some(NUMBER), &mut budget);
        assert_eq!(after, Search::Nothing);
    }

    #[test]
    fn a_search_gives_up_on_a_file_that_was_made_to_take_long() {
        let mut image = Vec::new();
        for _ in 0..1_000 {
            // Each claims to be long.
            image.extend(10_000_u32.to_le_bytes());
            image.extend([0; 16]);
        }
        let mut budget = 30_000;
        assert_eq!(search(&image, 0, None, &mut budget), Search::GivenUp);
    }
}
