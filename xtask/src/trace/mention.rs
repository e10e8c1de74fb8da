//! Ids of statements in a text, however they are written.

/// An id as written: with what says its standard, or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `5:MQTT-…`, `3:MQTT-…` (also written `3.1.1 MQTT-…`), `U5-…`, `U311-…`, `U31-…`.
    Whole(String),
    /// `MQTT-…` alone.
    Bare(String),
}

/// Every id in `line`, from left to right.
pub(super) fn mentions(line: &str) -> Vec<Spelling> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(rest) = line.get(start..) {
        let Some(offset) = rest.find(['M', 'U']) else {
            break;
        };
        let at = start + offset;
        let (before, id) = line.split_at(at);
        // `max`: the letter found has one byte.
        start = at
            + match spelled(before, id) {
                Some((spelling, length)) => {
                    found.push(spelling);
                    length
                }
                None => 1,
            };
    }
    found
}

/// The id that `text` begins with, and its length; `before` is what stands left of it.
fn spelled(before: &str, text: &str) -> Option<(Spelling, usize)> {
    if before.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_') {
        return None;
    }
    if let Some(number) = text.strip_prefix("MQTT-") {
        let length = "MQTT-".len() + section_and_number(number)?;
        let id = text.get(..length)?;
        let spelling = if before.ends_with("3:") || before.ends_with("3.1.1 ") {
            Spelling::Whole(format!("3:{id}"))
        } else if before.ends_with("5:") || before.ends_with("5.0 ") {
            Spelling::Whole(format!("5:{id}"))
        } else {
            Spelling::Bare(id.to_owned())
        };
        return Some((spelling, length));
    }
    for prefix in ["U5-", "U311-", "U31-"] {
        if let Some(number) = text.strip_prefix(prefix) {
            let digits = leading_digits(number);
            let length = prefix.len() + digits;
            return (digits > 0).then(|| (Spelling::Whole(text[..length].to_owned()), length));
        }
    }
    None
}

/// The length of what `text` begins with if it is like `3.1.2-24` or `4.2-1`.
fn section_and_number(text: &str) -> Option<usize> {
    let mut length = leading_digits(text);
    while let Some(rest) = text[length..].strip_prefix('.') {
        let digits = leading_digits(rest);
        if digits == 0 {
            return None;
        }
        length += 1 + digits;
    }
    let number = text[length..].strip_prefix('-')?;
    let digits = leading_digits(number);
    (length > 0 && digits > 0).then_some(length + 1 + digits)
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(line: &str) -> Vec<String> {
        let texts = mentions(line).into_iter().map(|spelling| match spelling {
            Spelling::Whole(id) => id,
            Spelling::Bare(id) => format!("bare {id}"),
        });
        texts.collect()
    }

    #[test]
    fn every_notation_is_read() {
        for (line, expected) in [
            (
                "// [3:MQTT-2.3.1-7] [MQTT-2.2.1-6]",
                vec!["3:MQTT-2.3.1-7", "bare MQTT-2.2.1-6"],
            ),
            (
                "// [5:MQTT-4.2-1, U5-022, U311-003,U31-006]",
                vec!["5:MQTT-4.2-1", "U5-022", "U311-003", "U31-006"],
            ),
            ("refused), // [3.1.1 MQTT-3.1.3-8]", vec!["3:MQTT-3.1.3-8"]),
            ("assert!(x, \"too large [U5-041]\");", vec!["U5-041"]),
            (
                "| MQTT-1.5.4-1 3:MQTT-1.5.3-1",
                vec!["bare MQTT-1.5.4-1", "3:MQTT-1.5.3-1"],
            ),
            ("MQTT-3.1.2-24: see (D9).", vec!["bare MQTT-3.1.2-24"]),
            ("é [5:MQTT-3.1.2-24]é", vec!["5:MQTT-3.1.2-24"]),
        ] {
            assert_eq!(spelled(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_id_is_passed_over() {
        for line in [
            "MQTT 5.0",
            "MQTT-Packet",
            "MQTT-3.1.2",
            "MQTT-3..2-1",
            "MQTT-3.1.2-*",
            "U5-",
            "U5",
            "XU5-001",
            "MENU31-001",
        ] {
            assert_eq!(spelled(line), Vec::<String>::new(), "{line}");
        }
    }
}
