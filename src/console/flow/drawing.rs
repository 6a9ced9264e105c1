//! The dataflow as one SVG. Who can't see it has the same figures in the tables below it.

use maud::{Markup, html};

use super::Seen;
use super::stages::{ARROWS, PLACES, STAGES, at};
use crate::console::layout::ours;

const WIDTH: u32 = 172;
const HEIGHT: u32 = 48;
const COLUMN: u32 = 196;
const ROW: u32 = 82;
const MARGIN: u32 = 12;
const COLUMNS: u32 = 6;
const ROWS: u32 = 6;

/// The drawing with these figures in it.
pub fn svg(seen: &Seen) -> Markup {
    let width = 2 * MARGIN + (COLUMNS - 1) * COLUMN + WIDTH;
    let height = 2 * MARGIN + (ROWS - 1) * ROW + HEIGHT;
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-labelledby="flow-title flow-description" {
            title id="flow-title" { "The dataflow" }
            desc id="flow-description" {
                "Topics and the steps between them, with records, rates and lag. The tables below have the same figures."
            }
            defs {
                marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto" {
                    path d="M0 0L8 4L0 8z" {}
                }
            }
            @for (from, to) in ARROWS {
                @if let (Some(from), Some(to)) = (at(from), at(to)) {
                    path d=(arrow(from, to)) marker-end="url(#arrow)" {}
                }
            }
            @for place in PLACES {
                g.topic[place.topic].store[!place.topic] {
                    (card(place.at, None))
                    (line(place.at, 20, "name", None, place.name))
                    @if place.topic {
                        (line(place.at, 38, "figure", Some(&format!("topic {}", place.name)), &seen.topic(place.name)))
                    }
                }
            }
            @for stage in STAGES {
                g.stage {
                    (card(stage.at, Some((stage.name, seen.mark(stage.name)))))
                    (line(stage.at, 20, "name", None, stage.name))
                    (line(stage.at, 38, "figure", Some(&format!("stage {}", stage.name)), &seen.stage(stage.name)))
                }
            }
        }
    }
}

fn left((column, _): (u32, u32)) -> u32 {
    MARGIN + column * COLUMN
}

fn top((_, row): (u32, u32)) -> u32 {
    MARGIN + row * ROW
}

fn card(at: (u32, u32), status: Option<(&str, &str)>) -> Markup {
    html! {
        rect x=(left(at)) y=(top(at)) width=(WIDTH) height=(HEIGHT) rx="5"
            data-status=[status.map(|(name, _)| name)] data-mark=[status.map(|(_, mark)| mark)] {}
    }
}

fn line(at: (u32, u32), below: u32, class: &str, figure: Option<&str>, text: &str) -> Markup {
    html! {
        text x=(left(at) + 10) y=(top(at) + below) class=(class) data-figure=[figure] { (text) }
    }
}

/// From the side that looks there: straight down or up within a column, else sideways with one bend between.
fn arrow(from: (u32, u32), to: (u32, u32)) -> Markup {
    let middle = |at| top(at) + HEIGHT / 2;
    let centre = |at| left(at) + WIDTH / 2;
    let gap = COLUMN - WIDTH;
    ours(match from.0.cmp(&to.0) {
        std::cmp::Ordering::Equal if from.1 < to.1 => {
            format!("M{} {}V{}", centre(from), top(from) + HEIGHT, top(to))
        }
        std::cmp::Ordering::Equal => {
            format!("M{} {}V{}", centre(from), top(from), top(to) + HEIGHT)
        }
        std::cmp::Ordering::Less => {
            let bend = left(to) - gap / 2;
            format!(
                "M{} {}H{bend}V{}H{}",
                left(from) + WIDTH,
                middle(from),
                middle(to),
                left(to)
            )
        }
        std::cmp::Ordering::Greater => {
            let bend = left(to) + WIDTH + gap / 2;
            format!(
                "M{} {}H{bend}V{}H{}",
                left(from),
                middle(from),
                middle(to),
                left(to) + WIDTH
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_leave_by_the_side_that_looks_there() {
        let path = |from, to| arrow(from, to).into_string();
        assert_eq!(path((0, 0), (1, 0)), "M184 36H196V36H208");
        assert_eq!(path((1, 0), (1, 1)), "M294 60V94");
        assert_eq!(path((5, 4), (3, 4)), "M992 364H784V364H772");
    }
}
