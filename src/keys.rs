//! Keys of records as flags name them.

use std::path::Path;

use millrace_objects::ObjectUri;

/// How keys are to begin. Without any prefix every key is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPrefixes(Vec<String>);

impl KeyPrefixes {
    /// `prefix` itself, and where it is a path the URI of that: an absolute one, or one of what is there.
    pub fn of(prefix: Option<&str>) -> Self {
        let Some(prefix) = prefix else {
            return Self::default();
        };
        let mut prefixes = vec![prefix.to_owned()];
        if (prefix.starts_with('/') || Path::new(prefix).exists())
            && let Ok(uri) = ObjectUri::parse(prefix)
        {
            // A folder's URI has no slash at its end, and the folder beside it begins as it does.
            let below = if prefix.ends_with('/') { "/" } else { "" };
            prefixes.push(format!("{uri}{below}"));
        }
        Self(prefixes)
    }

    /// Whether this key is meant; one that is absent is empty.
    pub fn begin(&self, key: Option<&[u8]>) -> bool {
        let key = key.unwrap_or_default();
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|prefix| key.starts_with(prefix.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::KeyPrefixes;

    #[test]
    fn a_path_stands_for_its_uri() {
        let begins =
            |prefix: &str, key: &str| KeyPrefixes::of(Some(prefix)).begin(Some(key.as_bytes()));
        assert!(KeyPrefixes::of(None).begin(None));
        assert!(!KeyPrefixes::of(Some("user")).begin(None));
        assert!(begins("user-1", "user-17") && !begins("user-2", "user-17"));
        assert!(begins("/srv/docs", "file:///srv/docs/a") && begins("/srv/docs", "/srv/docs"));
        assert!(begins("/srv/docs", "file:///srv/docs-2/a"));
        assert!(!begins("/srv/docs/", "file:///srv/docs-2/a"));
        // Relative to where the command runs, as in every other argument.
        let here = std::env::current_dir().unwrap();
        assert!(begins(
            "src/",
            &format!("file://{}/src/keys.rs", here.display())
        ));
        assert!(!begins(
            "none/",
            &format!("file://{}/none/a", here.display())
        ));
    }
}
