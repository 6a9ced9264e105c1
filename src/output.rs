//! What a person and what a program reads: standard output, standard error, progress.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

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
        let mut causes: Vec<String> = Vec::new();
        for cause in error.chain().map(ToString::to_string) {
            // Some libraries repeat their source's text in their own.
            if !causes.iter().any(|earlier| earlier.contains(&cause)) {
                causes.push(cause);
            }
        }
        let label = if use_colour() {
            "\u{1b}[1;31merror\u{1b}[0m"
        } else {
            "error"
        };
        let mut message = format!("{label}: {}\n", causes.first().map_or("", String::as_str));
        for cause in causes.iter().skip(1) {
            message.push_str(&format!("  because: {cause}\n"));
        }
        eprint!("{message}");
    }

    /// A bar on standard error with rate and ETA, hidden where nobody looks.
    /// `unit` is what is counted, such as `docs`.
    pub fn progress(self, total: Option<u64>, unit: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        let counts = format!("{{pos}}/{{len}} {unit} · {{per_sec}} · {{eta}} left {{msg}}");
        self.styled(bar, &counts)
    }

    /// The same for bytes.
    pub fn byte_progress(self, total: Option<u64>) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        self.styled(
            bar,
            "{bytes}/{total_bytes} · {binary_bytes_per_sec} · {eta} left {msg}",
        )
    }

    fn styled(self, bar: ProgressBar, counts: &str) -> ProgressBar {
        let template = format!("{{spinner}} [{{bar:30}}] {counts}");
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

fn use_colour() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up() {
        let rows =
            [["a", "long header"], ["longer", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(super::table(&rows), "a       long header\nlonger  x");
    }
}
