//! Keys of records as flags name them.

use millrace_objects::ObjectUri;

/// The prefixes that `prefix` stands for: itself, and where it is a path the URI of that.
pub fn key_prefixes(prefix: Option<&str>) -> Vec<String> {
    let Some(prefix) = prefix else {
        return Vec::new();
    };
    let uri = prefix
        .starts_with('/')
        .then(|| ObjectUri::parse(prefix).ok())
        .flatten();
    std::iter::once(prefix.to_owned())
        .chain(uri.map(|uri| uri.to_string()))
        .collect()
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
    }
}
