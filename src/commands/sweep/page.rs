//! A report of a sweep as an HTML page: what was tried as a table, and as a curve over the weights.

use std::fmt::Write as _;

use crate::html::{HEIGHT, WIDTH, escaped, page, plot};

/// A weight of BM25 and what it is worth.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The weight.
    pub weight: f64,
    /// Its mean.
    pub mean: f64,
    /// Bounds of the mean's interval.
    pub ci95: [f64; 2],
    /// Whether it is in force.
    pub in_force: bool,
}

/// What a page tells.
#[derive(Debug)]
pub struct Page<'a> {
    /// Its title.
    pub title: &'a str,
    /// What the curve is of.
    pub measure: &'a str,
    /// By rising weight.
    pub points: &'a [Point],
    /// The mean of the ranking that has no weights.
    pub rrf: Option<f64>,
    /// The table, its header first.
    pub rows: &'a [Vec<String>],
    /// Paragraphs below it.
    pub told: &'a [String],
}

impl Page<'_> {
    /// The page; whatever files and ids hold is escaped.
    pub fn html(&self) -> String {
        let cells = |row: &Vec<String>, tag: &str| -> String {
            let cells = row
                .iter()
                .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let header = self.rows.first().map(|row| cells(row, "th"));
        let rows: String = self
            .rows
            .iter()
            .skip(1)
            .map(|row| cells(row, "td"))
            .collect();
        let told = self
            .told
            .iter()
            .map(|told| format!("<p>{}</p>\n", escaped(told)));
        let body = format!(
            "<h2>{} over the weight of BM25</h2>\n{}\n<table>\n{}{rows}</table>\n{}",
            escaped(self.measure),
            self.curve(),
            header.unwrap_or_default(),
            told.collect::<String>(),
        );
        page(self.title, &body)
    }

    /// The means as a line, their intervals as a band, what is in force as a full circle.
    fn curve(&self) -> String {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return "<p>Nothing to draw.</p>".to_owned();
        };
        let bounds = self.points.iter().flat_map(|point| point.ci95);
        let (low, high) = bounds
            .chain(self.rrf)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let across = (last.weight - first.weight).max(f64::EPSILON);
        let up = (high - low).max(f64::EPSILON);
        let x = |weight: f64| (weight - first.weight) / across * WIDTH;
        let y = |value: f64| HEIGHT - (value - low) / up * HEIGHT;
        let at = |weight, value| format!("{:.1},{:.1}", x(weight), y(value));
        let above = self.points.iter().map(|it| at(it.weight, it.ci95[1]));
        let below = self.points.iter().rev().map(|it| at(it.weight, it.ci95[0]));
        let band: Vec<String> = above.chain(below).collect();
        let line: Vec<String> = self
            .points
            .iter()
            .map(|it| at(it.weight, it.mean))
            .collect();
        let mut drawn = format!(
            "<polygon points=\"{}\" fill=\"#2b7a78\" opacity=\"0.15\"/>\n\
             <polyline points=\"{}\" fill=\"none\" stroke=\"#2b7a78\" stroke-width=\"2\"/>\n",
            band.join(" "),
            line.join(" ")
        );
        // Writing to a string can't fail.
        for point in self.points {
            let fill = if point.in_force { "#2b7a78" } else { "#fff" };
            let _ = writeln!(
                drawn,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"#2b7a78\">\
                 <title>{}: {:.4} [{:.4}, {:.4}]</title></circle>",
                x(point.weight),
                y(point.mean),
                point.weight,
                point.mean,
                point.ci95[0],
                point.ci95[1]
            );
        }
        if let Some(rrf) = self.rrf {
            let at = y(rrf);
            let _ = writeln!(
                drawn,
                "<line x1=\"0\" y1=\"{at:.1}\" x2=\"{WIDTH}\" y2=\"{at:.1}\" stroke=\"#c47f2b\" \
                 stroke-dasharray=\"6 4\"><title>RRF: {rrf:.4}</title></line>"
            );
        }
        let rrf = if self.rrf.is_some() {
            ", RRF dashed"
        } else {
            ""
        };
        let most = format!("{low:.4} to {high:.4}, 95 % intervals shaded, in force filled{rrf}");
        plot(
            &drawn,
            &first.weight.to_string(),
            &last.weight.to_string(),
            &most,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_drawn_within_the_frame_and_text_is_escaped() {
        let point = |weight, mean, in_force| Point {
            weight,
            mean,
            ci95: [mean - 0.1, mean + 0.1],
            in_force,
        };
        let points = [
            point(0.0, 0.4, false),
            point(0.3, 0.6, true),
            point(1.0, 0.5, false),
        ];
        let rows = [vec!["<b>".to_owned()], vec!["&".to_owned()]];
        let page = Page {
            title: "t",
            measure: "nDCG@10",
            points: &points,
            rrf: Some(0.55),
            rows: &rows,
            told: &["<script>".to_owned()],
        };
        let html = page.html();
        assert_eq!(html.matches("<circle").count(), 3);
        assert!(
            html.contains("cx=\"216.0\"") && html.contains("stroke-dasharray"),
            "{html}"
        );
        // The greatest bound is the top of the frame, the least one its bottom.
        assert!(
            html.contains("216.0,0.0") && html.contains(&format!("0.0,{HEIGHT:.1}")),
            "{html}"
        );
        assert!(html.contains("<th>&lt;b&gt;</th>") && !html.contains("<script>"));
        let empty = Page {
            points: &[],
            ..page
        };
        assert!(empty.html().contains("Nothing to draw"));
    }
}
