//! What a person and what a program reads: standard output, standard error, progress.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use millrace_retry::error_causes;
use serde::Serialize;

use crate::cli::UsageError;

/// How a command tells its result.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON on standard output where `json` is set, text for people otherwise.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program reads standard output.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: `value` as one JSON object, or the text that `text` makes.
    ///
    /// # Errors
    /// Standard output can't be written to.
    pub fn result<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        let line = if self.json {
            serde_json::to_string(value)?
        } else {
            text()
        };
        self.line(&line)
    }

    /// Prints a line on standard output; a reader that went away (`| head`) is no error.
    ///
    /// # Errors
    /// Standard output can't be written to.
    pub fn line(self, line: &str) -> anyhow::Result<()> {
        match writeln!(std::io::stdout(), "{line}") {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Prints an error with its chain of causes on standard error.
    pub fn error(self, error: &anyhow::Error) {
        let causes = error_causes(error.as_ref());
        let label = if use_colour() {
            "\u{1b}[1;31merror\u{1b}[0m"
        } else {
            "error"
        };
        let mut message = format!("{label}: {}\n", causes.first().map_or("", String::as_str));
        for cause in causes.iter().skip(1) {
            message.push_str(&format!("  because: {cause}\n"));
        }
        // `eprint` would panic where standard error is a file on a full disk, and the exit code be another.
        let _ = std::io::stderr().write_all(message.as_bytes());
    }

    /// A bar on standard error with rate and ETA, hidden where nobody looks.
    /// `unit` is what is counted, such as `docs`.
    pub fn progress(self, total: Option<u64>, unit: &str) -> ProgressBar {
        let counts =
            format!("[{{bar:30}}] {{pos}}/{{len}} {unit} · {{per_sec}} · {{eta}} left {{msg}}");
        self.styled(total, &counts)
    }

    /// The same for bytes.
    pub fn byte_progress(self, total: Option<u64>) -> ProgressBar {
        self.styled(
            total,
            "[{bar:30}] {bytes}/{total_bytes} · {binary_bytes_per_sec} · {eta} left {msg}",
        )
    }

    /// Says on standard error what is waited for, of which nobody can tell how far it is: with the time
    /// since then, or in one line where nobody looks.
    pub fn working(self, what: &str) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            eprintln!("{what}");
        }
        let bar = self.styled(None, "{msg} · {elapsed}");
        bar.set_message(what.to_owned());
        bar
    }

    fn styled(self, total: Option<u64>, counts: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        let template = format!("{{spinner}} {counts}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// Columns padded to their widest cell; the first row is the header.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        })
        .map(Option::unwrap_or_default)
        .collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:<width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Text of unknown origin for a terminal: what would move the cursor, change colours or turn the
/// direction of writing is shown as its escape instead.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| !c.is_control() && !TURNS_WRITING.contains(&c);
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::new(), |mut shown, c| {
        if is_harmless(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
        shown
    });
    Cow::Owned(escaped)
}

/// Unicode's bidirectional controls: with them a name reads as another one.
const TURNS_WRITING: [char; 12] = [
    '\u{061c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}',
    '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
];

/// A time for people: RFC 3339, to the second.
pub fn time(ms: Option<i64>) -> String {
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "–".to_owned(), |time| format!("{time:.0}"))
}

/// How many there are of what `noun` names, which takes an s.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Refuses a file that is there, unless it may be replaced.
///
/// # Errors
/// It is there and may not.
pub fn refuse_existing(path: &Path, force: bool) -> Result<(), UsageError> {
    if path.exists() && !force {
        let refusal = format!("{} is there already; --force replaces it", path.display());
        return Err(UsageError(refusal));
    }
    Ok(())
}

/// Asks a yes-or-no question on the terminal; `yes` is the answer given beforehand.
///
/// # Errors
/// Nobody can be asked, or the answer can't be read.
pub fn confirmed(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let refusal =
            format!("{question} Nobody can be asked here: say --yes, or --dry-run to look");
        return Err(UsageError(refusal).into());
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

fn use_colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_hostile_reaches_the_terminal() {
        use super::printable;
        assert_eq!(printable("Tîtle – 文書"), "Tîtle – 文書");
        assert_eq!(printable("\u{1b}[2J\r\n"), "\\u{1b}[2J\\r\\n");
        assert_eq!(printable("a\u{9b}31m\u{202e}b"), "a\\u{9b}31m\\u{202e}b");
    }

    #[test]
    fn columns_line_up() {
        let rows =
            [["a", "long header"], ["longer", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(super::table(&rows), "a       long header\nlonger  x");
    }
}
