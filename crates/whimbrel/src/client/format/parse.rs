//! From the text of `-F` to its parts.

use std::iter::Peekable;
use std::str::Chars;

use super::{Field, Padding, Part};

/// Reads the whole text, or says in one line what is wrong with it.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let part = match character {
            '%' => directive(&mut rest)?,
            '@' => time(&mut rest)?,
            '\\' => Some(Part::Literal(escape(&mut rest)?.to_string())),
            other => Some(Part::Literal(other.to_string())),
        };
        match part {
            Some(Part::Literal(text)) => literal.push_str(&text),
            Some(part) => {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(part);
            }
            None => literal.push('%'),
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// What follows `%`; `None` for a percent sign itself.
fn directive(rest: &mut Peekable<Chars<'_>>) -> Result<Option<Part>, String> {
    let mut padding = Padding::default();
    while let Some(flag) = rest.next_if(|&next| next == '-' || next == '0') {
        match flag {
            '-' => padding.is_left = true,
            _ => padding.is_zero = true,
        }
    }
    padding.width = number(rest)?;
    if rest.next_if_eq(&'.').is_some() {
        padding.width_max = Some(number(rest)?);
    }
    let letter = rest
        .next()
        .ok_or("a % at the end says nothing; write %% for a percent sign")?;
    if letter == '%' {
        return Ok(None);
    }
    let (_, field) = FIELDS
        .iter()
        .find(|(name, _)| *name == letter)
        .ok_or_else(|| {
            let letters: Vec<_> = FIELDS.iter().map(|(name, _)| name.to_string()).collect();
            format!(
                "%{letter} is no field, the fields are {}; write %% for a percent sign",
                letters.join(" ")
            )
        })?;
    Ok(Some(Part::Field(*field, padding)))
}

/// What follows `@`.
fn time(rest: &mut Peekable<Chars<'_>>) -> Result<Option<Part>, String> {
    Ok(Some(match rest.next() {
        Some('@') => Part::Literal("@".to_owned()),
        Some('N') => Part::Nanoseconds,
        Some(letter) => Part::Time(letter),
        None => {
            return Err("an @ at the end says nothing; write @@ for an at sign".to_owned());
        }
    }))
}

/// What follows a backslash.
fn escape(rest: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    let letter = rest
        .next()
        .ok_or(r"a \ at the end says nothing; write \\ for a backslash")?;
    let escape = ESCAPES.iter().find(|(name, _)| *name == letter);
    escape.map(|(_, character)| *character).ok_or_else(|| {
        format!(r"\{letter} is no escape, there are \0 \a \e \n \r \t \v; write \\ for a backslash")
    })
}

fn number(rest: &mut Peekable<Chars<'_>>) -> Result<usize, String> {
    let mut number = 0;
    while let Some(digit) = rest.peek().and_then(|next| next.to_digit(10)) {
        rest.next();
        number = number * 10 + digit as usize;
        if number > FIELD_WIDTH_MAX {
            return Err(format!("a field is at most {FIELD_WIDTH_MAX} wide"));
        }
    }
    Ok(number)
}

const FIELDS: [(char, Field); 20] = [
    ('A', Field::TopicAlias),
    ('C', Field::ContentType),
    ('D', Field::CorrelationData),
    ('E', Field::Expiry),
    ('F', Field::PayloadFormat),
    ('I', Field::Iso8601),
    ('j', Field::Json),
    ('J', Field::JsonPayload),
    ('l', Field::Length),
    ('m', Field::PacketId),
    ('p', Field::Payload),
    ('P', Field::UserProperties),
    ('q', Field::Qos),
    ('R', Field::ResponseTopic),
    ('r', Field::Retain),
    ('S', Field::SubscriptionId),
    ('t', Field::Topic),
    ('U', Field::UnixTime),
    ('x', Field::HexLower),
    ('X', Field::HexUpper),
];

const ESCAPES: [(char, char); 8] = [
    ('\\', '\\'),
    ('0', '\0'),
    ('a', '\x07'),
    ('e', '\x1b'),
    ('n', '\n'),
    ('r', '\r'),
    ('t', '\t'),
    ('v', '\x0b'),
];

/// A line is not padded beyond what anybody would read.
const FIELD_WIDTH_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_escapes_and_doubled_signs_are_one_part() {
        assert_eq!(
            parts(r"a\t%%@@\\\0"),
            Ok(vec![Part::Literal("a\t%@\\\0".to_owned())])
        );
        assert_eq!(parts(""), Ok(Vec::new()));
    }

    #[test]
    fn flags_and_widths_are_those_of_printf() {
        let padding = |text: &str| match parts(text).as_deref() {
            Ok([Part::Field(Field::Topic, padding)]) => *padding,
            other => panic!("{text}: {other:?}"),
        };
        let plain = Padding::default();
        assert_eq!(padding("%t"), plain);
        assert_eq!(padding("%10t"), Padding { width: 10, ..plain });
        let both = Padding {
            is_left: true,
            is_zero: true,
            width: 5,
            width_max: Some(3),
        };
        assert_eq!(padding("%-05.3t"), both);
        let cut = Padding {
            width_max: Some(0),
            ..plain
        };
        assert_eq!(padding("%.t"), cut);
    }

    #[test]
    fn what_means_nothing_is_named() {
        for (text, words) in [
            ("%z", "%z is no field"),
            ("x%", "% at the end"),
            ("%5", "% at the end"),
            ("x@", "@ at the end"),
            (r"x\", r"\ at the end"),
            (r"\z", r"\z is no escape"),
            ("%5.5.5t", "%. is no field"),
            ("%100001t", "at most 100000 wide"),
            ("%99999999999999999999999t", "at most 100000 wide"),
        ] {
            let error = parts(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
