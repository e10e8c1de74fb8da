//! [`Lines`]: how a figure grows with something, broker by broker.

use svg::Document;

use super::bars::tick_text;
use super::canvas::{Anchor, Canvas, colour};
use super::scale::Scale;
use crate::bench_brokers::brokers::Kind;
use crate::bench_brokers::statistics::digits;

/// Panels beside each other.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) title: &'static str,
    /// What grows.
    pub(super) across: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// One figure.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) series: Vec<Series>,
}

/// One broker.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) kind: &'static Kind,
    /// Size and figure.
    pub(super) points: Vec<(f64, f64)>,
}

impl Lines {
    pub(super) fn draw(&self) -> Document {
        let width = MARGIN + self.panels.len() as f64 * (PANEL + MARGIN);
        let mut canvas = Canvas::new(width, TOP + HEIGHT + BOTTOM, self.title);
        for (index, panel) in self.panels.iter().enumerate() {
            let left = MARGIN + index as f64 * (PANEL + MARGIN);
            self.draw_panel(&mut canvas, panel, left);
        }
        canvas.finish()
    }

    fn draw_panel(&self, canvas: &mut Canvas, panel: &Panel, left: f64) {
        let points = || panel.series.iter().flat_map(|series| &series.points);
        let (low, high) = (TOP + HEIGHT, TOP);
        let (first, last) = (left + INSET, left + PANEL - INSET);
        let x = Scale::of(points().map(|point| point.0), first, last);
        let y = Scale::around(points().map(|point| point.1), low, high);
        canvas.text((left, TOP - 14.0), Anchor::Start, panel.title);
        for tick in y.fine_ticks() {
            let place = y.place(tick);
            canvas.rule((left, place), (left + PANEL, place));
            canvas.text((left - 6.0, place + 4.0), Anchor::End, &tick_text(tick));
        }
        for tick in x.ticks() {
            let place = x.place(tick);
            canvas.rule((place, low), (place, low + 5.0));
            canvas.text((place, low + 19.0), Anchor::Middle, &tick_text(tick));
        }
        canvas.text(
            (left + PANEL / 2.0, low + 38.0),
            Anchor::Middle,
            self.across,
        );
        for series in &panel.series {
            let places: Vec<_> = series
                .points
                .iter()
                .map(|&(size, number)| (x.place(size), y.place(number)))
                .collect();
            let colour = colour(series.kind);
            canvas.line(&places, colour);
            for (&(at, height), &(_, number)) in places.iter().zip(&series.points) {
                canvas.text((at, height - 9.0), Anchor::Middle, &digits(number));
            }
            // Below the end that is the lower one, where the line is not in the way.
            if let (Some(&first), Some(&last)) = (places.first(), places.last()) {
                let (anchor, (at, height)) = if first.1 >= last.1 {
                    (Anchor::Start, first)
                } else {
                    (Anchor::End, last)
                };
                let place = (at, height + 19.0);
                canvas.label(place, anchor, colour, series.kind.title);
            }
        }
    }
}

const PANEL: f64 = 330.0;
const MARGIN: f64 = 64.0;
/// Room for numbers at both ends of a line.
const INSET: f64 = 26.0;
const HEIGHT: f64 = 260.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 48.0;
