//! What may be read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::config::{ConfigError, ObjectStoresConfig};
use crate::error::ReadError;
use crate::uri::{BucketService, Location, ObjectUri};

/// The buckets and root folders whose content may be read.
///
/// Two checks: [`AllowList::permits`] looks at the name alone and needs no object to exist, for
/// notices; reading a file also resolves its links and demands that they end below a root.
#[derive(Clone, Debug)]
pub struct AllowList {
    /// Shared by all clones, so that an added root is known to every reader.
    roots: Arc<RwLock<Vec<Root>>>,
    buckets: Vec<BucketPrefix>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    /// Absolute, as configured: the names of objects carry this one.
    configured: PathBuf,
    /// With links resolved.
    real: PathBuf,
    /// The file system it was on at the start.
    device: u64,
    /// A root may be a single file, whose absence is that of an object.
    is_folder: bool,
}

#[derive(Clone, Debug)]
struct BucketPrefix {
    service: BucketService,
    bucket: String,
    /// Empty for all of the bucket.
    prefix: String,
}

impl AllowList {
    /// Resolves the configured roots and buckets.
    ///
    /// # Errors
    /// A root that does not exist or an entry that names no bucket.
    pub fn new(config: &ObjectStoresConfig) -> Result<Self, ConfigError> {
        let roots = config.allowed_roots.iter().map(|path| Root::open(path));
        let buckets = config
            .allowed_buckets
            .iter()
            .map(|entry| BucketPrefix::parse(entry));
        Ok(Self {
            roots: Arc::new(RwLock::new(roots.collect::<Result<_, _>>()?)),
            buckets: buckets.collect::<Result<_, _>>()?,
        })
    }

    /// Adds a root folder or file while others read. A list only ever grows: what a notice was
    /// accepted for stays readable until the process ends.
    ///
    /// # Errors
    /// A root that does not exist.
    pub fn add_root(&self, path: &Path) -> Result<(), ConfigError> {
        let root = Root::open(path)?;
        let mut roots = self.roots.write().unwrap_or_else(PoisonError::into_inner);
        // The same path is added each time that it is ingested.
        if !roots.contains(&root) {
            roots.push(root);
        }
        Ok(())
    }

    /// The list itself is valid even if a writer panicked: a push is its last act.
    fn roots(&self) -> RwLockReadGuard<'_, Vec<Root>> {
        self.roots.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the name lies within a root folder or a bucket of the list.
    ///
    /// # Errors
    /// [`ReadError::NotAllowed`], naming the setting that would have to change.
    pub fn permits(&self, uri: &ObjectUri) -> Result<(), ReadError> {
        match uri.location() {
            Location::File(path) => {
                let inside =
                    |r: &Root| path.starts_with(&r.configured) || path.starts_with(&r.real);
                if self.roots().iter().any(inside) {
                    return Ok(());
                }
                let name = uri.without_fragment();
                Err(ReadError::not_allowed(format!(
                    "{name} is below no folder of `allowed_roots`"
                )))
            }
            Location::Bucket {
                service,
                bucket,
                key,
            } => {
                if self.buckets.iter().any(|b| b.holds(*service, bucket, key)) {
                    return Ok(());
                }
                let scheme = service.scheme();
                Err(ReadError::not_allowed(format!(
                    "{scheme}://{bucket} (with this key) is not in `allowed_buckets`"
                )))
            }
        }
    }

    /// The buckets named by the list, each once.
    pub(crate) fn buckets(&self) -> Vec<(BucketService, String)> {
        let mut all: Vec<_> = self
            .buckets
            .iter()
            .map(|b| (b.service, b.bucket.clone()))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// The path with its links resolved, if that is below a root.
    pub(crate) fn resolve(&self, path: &Path) -> Result<PathBuf, ReadError> {
        let real = path
            .canonicalize()
            .map_err(|error| self.explain(path, error))?;
        if self.roots().iter().any(|r| real.starts_with(&r.real)) {
            return Ok(real);
        }
        Err(ReadError::not_allowed(
            "a symbolic link leads out of every folder of `allowed_roots`",
        ))
    }

    /// Turns an error at a path into what it means: a missing object is only missing while the root
    /// that should hold it is there and on the file system where it was at the start.
    pub(crate) fn explain(&self, path: &Path, error: io::Error) -> ReadError {
        let error = ReadError::from_io(error);
        if !matches!(error, ReadError::NotFound) {
            return error;
        }
        let roots = self.roots();
        let root = roots
            .iter()
            .find(|r| path.starts_with(&r.configured) || path.starts_with(&r.real));
        match root.filter(|r| r.is_folder).map(Root::check) {
            Some(Err(source)) => ReadError::unavailable(source),
            Some(Ok(())) | None => error,
        }
    }
}

impl Root {
    fn open(path: &Path) -> Result<Self, ConfigError> {
        let at = |source| ConfigError::Root {
            path: path.to_owned(),
            source,
        };
        // Through `ObjectUri`, so that a root given with `..` is named as its objects are.
        let configured = match ObjectUri::file(path) {
            Ok(uri) => uri.path().map(Path::to_owned).unwrap_or_default(),
            Err(error) => return Err(at(io::Error::new(io::ErrorKind::InvalidInput, error))),
        };
        let real = configured.canonicalize().map_err(at)?;
        let metadata = std::fs::metadata(&real).map_err(at)?;
        Ok(Self {
            configured,
            real,
            device: metadata.dev(),
            is_folder: metadata.is_dir(),
        })
    }

    fn check(&self) -> io::Result<()> {
        let metadata = std::fs::metadata(&self.real)?;
        if metadata.dev() == self.device {
            return Ok(());
        }
        let root = self.configured.display();
        Err(io::Error::other(format!(
            "root folder {root} is on another file system than at the start (unmounted?)"
        )))
    }
}

impl BucketPrefix {
    fn parse(entry: &str) -> Result<Self, ConfigError> {
        let wrong = |source| ConfigError::Bucket {
            entry: entry.to_owned(),
            source,
        };
        let uri = ObjectUri::parse(entry).map_err(|error| wrong(Some(error)))?;
        match (uri.location(), uri.fragment()) {
            (
                Location::Bucket {
                    service,
                    bucket,
                    key,
                },
                None,
            ) => Ok(Self {
                service: *service,
                bucket: bucket.clone(),
                prefix: key.clone(),
            }),
            _ => Err(wrong(None)),
        }
    }

    fn holds(&self, service: BucketService, bucket: &str, key: &str) -> bool {
        if self.service != service || self.bucket != bucket {
            return false;
        }
        // `reports` holds `reports` and `reports/x`, not `reports-secret`.
        match key.strip_prefix(self.prefix.as_str()) {
            Some(rest) => {
                self.prefix.is_empty()
                    || self.prefix.ends_with('/')
                    || rest.is_empty()
                    || rest.starts_with('/')
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_prefix_ends_at_a_segment() -> anyhow::Result<()> {
        let allow = AllowList::new(&ObjectStoresConfig {
            allowed_buckets: vec![
                "oss://docs".into(),
                "s3://mixed/public".into(),
                "s3://mixed/shared/".into(),
            ],
            ..Default::default()
        })?;
        for (uri, allowed) in [
            ("oss://docs/any/key", true),
            ("s3://docs/any/key", false),
            ("oss://docs-secret/key", false),
            ("s3://mixed/public/a", true),
            ("s3://mixed/public", true),
            ("s3://mixed/public-not/a", false),
            ("s3://mixed/shared/a", true),
            ("s3://mixed/sharedness", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(
                allow.permits(&ObjectUri::parse(uri)?).is_ok(),
                allowed,
                "{uri}"
            );
        }
        Ok(())
    }

    #[test]
    fn entries_that_name_no_bucket_are_refused() {
        for entry in [
            "docs",
            "http://docs",
            "oss://",
            "s3://docs/..",
            "file:///docs",
        ] {
            let config = ObjectStoresConfig {
                allowed_buckets: vec![entry.into()],
                ..Default::default()
            };
            let error = AllowList::new(&config).unwrap_err();
            assert!(
                matches!(&error, ConfigError::Bucket { entry: e, .. } if e == entry),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_root_that_is_missing_is_refused_at_the_start() {
        let config = ObjectStoresConfig {
            allowed_roots: vec!["/no/such/root".into()],
            ..Default::default()
        };
        let error = AllowList::new(&config).unwrap_err().to_string();
        assert!(
            error.contains("/no/such/root") && error.contains("allowed_roots"),
            "{error}"
        );
    }
}
