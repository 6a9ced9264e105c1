//! HTML as a browser reads it (html5ever), without what no reader of the page would quote.

use scraper::node::Node;
use scraper::{ElementRef, Html, Selector};

use super::ExtractedText;
use super::published::parse_published;

/// Reads one HTML document. Never fails: the standard gives every input a tree.
pub(super) fn read(source: &str) -> ExtractedText {
    let document = Html::parse_document(source);
    let first = |selector: &str| select(selector).and_then(|s| document.select(&s).next());
    let meta = |names: &[&str]| {
        names.iter().find_map(|name| {
            first(&format!(
                r#"meta[name="{name}" i], meta[property="{name}" i]"#
            ))
            .and_then(|element| element.value().attr("content"))
            .map(str::trim)
            .filter(|content| !content.is_empty())
            .map(str::to_owned)
        })
    };
    let mut extracted = ExtractedText {
        title: first("title")
            .map(|element| element.text().collect::<String>())
            .filter(|title| !title.trim().is_empty())
            .or_else(|| meta(&["og:title"]))
            .or_else(|| first("h1").map(|element| element.text().collect())),
        language: document
            .root_element()
            .value()
            .attr("lang")
            .map(str::to_owned),
        categories: meta(&["article:section"]).into_iter().collect(),
        tags: meta(&["keywords"])
            .map(|keywords| keywords.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        published_at_ms: meta(&["article:published_time", "date", "dc.date", "datePublished"])
            .and_then(|time| parse_published(&time)),
        text: String::new(),
    };
    // `main` is what the author calls the content; a page without it is read whole.
    for root in ["main, [role=main]", "body"] {
        if let Some(element) = first(root) {
            extracted.text = visible_text(element);
            if !extracted.text.trim().is_empty() {
                break;
            }
        }
    }
    extracted
}

fn select(selector: &str) -> Option<Selector> {
    Selector::parse(selector).ok()
}

/// Text in document order, a line feed around block elements. Iterative: hostile pages nest
/// deeper than a stack is long.
fn visible_text(root: ElementRef<'_>) -> String {
    use ego_tree::iter::Edge;
    let mut text = String::new();
    let mut skipping: Option<ego_tree::NodeId> = None;
    for edge in root.traverse() {
        match edge {
            Edge::Open(node) => match node.value() {
                Node::Element(element) if skipping.is_none() => {
                    if is_hidden(element.name()) {
                        skipping = Some(node.id());
                    } else if is_block(element.name()) {
                        end_line(&mut text);
                    }
                }
                Node::Text(part) if skipping.is_none() => push_collapsed(&mut text, part),
                _ => {}
            },
            Edge::Close(node) => {
                if skipping == Some(node.id()) {
                    skipping = None;
                } else if skipping.is_none()
                    && node
                        .value()
                        .as_element()
                        .is_some_and(|element| is_block(element.name()))
                {
                    end_line(&mut text);
                }
            }
        }
    }
    text
}

fn end_line(text: &mut String) {
    if text.ends_with(' ') {
        text.pop();
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

fn push_collapsed(text: &mut String, part: &str) {
    for c in part.chars() {
        if !c.is_whitespace() {
            text.push(c);
        } else if !text.is_empty() && !text.ends_with([' ', '\n']) {
            text.push(' ');
        }
    }
}

fn is_hidden(name: &str) -> bool {
    matches!(
        name,
        "script"
            | "style"
            | "noscript"
            | "template"
            | "svg"
            | "math"
            | "iframe"
            | "object"
            | "nav"
            | "select"
            | "button"
            | "textarea"
            | "head"
    )
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "blockquote"
            | "br"
            | "caption"
            | "dd"
            | "details"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "header"
            | "hr"
            | "li"
            | "main"
            | "ol"
            | "p"
            | "pre"
            | "section"
            | "summary"
            | "table"
            | "td"
            | "th"
            | "tr"
            | "ul"
    )
}

/// The charset of a `<meta>` in the first 1,024 bytes, where the standard wants it.
pub(super) fn declared_charset(bytes: &[u8]) -> Option<String> {
    let head = &bytes[..bytes.len().min(1024)];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut rest = head.as_str();
    while let Some(start) = rest.find("<meta") {
        rest = &rest[start + 5..];
        let tag = &rest[..rest.find('>').unwrap_or(rest.len())];
        if let Some(at) = tag.find("charset") {
            let value = tag[at + 7..]
                .trim_start()
                .strip_prefix('=')
                .map(str::trim_start);
            let label: String = value
                .unwrap_or_default()
                .trim_start_matches(['"', '\''])
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.'))
                .collect();
            if !label.is_empty() {
                return Some(label);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_its_title_language_and_visible_text() {
        let read = read(
            r#"<!doctype html><html lang="fr"><head><title> La mer </title>
            <meta name="Keywords" content="mer, plage"><meta property="article:section" content="Voyage">
            <meta property="article:published_time" content="2024-05-01T12:00:00Z">
            <style>p{}</style><script>var x = "hidden";</script></head>
            <body><nav>Menu</nav><h1>Titre</h1><p>Un <b>deux</b>
            trois</p><table><tr><td>a</td><td>b</td></tr></table>fin<script>no()</script></body></html>"#,
        );
        assert_eq!(read.title.as_deref(), Some(" La mer "));
        assert_eq!(read.language.as_deref(), Some("fr"));
        assert_eq!(read.tags, ["mer", " plage"]);
        assert_eq!(read.categories, ["Voyage"]);
        assert_eq!(read.published_at_ms, Some(1_714_564_800_000));
        assert_eq!(read.text.trim(), "Titre\nUn deux trois\na\nb\nfin");
    }

    #[test]
    fn main_is_preferred_and_an_empty_one_is_not() {
        assert_eq!(
            read("<body>around<main>content</main></body>").text.trim(),
            "content"
        );
        assert_eq!(
            read("<body>around<main> </main></body>").text.trim(),
            "around"
        );
    }

    #[test]
    fn deep_nesting_does_not_end_the_stack() {
        let source = format!("<body>{}deep", "<div>".repeat(5_000));
        assert_eq!(read(&source).text.trim(), "deep");
    }

    #[test]
    fn both_spellings_of_the_meta_charset_are_found() {
        assert_eq!(
            declared_charset(b"<META CHARSET=\"GBK\">").as_deref(),
            Some("gbk")
        );
        let old =
            b"<meta name=x><meta http-equiv='Content-Type' content='text/html; charset=shift_jis'>";
        assert_eq!(declared_charset(old).as_deref(), Some("shift_jis"));
        assert_eq!(declared_charset(b"<p>charset=x"), None);
    }
}
