//! A cursor over the bytes of one packet.

use whimbrel_topic::ascii_text;

use crate::{ControlCharacters, DecodeErrorKind, PacketId};

/// Reads fields from the front of what is left of a packet; never past its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    control_characters: ControlCharacters,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8], control_characters: ControlCharacters) -> Reader<'a> {
        Reader {
            bytes,
            control_characters,
        }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Takes all that is left.
    #[inline]
    pub(crate) const fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.bytes;
        self.bytes = &[];
        rest
    }

    /// Ends the packet.
    #[inline]
    pub(crate) const fn finish(self) -> Result<(), DecodeErrorKind> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeErrorKind::TrailingBytes)
        }
    }

    #[inline]
    pub(crate) const fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeErrorKind> {
        let Some((taken, rest)) = self.bytes.split_at_checked(length) else {
            return Err(DecodeErrorKind::Truncated);
        };
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    const fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeErrorKind> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(DecodeErrorKind::Truncated);
        };
        self.bytes = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeErrorKind> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeErrorKind> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeErrorKind> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeErrorKind> {
        PacketId::new(self.u16()?).ok_or(DecodeErrorKind::PacketIdZero)
    }

    /// A variable byte integer of 5.0, where only the shortest form is valid [MQTT-1.5.5-1].
    #[inline]
    pub(crate) fn variable(&mut self) -> Result<u32, DecodeErrorKind> {
        if let [byte @ 0..0x80, rest @ ..] = self.bytes {
            self.bytes = rest;
            return Ok(u32::from(*byte));
        }
        let integer = minimal_variable(self.bytes)?;
        self.take(integer.length)?;
        Ok(integer.value)
    }

    /// Binary data, or a string that is still to be checked: bytes after their length.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeErrorKind> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A string. [MQTT-1.5.4-1] [MQTT-1.5.4-2] U+FEFF is kept like any other character [MQTT-1.5.4-3].
    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeErrorKind> {
        let bytes = self.binary()?;
        check_control_characters(bytes, self.control_characters)?;
        match ascii_text(bytes) {
            Some(text) => Ok(text),
            None => unusual_text(bytes),
        }
    }
}

/// Checks that no character of a string is discouraged, where that is asked for; U+0000 is not among them, but always
/// refused. What is not UTF-8 is an error here only where it is looked at.
#[inline]
pub(crate) fn check_control_characters(
    bytes: &[u8],
    control_characters: ControlCharacters,
) -> Result<(), DecodeErrorKind> {
    match control_characters {
        ControlCharacters::Accept => Ok(()),
        ControlCharacters::Refuse => refuse_control_characters(bytes),
    }
}

#[inline(never)]
fn minimal_variable(bytes: &[u8]) -> Result<VariableInteger, DecodeErrorKind> {
    match VariableInteger::read(bytes)? {
        Some(integer) if integer.is_minimal => Ok(integer),
        Some(_) => Err(DecodeErrorKind::VariableIntegerNotMinimal),
        None => Err(DecodeErrorKind::Truncated),
    }
}

/// A variable byte integer at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VariableInteger {
    /// At most 268,435,455.
    pub(crate) value: u32,
    /// Bytes taken: 1 to 4.
    pub(crate) length: usize,
    /// Whether no shorter form has the same value.
    pub(crate) is_minimal: bool,
}

impl VariableInteger {
    /// Reads in any form; `None` when `bytes` end too early. The fourth byte decides: a fifth is never waited for.
    #[inline(always)]
    pub(crate) const fn read(bytes: &[u8]) -> Result<Option<VariableInteger>, DecodeErrorKind> {
        match bytes {
            [byte @ 0..0x80, ..] => Ok(Some(VariableInteger {
                value: *byte as u32,
                length: 1,
                is_minimal: true,
            })),
            [first, second @ 0..0x80, ..] => Ok(Some(VariableInteger {
                value: (*first & 0x7F) as u32 | (*second as u32) << 7,
                length: 2,
                is_minimal: *second != 0,
            })),
            _ => VariableInteger::read_long(bytes),
        }
    }

    #[inline(never)]
    const fn read_long(bytes: &[u8]) -> Result<Option<VariableInteger>, DecodeErrorKind> {
        let mut rest = bytes;
        let mut value = 0;
        let mut length = 0;
        while let Some((byte, tail)) = rest.split_first() {
            value |= ((*byte & 0x7F) as u32) << (7 * length);
            length += 1;
            if *byte < 0x80 {
                return Ok(Some(VariableInteger {
                    value,
                    length,
                    // A last byte of 0 adds nothing.
                    is_minimal: length == 1 || *byte != 0,
                }));
            }
            if length == 4 {
                return Err(DecodeErrorKind::VariableIntegerTooLong);
            }
            rest = tail;
        }
        Ok(None)
    }
}

/// Bytes of the shortest form of `value`.
#[inline]
pub(crate) const fn variable_length(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// A string that is not ASCII, or no string.
#[cold]
fn unusual_text(bytes: &[u8]) -> Result<&str, DecodeErrorKind> {
    let Ok(text) = str::from_utf8(bytes) else {
        return Err(DecodeErrorKind::StringNotUtf8);
    };
    if bytes.contains(&0) {
        return Err(DecodeErrorKind::StringNull);
    }
    Ok(text)
}

#[cold]
fn refuse_control_characters(bytes: &[u8]) -> Result<(), DecodeErrorKind> {
    let Ok(text) = str::from_utf8(bytes) else {
        return Err(DecodeErrorKind::StringNotUtf8);
    };
    if text.contains(is_discouraged) {
        return Err(DecodeErrorKind::StringControlCharacter);
    }
    Ok(())
}

/// The characters of [`ControlCharacters`] but U+0000.
const fn is_discouraged(character: char) -> bool {
    let code = character as u32;
    matches!(code, 0x01..=0x1F | 0x7F..=0x9F | 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, ControlCharacters::Accept)
    }

    // U5-003, U311-001, 5:MQTT-1.5.5-1
    #[test]
    fn variable_integers_have_one_to_four_bytes() {
        let table: [(&[u8], u32); 8] = [
            (b"\x00", 0),
            (b"\x7f", 127),
            (b"\x80\x01", 128),
            (b"\xff\x7f", 16_383),
            (b"\x80\x80\x01", 16_384),
            (b"\xff\xff\x7f", 2_097_151),
            (b"\x80\x80\x80\x01", 2_097_152),
            (b"\xff\xff\xff\x7f", 268_435_455),
        ];
        for (bytes, value) in table {
            assert_eq!(reader(bytes).variable(), Ok(value));
            assert_eq!(variable_length(value), bytes.len());
            for end in 0..bytes.len() {
                assert_eq!(VariableInteger::read(&bytes[..end]), Ok(None));
                let error = Err(DecodeErrorKind::Truncated);
                assert_eq!(reader(&bytes[..end]).variable(), error);
            }
        }
        for bytes in [&b"\x80\x00"[..], b"\xff\x80\x00", b"\x80\x80\x80\x00"] {
            let error = DecodeErrorKind::VariableIntegerNotMinimal;
            assert_eq!(reader(bytes).variable(), Err(error));
            assert!(VariableInteger::read(bytes).is_ok());
        }
        for bytes in [&b"\x80\x80\x80\x80"[..], b"\xff\xff\xff\xff\x01"] {
            let error = DecodeErrorKind::VariableIntegerTooLong;
            assert_eq!(reader(bytes).variable(), Err(error));
        }
    }

    // 3:MQTT-1.5.3-1, 3:MQTT-1.5.3-2, 3:MQTT-1.5.3-3, 5:MQTT-1.5.4-1, 5:MQTT-1.5.4-2, 5:MQTT-1.5.4-3, U5-001
    #[test]
    fn strings_are_utf8_without_null() {
        let text = |content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap();
            let bytes = [&length.to_be_bytes(), content].concat();
            reader(&bytes).text().map(str::to_owned)
        };
        for bad in [
            &b"\xff"[..],
            b"\xc0\x80",         // U+0000 in an over-long form
            b"\xed\xa0\x80",     // U+D800
            b"\xed\xbf\xbf",     // U+DFFF
            b"\xf4\x90\x80\x80", // U+110000
            b"a\xe2\x82",
        ] {
            assert_eq!(text(bad), Err(DecodeErrorKind::StringNotUtf8), "{bad:?}");
        }
        assert_eq!(text(b"a\0b"), Err(DecodeErrorKind::StringNull));
        for good in ["", "\u{feff}a\u{feff}", "A\u{2a6d4}", "\u{1}\u{9f}\u{ffff}"] {
            assert_eq!(text(good.as_bytes()).as_deref(), Ok(good));
        }
    }

    // U5-002
    #[test]
    fn control_characters_are_refused_on_demand() {
        let text = |content: &str| {
            let length = u16::try_from(content.len()).unwrap();
            let bytes = [&length.to_be_bytes(), content.as_bytes()].concat();
            let accepted = reader(&bytes).text().map(str::to_owned);
            assert_eq!(accepted.as_deref(), Ok(content));
            let refused = Reader::new(&bytes, ControlCharacters::Refuse).text();
            refused.map(str::to_owned)
        };
        let controls = ["\u{1}", "\u{1f}", "\u{7f}", "\u{80}", "\u{9f}"];
        let non_characters = [
            "\u{fdd0}",
            "\u{fdef}",
            "\u{fffe}",
            "\u{1ffff}",
            "\u{10fffe}",
        ];
        for bad in controls.into_iter().chain(non_characters) {
            let error = DecodeErrorKind::StringControlCharacter;
            assert_eq!(text(bad), Err(error), "{bad:?}");
        }
        for good in [
            " ",
            "~",
            "\u{a0}",
            "\u{fdcf}",
            "\u{fdf0}",
            "\u{fffd}",
            "\u{10000}",
        ] {
            assert_eq!(text(good).as_deref(), Ok(good));
        }
    }
}
