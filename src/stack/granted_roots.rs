//! Folders that a command had read, such as `ingest`: kept in the data folder, so that a replay or a backfill
//! after a restart reads their documents again.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use millrace_objects::AllowList;

use super::kept_file;

/// The file of a data folder that lists them: a JSON array of paths. Who takes one out takes the grant
/// back at the next start.
const FILE: &str = "granted-roots.json";

/// The grants of a data folder.
#[derive(Debug)]
pub struct GrantedRoots {
    file: PathBuf,
    /// Held from reading the file to replacing it.
    writing: Mutex<()>,
}

impl GrantedRoots {
    pub fn in_folder(data_dir: &Path) -> Self {
        Self {
            file: data_dir.join(FILE),
            writing: Mutex::default(),
        }
    }

    /// Lets `list` permit what was granted before. What is gone by now is told and stays granted: it may
    /// be a disk that is not mounted.
    ///
    /// # Errors
    /// The file can't be read or understood.
    pub fn restore(&self, list: &AllowList) -> anyhow::Result<()> {
        for root in self.read()? {
            if let Err(error) = list.add_root(&root) {
                let file = self.file.display();
                tracing::warn!(%error, "documents of a path in {file} can't be read");
            }
        }
        Ok(())
    }

    /// Lets `list` permit `root`, now and after a restart.
    ///
    /// # Errors
    /// [`GrantError::Root`] where the root can't be opened, [`GrantError::Kept`] where the grant can't be kept.
    pub fn grant(&self, root: &Path, list: &AllowList) -> Result<(), GrantError> {
        list.add_root(root)?;
        self.keep(root)
            .map_err(|error| GrantError::Kept(error.into()))
    }

    fn keep(&self, root: &Path) -> anyhow::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut roots = self.read()?;
        if roots.iter().any(|granted| root.starts_with(granted)) {
            return Ok(());
        }
        roots.retain(|granted| !granted.starts_with(root));
        roots.push(root.to_owned());
        kept_file::replace(&self.file, &roots)
    }

    fn read(&self) -> anyhow::Result<Vec<PathBuf>> {
        Ok(kept_file::read(&self.file, "a list of paths")?.unwrap_or_default())
    }
}

/// Why a folder is not permitted, or not for longer than this process runs.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error(transparent)]
    Root(#[from] millrace_objects::ConfigError),
    #[error("the path may be read, but not after a restart")]
    Kept(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use millrace_objects::{ObjectStoresConfig, ObjectUri};

    use super::*;

    fn nothing_allowed() -> AllowList {
        AllowList::new(&ObjectStoresConfig::default()).unwrap()
    }

    fn one_document() -> (tempfile::TempDir, PathBuf) {
        let documents = tempfile::tempdir().unwrap();
        let file = documents.path().join("a.txt");
        std::fs::write(&file, "text").unwrap();
        (documents, file)
    }

    fn permits(list: &AllowList, path: &Path) -> bool {
        list.permits(&ObjectUri::file(path).unwrap()).is_ok()
    }

    #[test]
    fn what_was_granted_is_permitted_after_a_restart() {
        let data = tempfile::tempdir().unwrap();
        let (documents, file) = one_document();
        let list = nothing_allowed();
        GrantedRoots::in_folder(data.path())
            .grant(documents.path(), &list)
            .unwrap();
        assert!(permits(&list, &file));
        let list = nothing_allowed();
        assert!(!permits(&list, &file));
        GrantedRoots::in_folder(data.path()).restore(&list).unwrap();
        assert!(permits(&list, &file));
    }

    #[test]
    fn a_folder_covers_what_is_below_it() {
        let data = tempfile::tempdir().unwrap();
        let (documents, file) = one_document();
        let roots = GrantedRoots::in_folder(data.path());
        for root in [&file, documents.path(), &file] {
            roots.grant(root, &nothing_allowed()).unwrap();
        }
        assert_eq!(roots.read().unwrap(), [documents.path()]);
    }

    #[test]
    fn what_is_gone_stays_granted_and_ends_no_start() {
        let data = tempfile::tempdir().unwrap();
        let documents = tempfile::tempdir().unwrap();
        let roots = GrantedRoots::in_folder(data.path());
        roots.grant(documents.path(), &nothing_allowed()).unwrap();
        let path = documents.path().to_owned();
        drop(documents);
        roots.restore(&nothing_allowed()).unwrap();
        assert_eq!(roots.read().unwrap(), [path]);
    }

    #[test]
    fn what_does_not_exist_is_not_granted() {
        let data = tempfile::tempdir().unwrap();
        let roots = GrantedRoots::in_folder(data.path());
        let granted = roots.grant(Path::new("/no/such/folder"), &nothing_allowed());
        assert!(matches!(granted, Err(GrantError::Root(_))), "{granted:?}");
        assert!(roots.read().unwrap().is_empty());
    }

    #[test]
    fn a_list_that_can_not_be_read_is_told() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join(FILE), "{").unwrap();
        let restored = GrantedRoots::in_folder(data.path()).restore(&nothing_allowed());
        let error = restored.unwrap_err().to_string();
        assert!(
            error.contains(FILE) && error.contains("remove it"),
            "{error}"
        );
    }
}
