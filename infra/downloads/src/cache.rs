//! Where a user's downloads are kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder for one kind of download: what the environment variable `variable` says, else
/// `$XDG_CACHE_HOME/millrace/<kind>`, else `~/.cache/millrace/<kind>`; `None` where none of the
/// three variables is set.
#[must_use]
pub fn cache_folder(variable: &str, kind: &str) -> Option<PathBuf> {
    folder_from(variable, kind, |name| std::env::var_os(name))
}

fn folder_from(
    variable: &str,
    kind: &str,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    set(variable)
        .map(PathBuf::from)
        .or_else(|| {
            set("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("millrace").join(kind))
        })
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache/millrace").join(kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_variable_that_is_set_and_not_empty_decides() {
        let folder = |set: &[(&str, &str)]| {
            folder_from("MILLRACE_MODELS", "models", |name| {
                let found = set.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let all = [
            ("MILLRACE_MODELS", "/m"),
            ("XDG_CACHE_HOME", "/x"),
            ("HOME", "/h"),
        ];
        assert_eq!(folder(&all), Some("/m".into()));
        assert_eq!(folder(&all[1..]), Some("/x/millrace/models".into()));
        assert_eq!(folder(&all[2..]), Some("/h/.cache/millrace/models".into()));
        let empty = [("MILLRACE_MODELS", ""), ("HOME", "/h")];
        assert_eq!(folder(&empty), Some("/h/.cache/millrace/models".into()));
        assert_eq!(folder(&[]), None);
    }
}
