//! The loss over the steps as an SVG picture.

use std::fmt::Write;

/// Losses by step.
pub(crate) struct LossCurve<'a> {
    pub title: &'a str,
    /// Of each step, in order, from step 1.
    pub train: &'a [f32],
    /// Of the dev split, after so many steps.
    pub dev: &'a [(usize, f32)],
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 48.0;
/// Steps that the line is a mean of.
const WINDOW: usize = 10;

impl LossCurve<'_> {
    /// The picture: a point a step, the mean of the last ten as a line, the dev split as circles.
    pub fn svg(&self) -> String {
        let highest = (self.train.iter().copied())
            .chain(self.dev.iter().map(|(_, loss)| *loss))
            .fold(0.0, f32::max);
        let step = tick(f64::from(highest));
        let top = (f64::from(highest) / step).ceil().max(1.0) * step;
        let steps = self.train.len().max(1) as f64;
        let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / steps;
        let y = |loss: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * loss / top;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
            escape(self.title)
        );
        // Writing into a string can't fail.
        let ticks = (top / step).round() as usize;
        for value in (0..=ticks).map(|tick| tick as f64 * step) {
            let at = y(value);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.2}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0
            );
        }
        for part in 0..=4 {
            let at = steps * f64::from(part) / 4.0;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0}</text>",
                x(at),
                HEIGHT - BOTTOM + 18.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">step</text>",
            x(steps / 2.0),
            HEIGHT - 10.0
        );
        let points = self.train.iter().enumerate();
        for (index, loss) in points.clone() {
            let (x, y) = (x(index as f64 + 1.0), y(f64::from(*loss)));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.5\" fill=\"#9ab\"/>"
            );
        }
        let line: Vec<String> = points
            .map(|(index, _)| {
                let last = &self.train[(index + 1).saturating_sub(WINDOW)..=index];
                let mean = last.iter().sum::<f32>() / last.len() as f32;
                format!("{:.1},{:.1}", x(index as f64 + 1.0), y(f64::from(mean)))
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#246\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (steps, loss) in self.dev {
            let (x, y) = (x(*steps as f64), y(f64::from(*loss)));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"none\" stroke=\"#c40\" \
                 stroke-width=\"2\"><title>dev {loss:.4} after {steps} steps</title></circle>"
            );
        }
        let legend = if self.dev.is_empty() {
            "train: steps, mean of ten"
        } else {
            "train: steps, mean of ten · dev: circles"
        };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"24\" text-anchor=\"end\" fill=\"#555\">{legend}</text>\n</svg>",
            WIDTH - RIGHT
        );
        svg
    }
}

/// A round distance between ticks: 1, 2 or 5 of a power of ten, for about five of them.
fn tick(highest: f64) -> f64 {
    if highest <= 0.0 || !highest.is_finite() {
        return 1.0;
    }
    let rough = highest / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough);
    factor.unwrap_or(10.0) * power
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_judgement_is_drawn() {
        let svg = LossCurve {
            title: "a < b",
            train: &[2.0, 1.0, 0.5],
            dev: &[(2, 0.75), (3, 0.5)],
        }
        .svg();
        assert_eq!(svg.matches("r=\"1.5\"").count(), 3);
        assert_eq!(svg.matches("<title>dev").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.ends_with("</svg>\n"));
        // The first step's loss is the highest: its tick is the top line.
        assert!(svg.contains(&format!("y1=\"{TOP:.1}\"")));
    }

    #[test]
    fn ticks_are_round() {
        for (highest, expected) in [(2.0, 0.5), (0.7, 0.2), (3.1, 1.0), (0.0, 1.0)] {
            assert!(
                (tick(highest) - expected).abs() < 1e-12,
                "{highest}: {}",
                tick(highest)
            );
        }
    }
}
