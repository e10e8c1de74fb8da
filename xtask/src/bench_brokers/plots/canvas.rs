//! [`Canvas`]: what all plots are drawn with. Colours and grey text can be read on white and on black.

use svg::Document;
use svg::node::element::{Circle, Line, Polyline, Rectangle, Text};

use crate::bench_brokers::brokers::Kind;

/// A picture that is being drawn, of a certain width.
#[derive(Debug)]
pub(super) struct Canvas {
    document: Document,
}

/// How a text lies at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let document = Document::new()
            .set("viewBox", (0, 0, width, height))
            .set("width", width)
            .set("height", height)
            .set("role", "img")
            .set(
                "font-family",
                "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif",
            )
            .set("font-size", FONT);
        let mut canvas = Self { document };
        canvas.add(
            Text::new(title)
                .set("x", 12)
                .set("y", 24)
                .set("font-size", 15)
                .set("font-weight", 600)
                .set("fill", GREY),
        );
        canvas
    }

    pub(super) fn finish(self) -> Document {
        self.document
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        self.add(Self::text_at(x, y, anchor, text).set("fill", GREY));
    }

    /// In bold, and in a colour.
    pub(super) fn label(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: &str, text: &str) {
        let label = Self::text_at(x, y, anchor, text);
        self.add(label.set("fill", colour).set("font-weight", 600));
    }

    pub(super) fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        self.add(
            Rectangle::new()
                .set("x", rounded(x))
                .set("y", rounded(y))
                .set("width", rounded(width))
                .set("height", rounded(height))
                .set("rx", 1.5)
                .set("fill", colour),
        );
    }

    pub(super) fn rule(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.add(
            Line::new()
                .set("x1", rounded(x1))
                .set("y1", rounded(y1))
                .set("x2", rounded(x2))
                .set("y2", rounded(y2))
                .set("stroke", GREY)
                .set("stroke-opacity", 0.3),
        );
    }

    /// A line through these points, with a dot at each.
    pub(super) fn line(&mut self, points: &[(f64, f64)], colour: &str) {
        let places: Vec<_> = points
            .iter()
            .map(|&(x, y)| format!("{},{}", rounded(x), rounded(y)))
            .collect();
        self.add(
            Polyline::new()
                .set("points", places.join(" "))
                .set("fill", "none")
                .set("stroke", colour)
                .set("stroke-width", 2.5),
        );
        for &(x, y) in points {
            let dot = Circle::new().set("cx", rounded(x)).set("cy", rounded(y));
            self.add(dot.set("r", 3.5).set("fill", colour));
        }
    }

    fn text_at(x: f64, y: f64, anchor: Anchor, text: &str) -> Text {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        Text::new(text)
            .set("x", rounded(x))
            .set("y", rounded(y))
            .set("text-anchor", anchor)
    }

    fn add(&mut self, node: impl Into<Box<dyn svg::Node>>) {
        svg::Node::append(&mut self.document, node);
    }
}

/// The colour of a broker: a strong one for Whimbrel, and quieter ones for others.
pub(super) fn colour(kind: &Kind) -> &'static str {
    match kind.name {
        "mosquitto" => "#b8863b",
        "nats" => "#5c9a6b",
        "rumqttd" => "#b5656b",
        "aedes" => "#8d7aae",
        _ => "#2f81f7",
    }
}

/// Tenths of a pixel are enough.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

pub(super) const FONT: f64 = 12.0;
/// As far from white as from black.
const GREY: &str = "#7d8590";
