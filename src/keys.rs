//! Keys of records as flags name them.

use millrace_objects::ObjectUri;

/// The prefixes that `prefix` stands for: itself, and where it is a path the URI of that.
pub fn key_prefixes(prefix: Option<&str>) -> Vec<String> {
    let Some(prefix) = prefix else {
        return Vec::new();
    };
    let mut prefixes = vec![prefix.to_owned()];
    if prefix.starts_with('/')
        && let Ok(uri) = ObjectUri::parse(prefix)
    {
        // A folder's URI has no slash at its end, and the folder beside it begins as it does.
        let below = if prefix.ends_with('/') { "/" } else { "" };
        prefixes.push(format!("{uri}{below}"));
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::key_prefixes;

    #[test]
    fn a_path_stands_for_its_uri() {
        assert!(key_prefixes(None).is_empty());
        assert_eq!(key_prefixes(Some("user-1")), ["user-1"]);
        assert_eq!(
            key_prefixes(Some("/srv/docs")),
            ["/srv/docs", "file:///srv/docs"]
        );
        assert_eq!(
            key_prefixes(Some("/srv/docs/")),
            ["/srv/docs/", "file:///srv/docs/"]
        );
    }
}
