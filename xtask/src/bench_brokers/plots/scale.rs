//! [`Scale`]: from numbers to places, by their logarithms.

/// Maps numbers to places on a line, each power of ten as far from the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Powers of ten at both ends.
    low: f64,
    high: f64,
    /// Places of both ends.
    from: f64,
    to: f64,
}

impl Scale {
    /// For these numbers, which are above 0, over whole powers of ten, with room before the least.
    pub(super) fn of_decades(numbers: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let exact = Self::of(numbers, from, to);
        let low = (exact.low - ROOM).floor();
        let high = exact.high.ceil().max(low + 1.0);
        Self { low, high, ..exact }
    }

    /// From a little less than the least to a little more than the most of these numbers, which are above 0.
    pub(super) fn around(numbers: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let exact = Self::of(numbers, from, to);
        let (low, high) = (exact.low - AROUND, exact.high + AROUND);
        Self { low, high, ..exact }
    }

    /// From the least to the most of these numbers, which are above 0.
    pub(super) fn of(numbers: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let powers = numbers.map(f64::log10);
        let ends = powers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), power| {
            (low.min(power), high.max(power))
        });
        let (low, high) = match ends {
            (low, high) if low < high => (low, high),
            (low, _) if low.is_finite() => (low, low + 1.0),
            _ => (0.0, 1.0),
        };
        Self {
            low,
            high,
            from,
            to,
        }
    }

    /// Where a number is.
    pub(super) fn place(&self, number: f64) -> f64 {
        let share = (number.log10() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// The powers of ten that it has.
    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        // A little more than the ends: they may have been rounded.
        let first = (self.low - ROUNDING).ceil() as i32;
        let last = (self.high + ROUNDING).floor() as i32;
        (first..=last).map(|power| 10_f64.powi(power))
    }

    /// The same with twice and five times each.
    pub(super) fn fine_ticks(&self) -> impl Iterator<Item = f64> {
        let powers = self.low.floor() as i32..=self.high.floor() as i32;
        let ticks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|tick| tick * 10_f64.powi(power)));
        let (low, high) = (self.low - ROUNDING, self.high + ROUNDING);
        ticks.filter(move |tick| (low..=high).contains(&tick.log10()))
    }
}

/// A part of a power of ten, so that the shortest bar can be seen.
const ROOM: f64 = 0.15;
const AROUND: f64 = 0.25;
const ROUNDING: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_are_as_far_apart() {
        let scale = Scale::of_decades([0.3, 40.0].into_iter(), 100.0, 400.0);
        let ticks: Vec<_> = scale
            .ticks()
            .map(|tick| scale.place(tick).round())
            .collect();
        assert_eq!(ticks, [100.0, 200.0, 300.0, 400.0]);
        assert!(scale.place(0.3) > 100.0 && scale.place(40.0) < 400.0);
    }

    #[test]
    fn an_exact_scale_ends_where_its_numbers_do() {
        let scale = Scale::of([100.0, 19_000.0].into_iter(), 0.0, 10.0);
        assert_eq!(scale.place(100.0), 0.0);
        assert_eq!(scale.place(19_000.0), 10.0);
        assert_eq!(
            scale.ticks().collect::<Vec<_>>(),
            [100.0, 1_000.0, 10_000.0]
        );
    }

    #[test]
    fn the_shortest_has_room_and_one_number_or_none_is_enough() {
        let scale = Scale::of_decades([1.0].into_iter(), 0.0, 10.0);
        assert!(scale.place(1.0) > 0.0);
        let nothing = Scale::of_decades(std::iter::empty(), 0.0, 10.0);
        assert!(nothing.ticks().count() > 1);
    }
}
