//! Markdown: text without markup; front matter or the first heading gives the title.

use pulldown_cmark::{Event, HeadingLevel, MetadataBlockKind, Options, Parser, Tag, TagEnd};

use super::ExtractedText;
use super::front_matter::{self, Notation};

/// Reads CommonMark with tables, footnotes and front matter. Never fails: any text is Markdown.
pub(super) fn read(source: &str) -> ExtractedText {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut extracted = ExtractedText::default();
    let mut text = String::with_capacity(source.len());
    let mut metadata: Option<(Notation, String)> = None;
    let mut heading: Option<String> = None;
    let mut first_heading: Option<String> = None;
    for event in Parser::new_ext(source, options) {
        match event {
            Event::Start(Tag::MetadataBlock(kind)) => {
                let notation = match kind {
                    MetadataBlockKind::YamlStyle => Notation::Yaml,
                    MetadataBlockKind::PlusesStyle => Notation::Toml,
                };
                metadata = Some((notation, String::new()));
            }
            Event::End(TagEnd::MetadataBlock(_)) => {
                if let Some((notation, block)) = metadata.take() {
                    front_matter::apply(&block, notation, &mut extracted);
                }
            }
            Event::Start(Tag::Heading {
                level: HeadingLevel::H1,
                ..
            }) if first_heading.is_none() => {
                heading = Some(String::new());
            }
            Event::Text(part)
            | Event::Code(part)
            | Event::InlineMath(part)
            | Event::DisplayMath(part) => {
                if let Some((_, block)) = &mut metadata {
                    block.push_str(&part);
                    continue;
                }
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
                text.push_str(&part);
            }
            Event::SoftBreak => text.push(' '),
            Event::HardBreak | Event::Rule => text.push('\n'),
            Event::End(end) => {
                if matches!(end, TagEnd::Heading(HeadingLevel::H1))
                    && let Some(heading) = heading.take()
                {
                    first_heading = Some(heading);
                }
                match end {
                    TagEnd::Paragraph
                    | TagEnd::Heading(_)
                    | TagEnd::CodeBlock
                    | TagEnd::Item
                    | TagEnd::TableHead
                    | TagEnd::TableRow
                    | TagEnd::FootnoteDefinition
                    | TagEnd::BlockQuote(_)
                    | TagEnd::HtmlBlock => text.push('\n'),
                    TagEnd::TableCell => text.push_str("  "),
                    _ => {}
                }
            }
            // Tags written in Markdown are markup; the words between them arrive as text.
            _ => {}
        }
    }
    extracted.text = text;
    extracted.title = extracted.title.or(first_heading);
    extracted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_goes_and_words_stay() {
        let source = "---\ntitle: Tides\ntags: [sea]\n---\n# Heading *one*\n\nA [link](http://x) and `code`,\nnext <b>line</b>.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- item\n\n```\nlet x;\n```\n";
        let read = read(source);
        assert_eq!(read.title.as_deref(), Some("Tides"));
        assert_eq!(read.tags, ["sea"]);
        let lines: Vec<_> = read
            .text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(
            lines,
            [
                "Heading one",
                "A link and code, next line.",
                "a  b",
                "1  2",
                "item",
                "let x;"
            ]
        );
    }

    #[test]
    fn the_first_heading_is_the_title_where_nothing_else_is() {
        assert_eq!(
            read("## Two\n\n# One\n\n# Other").title.as_deref(),
            Some("One")
        );
        assert_eq!(read("words").title, None);
    }
}
