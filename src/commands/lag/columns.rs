//! Which columns a terminal has room for: who it is and how far behind comes before everything else.

/// Looks that a sparkline shows.
pub const SPARKS: usize = 24;

/// What a line tells, from left to right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    Status,
    Group,
    Topic,
    Partition,
    Lag,
    Seconds,
    Rate,
    Left,
    Sparks,
}

impl Column {
    const ALWAYS: [Self; 5] = [
        Self::Status,
        Self::Group,
        Self::Topic,
        Self::Partition,
        Self::Lag,
    ];
    /// Where there is room, the first ones first.
    const WITH_ROOM: [Self; 4] = [Self::Seconds, Self::Left, Self::Rate, Self::Sparks];

    /// As its header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "STATUS",
            Self::Group => "GROUP",
            Self::Topic => "TOPIC",
            Self::Partition => "P",
            Self::Lag => "LAG",
            Self::Seconds => "SECONDS",
            Self::Rate => "RECORDS/S",
            Self::Left => "LEFT",
            Self::Sparks => "LAG OVER TIME",
        }
    }
}

/// Characters of a group's or a topic's name for which something else is left out.
const NAME_CHARS: usize = 16;

/// What fits a terminal's width.
pub struct Columns {
    /// From left to right.
    pub shown: Vec<Column>,
    status: usize,
    /// Characters of a group's and of a topic's name.
    pub name: usize,
}

impl Columns {
    /// Of a terminal so wide, where the longest status has `status` characters.
    pub fn of(width: u16, status: usize) -> Self {
        let mut columns = Self {
            shown: Column::ALWAYS.to_vec(),
            status: status.max(Column::Status.name().len()),
            name: NAME_CHARS,
        };
        for column in Column::WITH_ROOM {
            columns.shown.push(column);
            if columns.taken() > usize::from(width) {
                columns.shown.pop();
                break;
            }
        }
        columns.shown.sort_unstable();
        columns.name = 0;
        let left = usize::from(width).saturating_sub(columns.taken());
        columns.name = left / 2;
        columns
    }

    fn width(&self, column: Column) -> usize {
        match column {
            Column::Status => self.status,
            Column::Group | Column::Topic => self.name,
            Column::Partition => 4,
            Column::Lag | Column::Seconds | Column::Left => 8,
            Column::Rate => 9,
            Column::Sparks => SPARKS,
        }
    }

    /// All widths, with the gaps between.
    fn taken(&self) -> usize {
        let widths = self.shown.iter().map(|column| self.width(*column));
        widths.sum::<usize>() + self.shown.len() - 1
    }

    /// Of those that are shown.
    pub fn widths(&self) -> impl Iterator<Item = u16> {
        let widths = self.shown.iter().map(|column| self.width(*column));
        widths.map(|width| u16::try_from(width).unwrap_or(u16::MAX))
    }
}

/// The end of a name that is too long: names of ours begin alike.
pub fn end_of(name: &str, chars: usize) -> String {
    let count = name.chars().count();
    if count <= chars {
        return name.to_owned();
    }
    let end = name.chars().skip(count + 1 - chars.max(1));
    ['…'].into_iter().chain(end).collect()
}
