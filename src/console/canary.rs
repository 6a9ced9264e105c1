//! The canary's last rounds: how long a document took until it was found.

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};

use super::Console;
use super::layout::{self, Page, Section, shown, table};
use super::session::Visitor;
use crate::output::time;
use crate::stack::canary::{Ending, RECENT, Round};

/// Height of the drawing, and width of a round in it.
const HEIGHT: f64 = 80.0;
const BAR: usize = 10;

/// `GET /console/canary`.
pub async fn page(State(console): State<Console>, Extension(visitor): Extension<Visitor>) -> Page {
    let content = match &console.canary {
        None => html! {
            p {
                "No canary runs in this process. " code { "canary.every_seconds = 60" } " in the configuration uploads a document a minute "
                "and measures how long it takes until it is found; " code { "millrace run canary" } " does so in a process of its own."
            }
        },
        Some(canary) => rounds(&canary.recent()),
    };
    layout::page(Some(&visitor), Some(Section::Canary), "Canary", &content)
}

fn rounds(rounds: &[Round]) -> Markup {
    let Some(last) = rounds.last() else {
        return html! { p { "The first round is under way; look again in a moment." } };
    };
    let (mark, ending) = told(last);
    let rows = html! {
        @for round in rounds.iter().rev() {
            @let (mark, ending) = told(round);
            tr {
                th.n scope="row" { (time(Some(round.at_ms))) }
                td data-mark=(mark) { (ending) }
                td.n { @if let Some(seconds) = seconds(round) { (format!("{seconds:.2} s")) } @else { "–" } }
                td.wide { @if let Some(trouble) = trouble(round) { (shown(trouble)) } }
            }
        }
    };
    html! {
        p role="status" {
            "The last document was uploaded at " (time(Some(last.at_ms))) ": "
            span data-mark=(mark) { (ending) }
            @if let Some(seconds) = seconds(last) { " after " (format!("{seconds:.2} s")) }
            "."
        }
        (drawing(rounds))
        (table("Rounds of the canary, the last first", &["Uploaded", "Ended", "Searchable after", "Trouble"], &rows))
        p.hint { "From the beginning of the upload until a search finds it, as " code { "millrace_canary_searchable_seconds" } " counts it." }
    }
}

fn told(round: &Round) -> (&'static str, &'static str) {
    match round.ending {
        Ending::Found { .. } => ("OK", "found"),
        Ending::Late { .. } => ("ERR", "not found in time"),
        Ending::Failed { .. } => ("ERR", "not uploaded"),
    }
}

fn seconds(round: &Round) -> Option<f64> {
    match round.ending {
        Ending::Found { seconds } => Some(seconds),
        Ending::Late { .. } | Ending::Failed { .. } => None,
    }
}

fn trouble(round: &Round) -> Option<&str> {
    match &round.ending {
        Ending::Found { .. } => None,
        Ending::Late { trouble } => trouble.as_deref(),
        Ending::Failed { trouble } => Some(trouble),
    }
}

/// A bar a round; one that was not found is as high as the drawing.
fn drawing(rounds: &[Round]) -> Markup {
    let longest = rounds.iter().filter_map(seconds);
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    // As wide as all that is remembered, so that a round is as wide at the beginning.
    let width = RECENT * BAR;
    let height = |round: &Round| {
        let share = seconds(round).map_or(1.0, |seconds| seconds / longest);
        (share * HEIGHT).max(1.0)
    };
    html! {
        figure.rounds {
            svg viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-labelledby="rounds-title" {
                title id="rounds-title" { "Seconds until the canary was found, by round; the longest " (format!("{longest:.2}")) " s" }
                @for (place, round) in rounds.iter().enumerate() {
                    rect data-mark=(told(round).0) x=(place * BAR + 1) y=(format!("{:.1}", HEIGHT - height(round))) width=(BAR - 2) height=(format!("{:.1}", height(round))) {}
                }
            }
            figcaption.hint { "The longest took " (format!("{longest:.2}")) " s; the last " (rounds.len()) " rounds." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_found_stands_out_and_is_escaped() {
        let all = [
            Ending::Found { seconds: 0.5 },
            Ending::Late { trouble: None },
            Ending::Found { seconds: 1.0 },
            Ending::Failed {
                trouble: "<b>no bucket</b>".to_owned(),
            },
        ];
        let all = all.map(|ending| Round {
            at_ms: 1_700_000_000_000,
            ending,
        });
        let page = rounds(&all).into_string();
        assert!(page.contains("&lt;b&gt;no bucket") && !page.contains("<b>"));
        assert!(
            page.contains(r#"y="40.0" width="8" height="40.0""#),
            "{page}"
        );
        assert_eq!(page.matches(r#"<rect data-mark="ERR""#).count(), 2);
        assert!(rounds(&[]).into_string().contains("under way"));
    }
}
