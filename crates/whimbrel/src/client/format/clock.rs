//! [`Moment`]: a point in time as strftime(3) shows it.

use std::fmt::Write;

use jiff::ZonedDateTime;

/// When a message was shown, in the time zone of this machine or of `TZ`.
#[derive(Clone, Debug)]
pub(crate) struct Moment(ZonedDateTime);

impl Moment {
    pub(crate) fn now() -> Self {
        Self(ZonedDateTime::now())
    }

    #[cfg(test)]
    pub(crate) fn at(text: &str) -> Self {
        Self(text.parse().expect("a time with a zone"))
    }

    /// `%I`: `2016-08-10T09:47:38+0100`.
    pub(super) fn iso8601(&self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S%z").to_string()
    }

    /// `tst` of the JSON forms: the same with microseconds.
    pub(super) fn iso8601_microseconds(&self) -> String {
        let microseconds = self.nanoseconds() / 1_000;
        let second = self.0.strftime("%Y-%m-%dT%H:%M:%S");
        let zone = self.0.strftime("%z");
        format!("{second}.{microseconds:06}{zone}")
    }

    /// `%U`: seconds since 1970, and nanoseconds.
    pub(super) fn unix(&self) -> String {
        let seconds = self.0.timestamp().as_nanosecond().div_euclid(1_000_000_000);
        format!("{seconds}.{:09}", self.nanoseconds())
    }

    /// `@N`.
    pub(super) fn nanoseconds(&self) -> i128 {
        self.0.timestamp().as_nanosecond().rem_euclid(1_000_000_000)
    }

    /// `@` and a letter, as strftime(3) has it in the C locale. A letter that means nothing there is shown after a percent sign,
    /// as the C library does.
    pub(super) fn write(&self, letter: char, out: &mut String) {
        let conversion = match letter {
            'c' => "%a %b %e %H:%M:%S %Y",
            'r' => "%I:%M:%S %p",
            'x' | 'D' => "%m/%d/%y",
            'X' | 'T' => "%H:%M:%S",
            'R' => "%H:%M",
            'F' => "%Y-%m-%d",
            'h' => "%b",
            'n' => return out.push('\n'),
            't' => return out.push('\t'),
            '%' => return out.push('%'),
            _ if PLAIN.contains(letter) => {
                let conversion = ['%', letter].iter().collect::<String>();
                return self.write_conversion(&conversion, out);
            }
            _ => return out.extend(['%', letter]),
        };
        self.write_conversion(conversion, out);
    }

    fn write_conversion(&self, conversion: &str, out: &mut String) {
        // A String takes everything, and each conversion here exists.
        let written = write!(out, "{}", self.0.strftime(conversion));
        debug_assert!(written.is_ok(), "{conversion}");
    }
}

/// Conversions that need no locale.
const PLAIN: &str = "aAbBCdeGgHIjklmMpPsSuUVwWyYzZ";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(letter: char) -> String {
        let moment = Moment::at("2026-03-05T04:07:09.000123456+01:00[Europe/Berlin]");
        let mut out = String::new();
        moment.write(letter, &mut out);
        out
    }

    /// What glibc 2.36 writes for the same moment in the C locale.
    #[test]
    fn conversions_are_those_of_the_c_locale() {
        for (letter, text) in [
            ('a', "Thu"),
            ('A', "Thursday"),
            ('b', "Mar"),
            ('B', "March"),
            ('c', "Thu Mar  5 04:07:09 2026"),
            ('C', "20"),
            ('d', "05"),
            ('D', "03/05/26"),
            ('e', " 5"),
            ('F', "2026-03-05"),
            ('g', "26"),
            ('G', "2026"),
            ('h', "Mar"),
            ('H', "04"),
            ('I', "04"),
            ('j', "064"),
            ('k', " 4"),
            ('l', " 4"),
            ('m', "03"),
            ('M', "07"),
            ('n', "\n"),
            ('p', "AM"),
            ('P', "am"),
            ('r', "04:07:09 AM"),
            ('R', "04:07"),
            ('s', "1772680029"),
            ('S', "09"),
            ('t', "\t"),
            ('T', "04:07:09"),
            ('u', "4"),
            ('U', "09"),
            ('V', "10"),
            ('w', "4"),
            ('W', "09"),
            ('x', "03/05/26"),
            ('X', "04:07:09"),
            ('y', "26"),
            ('Y', "2026"),
            ('z', "+0100"),
            ('Z', "CET"),
            ('%', "%"),
            ('E', "%E"),
            ('f', "%f"),
            ('i', "%i"),
            ('+', "%+"),
            ('é', "%é"),
        ] {
            assert_eq!(written(letter), text, "@{letter}");
        }
    }

    #[test]
    fn moments_have_nine_digits_below_the_second() {
        let moment = Moment::at("2026-03-05T04:07:09.000123456+01:00[Europe/Berlin]");
        assert_eq!(moment.unix(), "1772680029.000123456");
        assert_eq!(moment.iso8601(), "2026-03-05T04:07:09+0100");
        assert_eq!(
            moment.iso8601_microseconds(),
            "2026-03-05T04:07:09.000123+0100"
        );
    }
}
