//! A report as one HTML file that needs no other: its style, its escaping, the frame of a plot as SVG.

/// Width of a plot.
pub const WIDTH: f64 = 720.0;
/// Height of a plot, without what is written around it.
pub const HEIGHT: f64 = 180.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;\
color:#1a2b34;background:#fff}h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .75rem .25rem 0;\
border-bottom:1px solid #dde4e8;vertical-align:top;overflow-wrap:anywhere}td.n,th.n{text-align:right;\
font-variant-numeric:tabular-nums}svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#52646e}";

/// The page around a body that is HTML already.
pub fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <h1>{title}</h1>\n{body}\n</html>\n"
    )
}

/// A plot with what its axes begin and end with; `drawn` is SVG within [`WIDTH`] and [`HEIGHT`].
pub fn plot(drawn: &str, from: &str, to: &str, most: &str) -> String {
    let below = HEIGHT + 16.0;
    format!(
        "<svg viewBox=\"0 -16 {WIDTH} {}\" role=\"img\">\n<text x=\"0\" y=\"-4\">{}</text>\n{drawn}\
         <line x1=\"0\" y1=\"{HEIGHT}\" x2=\"{WIDTH}\" y2=\"{HEIGHT}\" stroke=\"#aab8bf\"/>\n\
         <text x=\"0\" y=\"{below}\">{}</text>\n\
         <text x=\"{WIDTH}\" y=\"{below}\" text-anchor=\"end\">{}</text>\n</svg>",
        HEIGHT + 40.0,
        escaped(most),
        escaped(from),
        escaped(to),
    )
}

/// Text of unknown origin, to be shown and to do nothing.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Browsers take them for nothing or for other characters.
            c if c.is_control() => escaped.extend(c.escape_default()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_text_and_a_body_is_not() {
        let page = page("<a&\u{7}>", "<p>b</p>");
        assert!(
            page.contains("<h1>&lt;a&amp;\\u{7}&gt;</h1>") && page.contains("<p>b</p>"),
            "{page}"
        );
        assert!(plot("", "'0'", "1", "2").contains("&#39;0&#39;"));
    }
}
