//! [`Bars`]: brokers beside each other in several workloads.

use svg::Document;

use super::canvas::{Anchor, Canvas, FONT, colour};
use super::scale::Scale;
use crate::bench_brokers::brokers::Kind;
use crate::bench_brokers::statistics::digits;

/// Groups of bars over one scale.
#[derive(Debug)]
pub(super) struct Bars {
    pub(super) title: &'static str,
    pub(super) groups: Vec<Group>,
}

/// One figure of one workload.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) workload: &'static str,
    pub(super) figure: &'static str,
    pub(super) bars: Vec<Bar>,
}

/// One broker.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) kind: &'static Kind,
    pub(super) number: f64,
    pub(super) is_clean: bool,
}

impl Bars {
    pub(super) fn draw(&self) -> Document {
        let rows: usize = self.groups.iter().map(|group| group.bars.len()).sum();
        let height = TOP + rows as f64 * ROW + self.groups.len() as f64 * GAP + BOTTOM;
        let mut canvas = Canvas::new(WIDTH, height, self.title);
        self.draw_legend(&mut canvas);
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let scale = Scale::of_decades(bars.map(|bar| bar.number), LEFT, WIDTH - RIGHT);
        for tick in scale.ticks() {
            let x = scale.place(tick);
            canvas.rule((x, TOP - GAP / 2.0), (x, height - BOTTOM));
            canvas.text(
                (x, height - BOTTOM + 16.0),
                Anchor::Middle,
                &tick_text(tick),
            );
        }
        let mut y = TOP;
        for group in &self.groups {
            let middle = y + group.bars.len() as f64 * ROW / 2.0;
            canvas.label(
                (LEFT - 10.0, middle - 2.0),
                Anchor::End,
                INK,
                group.workload,
            );
            canvas.text((LEFT - 10.0, middle + FONT), Anchor::End, group.figure);
            for bar in &group.bars {
                let end = scale.place(bar.number);
                canvas.bar(LEFT, y + 1.0, end - LEFT, ROW - 2.0, colour(bar.kind));
                let mark = if bar.is_clean { "" } else { " †" };
                let text = digits(bar.number) + mark;
                let place = (end + 5.0, y + ROW - 4.0);
                if bar.kind.is_own() {
                    canvas.label(place, Anchor::Start, colour(bar.kind), &text);
                } else {
                    canvas.text(place, Anchor::Start, &text);
                }
                y += ROW;
            }
            y += GAP;
        }
        canvas.finish()
    }

    fn draw_legend(&self, canvas: &mut Canvas) {
        let mut kinds: Vec<&Kind> = Vec::new();
        for bar in self.groups.iter().flat_map(|group| &group.bars) {
            if !kinds.iter().any(|kind| kind.name == bar.kind.name) {
                kinds.push(bar.kind);
            }
        }
        let mut x = LEFT;
        for kind in kinds {
            canvas.bar(x, 37.0, 12.0, 10.0, colour(kind));
            canvas.text((x + 17.0, 46.0), Anchor::Start, kind.title);
            x += 34.0 + kind.title.chars().count() as f64 * LETTER;
        }
        if self
            .groups
            .iter()
            .flat_map(|group| &group.bars)
            .any(|bar| !bar.is_clean)
        {
            canvas.text((x, 46.0), Anchor::Start, "† not all runs were right");
        }
    }
}

/// A power of ten in few letters.
pub(super) fn tick_text(tick: f64) -> String {
    match tick {
        _ if tick >= 1e6 => format!("{} M", digits_of(tick / 1e6)),
        _ if tick >= 1e3 => format!("{} k", digits_of(tick / 1e3)),
        _ => digits_of(tick),
    }
}

fn digits_of(tick: f64) -> String {
    format!("{tick:.3}")
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

const WIDTH: f64 = 880.0;
const LEFT: f64 = 270.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 68.0;
const BOTTOM: f64 = 30.0;
const ROW: f64 = 15.0;
const GAP: f64 = 12.0;
/// The mean width of a letter.
const LETTER: f64 = 6.6;
/// For what is to be read first: grey too, as it lies on white or on black.
const INK: &str = "#7d8590";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        let ticks = [0.01, 0.1, 1.0, 1_000.0, 10_000.0, 1e6];
        let texts: Vec<_> = ticks.into_iter().map(tick_text).collect();
        assert_eq!(texts, ["0.01", "0.1", "1", "1 k", "10 k", "1 M"]);
    }
}
