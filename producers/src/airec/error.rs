//! Why a row of the item or user table is rejected.

use crate::behavior::RowError;

/// Why a row of the item or user table is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableRowError {
    /// As rows of behavior are.
    #[error(transparent)]
    Row(#[from] RowError),
    /// Not one of AIRec's three.
    #[error("{command:?} is no command of this table: expected \"add\", \"update\" or \"delete\"")]
    Command { command: String },
    /// An item of which nothing can be understood.
    #[error(
        "the item has no text: give `content`, `brief`, `description` or `title`, also in an update, \
         which replaces the whole row"
    )]
    NoText,
}

impl TableRowError {
    /// A stable name for answers and dead letters.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Row(error) => error.error_type(),
            Self::Command { .. } => "unknown_command",
            Self::NoText => "no_text",
        }
    }
}
