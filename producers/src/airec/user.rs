//! A row of the user table.

use millrace_schemas::User;

use super::error::TableRowError;
use super::row::{Command, check_id, texts};
use crate::behavior::fields::Fields;

/// As behavior names a user: by `user_id`, or by `imei` who has not logged on.
pub(super) fn user(
    command: Command,
    mut fields: Fields,
    now_ms: i64,
) -> Result<User, TableRowError> {
    let user_id = fields.first_id(&["user_id", "imei"])?;
    check_id("user_id", &user_id)?;
    let fields = texts(fields)?;
    let deleted = command == Command::Delete;
    Ok(User {
        user_id,
        fields: if deleted { Default::default() } else { fields },
        deleted,
        updated_at_ms: now_ms,
        source: "airec".to_owned(),
    })
}
