//! What all pages share: head, navigation, foot, and the pieces that pages are made of.

use std::borrow::Cow;

use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::assets;
use super::form::Fields;
use super::session::{Role, Visitor};
use crate::output::printable;

/// A part of the console, as the navigation has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The dataflow.
    Overview,
    /// Topics and their records.
    Topics,
    /// Consumer groups.
    Groups,
    /// What could not be processed.
    DeadLetters,
    /// The search playground.
    Search,
    /// What users see.
    Recommendations,
    /// Encoders and rankers.
    Models,
    /// Index generations.
    Rollouts,
    /// How long uploads take to be found.
    Canary,
}

const SECTIONS: [(Section, &str, &str); 9] = [
    (Section::Overview, "/console/", "Overview"),
    (Section::Topics, "/console/topics", "Topics"),
    (Section::Groups, "/console/groups", "Groups"),
    (
        Section::DeadLetters,
        "/console/dead-letters",
        "Dead letters",
    ),
    (Section::Search, "/console/search", "Search"),
    (
        Section::Recommendations,
        "/console/recommendations",
        "Recommendations",
    ),
    (Section::Models, "/console/models", "Models"),
    (Section::Rollouts, "/console/rollouts", "Rollouts"),
    (Section::Canary, "/console/canary", "Canary"),
];

/// A whole page.
pub struct Page(Markup);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        Html(self.0.into_string()).into_response()
    }
}

/// A page with this title and content; `visitor` is absent where nobody is logged in.
pub fn page(
    visitor: Option<&Visitor>,
    section: Option<Section>,
    title: &str,
    content: &Markup,
) -> Page {
    Page(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Millrace" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(assets::STYLE.path());
                script src=(assets::SCRIPT.path()) defer {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    a.brand href="/console/" { "Millrace" }
                    @if visitor.is_some() {
                        nav aria-label="Console" {
                            ul {
                                @for (named, href, name) in SECTIONS {
                                    li {
                                        a href=(href) aria-current=[(Some(named) == section).then_some("page")] { (name) }
                                    }
                                }
                            }
                        }
                    }
                }
                main id="content" tabindex="-1" {
                    h1 { (title) }
                    (content)
                }
                @if let Some(visitor) = visitor {
                    footer {
                        p { (shown(&visitor.who)) ": " (role(visitor.role)) }
                        form method="post" action="/console/logout" {
                            (csrf(visitor))
                            button.quiet type="submit" { "Leave" }
                        }
                    }
                }
            }
        }
    })
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Reader => "may look",
        Role::Operator => "may look and act",
    }
}

/// What each form carries that acts.
pub fn csrf(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.csrf); }
}

/// Fields of an order that is confirmed, as they were given.
pub fn hidden(fields: &Fields) -> Markup {
    html! {
        @for (name, value) in fields.pairs() {
            @if name != "csrf" && !value.is_empty() {
                input type="hidden" name=(name) value=(value);
            }
        }
    }
}

/// The form that does what a page has shown, for whoever may act.
pub fn confirm(
    visitor: &Visitor,
    fields: &Fields,
    action: &str,
    do_it: &Markup,
    leave: (&str, &str),
) -> Markup {
    let (back, leave_it) = leave;
    html! {
        @if visitor.role == Role::Operator {
            form method="post" action=(action) {
                (csrf(visitor))
                (hidden(fields))
                div.buttons {
                    button type="submit" { (do_it) }
                    a href=(back) { (leave_it) }
                }
            }
        } @else {
            p.hint { "You may look and not act." }
        }
    }
}

/// Text of unknown origin: what would turn the direction of writing or is no character at all is shown as
/// its escape. The templates escape the rest.
pub fn shown(text: &str) -> Cow<'_, str> {
    printable(text)
}

/// At most so many characters, and a sign that there is more.
pub fn beginning(text: &str, characters: usize) -> String {
    let shown = printable(text);
    match shown.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown.into_owned(),
    }
}

/// As [`beginning`], keeping lines.
pub fn lines(text: &str, characters: usize) -> String {
    let end = text.char_indices().nth(characters);
    let (kept, more) = end.map_or((text, ""), |(end, _)| (&text[..end], "…"));
    let shown: Vec<Cow<'_, str>> = kept.lines().map(shown).collect();
    shown.join("\n") + more
}

/// A table that scrolls by itself where the screen is narrow: the page does not. `name` says what it is to
/// who can't see it.
pub fn table(name: &str, header: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label=(name) tabindex="0" {
            table {
                thead { tr { @for title in header { th scope="col" { (title) } } } }
                tbody { (rows) }
            }
        }
    }
}

/// A labelled field of one line.
pub fn field(fields: &Fields, name: &str, label: &str, hint: &str) -> Markup {
    let id = format!("field-{name}");
    let hint_id = format!("{id}-hint");
    html! {
        div.field {
            label for=(id) { (label) }
            input id=(id) name=(name) value=(fields.raw(name)) autocomplete="off"
                aria-describedby=[(!hint.is_empty()).then_some(&hint_id)];
            @if !hint.is_empty() { p.hint id=(hint_id) { (hint) } }
        }
    }
}

/// A labelled choice; each option is its value and how it is called.
pub fn choice<'a>(
    fields: &Fields,
    name: &str,
    label: &str,
    options: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Markup {
    let id = format!("field-{name}");
    let chosen = fields.raw(name);
    html! {
        div.field {
            label for=(id) { (label) }
            select id=(id) name=(name) {
                @for (value, title) in options {
                    option value=(value) selected[value == chosen] { (title) }
                }
            }
        }
    }
}

/// A number with spaces between its thousands.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        grouped.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A rate for people; nothing is known after one look.
pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "–/s".to_owned(),
        Some(rate) if rate == 0.0 || rate >= 100.0 => format!("{rate:.0}/s"),
        Some(rate) => format!("{rate:.1}/s"),
    }
}

/// What was made here and holds nothing of a record.
pub fn ours(markup: String) -> Markup {
    PreEscaped(markup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(-1_234), "-1\u{202f}234");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(
            grouped(i64::MIN)
                .chars()
                .filter(char::is_ascii_digit)
                .count(),
            19
        );
        let told = [None, Some(0.0), Some(0.25), Some(1_234.5)].map(rate);
        assert_eq!(told, ["–/s", "0/s", "0.2/s", "1234/s"]);
    }

    #[test]
    fn what_is_hostile_is_shown() {
        let fields = Fields::parse(b"key=%22%3E%3Cscript%3E").unwrap();
        let markup = field(&fields, "key", "Key", "").into_string();
        assert!(
            !markup.contains("<script") && markup.contains("&lt;script"),
            "{markup}"
        );
        assert_eq!(beginning("ab\u{202e}cd", 3), "ab\\…");
        assert_eq!(lines("a\n\u{1b}b", 9), "a\n\\u{1b}b");
        assert_eq!(lines("äöü", 2), "äö…");
    }
}
