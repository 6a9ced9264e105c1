//! `millrace lag --watch`: the groups on a terminal, the ones in trouble first.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use millrace_kafka::LagStatus;
use millrace_retry::error_chain;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table, TableState};
use tokio::sync::mpsc;

use super::columns::{Column, Columns, SPARKS, end_of};
use crate::cli::UsageError;
use crate::lag::{Partition, Report, Watching};
use crate::output::{Output, printable};

/// From nothing to the most that was seen.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Looks until the user leaves, or for ever where a program reads.
pub async fn run(watching: &mut Watching, every: Duration, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        // The first look fails where nothing is right; a later one where the brokers are away for a while.
        let mut looked: anyhow::Result<Report> = Ok(watching.look().await?);
        loop {
            match looked {
                Ok(report) => output.line(&serde_json::to_string(&report)?)?,
                Err(error) => tracing::warn!("not seen: {}", error_chain(error.as_ref())),
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
            looked = watching.look().await;
        }
    }
    if !std::io::stdout().is_terminal() {
        let message = "--watch draws on a terminal, and standard output is none; add --json for a line a look";
        return Err(UsageError(message.to_owned()).into());
    }
    // Before the terminal is changed: an error is to be read.
    let first = watching.look().await?;
    let mut terminal = ratatui::try_init()?;
    let mut screen = Screen::new(every);
    screen.seen(first);
    let done = draw_until_quit(&mut terminal, &mut screen, watching).await;
    ratatui::restore();
    done
}

async fn draw_until_quit(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    watching: &mut Watching,
) -> anyhow::Result<()> {
    let mut keys = keys();
    let mut looks = tokio::time::interval(screen.every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    looks.reset();
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        let looking = async {
            looks.tick().await;
            watching.look().await
        };
        tokio::pin!(looking);
        // A look at brokers that are away takes long; keys are not to wait for it.
        let looked = loop {
            tokio::select! {
                looked = &mut looking => break looked,
                key = keys.recv() => match key {
                    Some(Key::Quit) | None => return Ok(()),
                    Some(key) => screen.press(&key),
                },
            }
            terminal.draw(|frame| screen.draw(frame))?;
        };
        match looked {
            Ok(report) => screen.seen(report),
            Err(error) => screen.failed = Some(error_chain(error.as_ref())),
        }
    }
}

enum Key {
    Quit,
    Up,
    Down,
    Sort,
    Redraw,
}

/// What is pressed, read on a thread of its own: reading blocks.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Resize(..) => Key::Redraw,
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                        Key::Quit
                    }
                    KeyCode::Char('s') => Key::Sort,
                    KeyCode::Up | KeyCode::Char('k') => Key::Up,
                    KeyCode::Down | KeyCode::Char('j') => Key::Down,
                    _ => continue,
                },
                _ => continue,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Trouble,
    Name,
}

struct Screen {
    every: Duration,
    rows: Vec<Partition>,
    groups: usize,
    /// Lags of each partition, the oldest first.
    sparks: BTreeMap<(String, String, i32), VecDeque<i64>>,
    order: Order,
    table: TableState,
    looked: Instant,
    failed: Option<String>,
    colours: bool,
}

impl Screen {
    fn new(every: Duration) -> Self {
        Self {
            every,
            rows: Vec::new(),
            groups: 0,
            sparks: BTreeMap::new(),
            order: Order::Trouble,
            table: TableState::default().with_selected(0),
            looked: Instant::now(),
            failed: None,
            colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    fn seen(&mut self, report: Report) {
        let mut sparks = std::mem::take(&mut self.sparks);
        for partition in &report.partitions {
            let key = key(partition);
            let mut lags = sparks.remove(&key).unwrap_or_default();
            if lags.len() == SPARKS {
                lags.pop_front();
            }
            lags.push_back(partition.lag);
            self.sparks.insert(key, lags);
        }
        self.rows = report.partitions;
        self.groups = report.groups.len();
        self.looked = Instant::now();
        self.failed = None;
        self.sort();
    }

    fn press(&mut self, key: &Key) {
        match key {
            Key::Up => self.table.select_previous(),
            Key::Down => self.table.select_next(),
            Key::Sort => {
                self.order = match self.order {
                    Order::Trouble => Order::Name,
                    Order::Name => Order::Trouble,
                };
                self.sort();
            }
            Key::Quit | Key::Redraw => {}
        }
    }

    fn sort(&mut self) {
        match self.order {
            Order::Trouble => self.rows.sort_by(|a, b| {
                let trouble = (b.status, b.lag).cmp(&(a.status, a.lag));
                trouble.then_with(|| key(a).cmp(&key(b)))
            }),
            Order::Name => self.rows.sort_by_key(key),
        }
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [title, failed, body, help] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(u16::from(self.failed.is_some())),
            Constraint::Min(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Line::raw(self.title()), title);
        if let Some(text) = &self.failed {
            frame.render_widget(
                Line::styled(text.as_str(), self.style(LagStatus::Stop)),
                failed,
            );
        }
        let statuses = self
            .rows
            .iter()
            .map(|row| row.status_text().chars().count());
        let columns = Columns::of(body.width, statuses.max().unwrap_or(0));
        let header = Row::new(columns.shown.iter().map(|column| column.name()))
            .style(Style::new().add_modifier(Modifier::BOLD));
        let rows: Vec<Row<'static>> = self
            .rows
            .iter()
            .map(|row| self.row(row, &columns))
            .collect();
        let widths: Vec<Constraint> = columns.widths().map(Constraint::Length).collect();
        let table = Table::new(rows, widths)
            .header(header)
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_stateful_widget(table, body, &mut self.table);
        frame.render_widget(Line::raw("q quit · s sort · ↑↓ move"), help);
    }

    fn title(&self) -> String {
        let by = match self.order {
            Order::Trouble => "by trouble",
            Order::Name => "by name",
        };
        let groups = match self.groups {
            1 => "1 group".to_owned(),
            groups => format!("{groups} groups"),
        };
        format!(
            "millrace lag · {groups} · every {:.1} s · seen {:.0} s ago · {by}",
            self.every.as_secs_f64(),
            self.looked.elapsed().as_secs_f64(),
        )
    }

    fn row(&self, row: &Partition, columns: &Columns) -> Row<'static> {
        let cell = |column: &Column| match column {
            Column::Status => Cell::new(row.status_text()).style(self.style(row.status)),
            Column::Group => Cell::new(end_of(&printable(&row.group), columns.name)),
            Column::Topic => Cell::new(end_of(&printable(&row.topic), columns.name)),
            Column::Partition => Cell::new(row.partition.to_string()),
            Column::Lag => Cell::new(row.lag.to_string()),
            Column::Seconds => Cell::new(row.seconds()),
            Column::Rate if row.rate_per_second < 10.0 => {
                Cell::new(format!("{:.1}", row.rate_per_second))
            }
            Column::Rate => Cell::new(format!("{:.0}", row.rate_per_second)),
            Column::Left => Cell::new(row.left()),
            Column::Sparks => {
                let sparks = self.sparks.get(&key(row)).map(sparkline);
                Cell::new(sparks.unwrap_or_default())
            }
        };
        Row::new(columns.shown.iter().map(cell))
    }

    fn style(&self, status: LagStatus) -> Style {
        if !self.colours {
            return Style::new();
        }
        Style::new().fg(match status {
            LagStatus::Ok => Color::Green,
            LagStatus::Warn => Color::Yellow,
            LagStatus::Rewind | LagStatus::Stall | LagStatus::Stop => Color::Red,
        })
    }
}

fn key(partition: &Partition) -> (String, String, i32) {
    let Partition {
        group,
        topic,
        partition,
        ..
    } = partition;
    (group.clone(), topic.clone(), *partition)
}

/// A bar a lag, the greatest as high as a line.
fn sparkline(lags: &VecDeque<i64>) -> String {
    let most = lags.iter().copied().max().unwrap_or(0).max(1);
    let bar = |&lag: &i64| {
        let step = usize::try_from(lag.saturating_mul(7) / most).unwrap_or(0);
        BARS[step.min(BARS.len() - 1)]
    };
    lags.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn partition(group: &str, partition: i32, lag: i64, status: LagStatus) -> Partition {
        Partition {
            group: group.to_owned(),
            topic: "documents".to_owned(),
            partition,
            paused: None,
            current_offset: 0,
            end_offset: lag,
            lag,
            lag_seconds: Some(1.5),
            rate_per_second: 10.0,
            eta_seconds: Some(30.0),
            member: None,
            client_id: None,
            host: None,
            status,
        }
    }

    fn report(partitions: Vec<Partition>) -> Report {
        Report {
            partitions,
            groups: Vec::new(),
        }
    }

    fn drawn(screen: &mut Screen) -> String {
        drawn_at(screen, 110)
    }

    fn drawn_at(screen: &mut Screen, width: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 8)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn trouble_comes_first_and_a_partition_keeps_its_line_over_time() {
        let mut screen = Screen::new(Duration::from_secs(2));
        for lag in [0, 40, 80] {
            screen.seen(report(vec![
                partition("fine", 0, 0, LagStatus::Ok),
                partition("gone", 1, lag, LagStatus::Stop),
            ]));
        }
        let text = drawn(&mut screen);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("by trouble"), "{text}");
        assert!(
            lines[2].contains("STOP") && lines[2].contains("▁▄█"),
            "{text}"
        );
        assert!(lines[3].contains("fine"), "{text}");
        screen.press(&Key::Sort);
        let text = drawn(&mut screen);
        assert!(
            text.lines()
                .nth(2)
                .is_some_and(|line| line.contains("fine")),
            "{text}"
        );
    }

    #[test]
    fn a_narrow_terminal_tells_who_it_is_before_all_else() {
        let mut screen = Screen::new(Duration::from_secs(2));
        screen.seen(report(vec![partition(
            "millrace.vectorizer.new",
            0,
            7,
            LagStatus::Stall,
        )]));
        let text = drawn_at(&mut screen, 80);
        assert!(
            text.contains("vectorizer.new") && text.contains("SECONDS"),
            "{text}"
        );
        assert!(!text.contains("OVER TIME"), "{text}");
        let text = drawn_at(&mut screen, 40);
        assert!(
            text.contains("STALL") && text.contains("…izer.new"),
            "{text}"
        );
        let text = drawn_at(&mut screen, 140);
        assert!(
            text.contains("millrace.vectorizer.new") && text.contains("OVER TIME"),
            "{text}"
        );
        drawn_at(&mut screen, 5);
    }

    #[test]
    fn a_look_that_failed_is_told_and_the_last_one_stays() {
        let mut screen = Screen::new(Duration::from_secs(2));
        screen.seen(report(vec![partition("fine", 0, 0, LagStatus::Ok)]));
        screen.failed = Some("brokers away".to_owned());
        let text = drawn(&mut screen);
        assert!(
            text.contains("brokers away") && text.contains("fine"),
            "{text}"
        );
    }
}
