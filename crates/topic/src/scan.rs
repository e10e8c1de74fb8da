//! [`any`]: whether a byte of some kind is among others.

/// Whether `is_sought` holds for any of `bytes`.
///
/// Looks at sixteen bytes at a time, which the compiler makes a few vector instructions of where `is_sought` compares
/// only: this runs over every string that comes off the wire. What is left over is looked at together with bytes before
/// it once more.
#[inline(always)]
pub(crate) fn any(bytes: &[u8], is_sought: impl Fn(u8) -> bool + Copy) -> bool {
    if let Some(last) = bytes.last_chunk::<16>() {
        let (chunks, _) = bytes.as_chunks::<16>();
        return chunks.iter().any(|chunk| any_of(chunk, is_sought)) || any_of(last, is_sought);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return any_of(first, is_sought) | any_of(last, is_sought);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return any_of(first, is_sought) | any_of(last, is_sought);
    }
    bytes.iter().any(|byte| is_sought(*byte))
}

/// Without a way out in the middle, which vectors do not have.
#[inline(always)]
fn any_of<const N: usize>(bytes: &[u8; N], is_sought: impl Fn(u8) -> bool) -> bool {
    let mut found = [0; N];
    for (found, byte) in found.iter_mut().zip(bytes) {
        *found = if is_sought(*byte) { u8::MAX } else { 0 };
    }
    found.iter().fold(0, |all, one| all | one) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_found_in_every_place_of_every_length() {
        for length in 0..=70 {
            let mut bytes = vec![b'a'; length];
            assert!(!any(&bytes, |byte| byte == b'#'));
            for place in 0..length {
                bytes[place] = b'#';
                assert!(any(&bytes, |byte| byte == b'#'), "{place} of {length}");
                assert!(!any(&bytes, |byte| byte >= 0x80 || byte == 0));
                bytes[place] = b'a';
            }
        }
    }

    #[test]
    fn every_value_is_told_from_every_other() {
        for length in [1, 4, 8, 16, 17, 40] {
            for value in 0..=u8::MAX {
                let bytes = vec![value; length];
                assert_eq!(any(&bytes, |byte| byte >= 0x80), value >= 0x80);
                assert_eq!(
                    any(&bytes, |byte| byte == 0 || byte == b'+'),
                    [0, b'+'].contains(&value)
                );
            }
        }
    }
}
