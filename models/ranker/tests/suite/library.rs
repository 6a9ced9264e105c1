//! Finding and loading LightGBM's library.

use std::error::Error;
use std::path::Path;

use anyhow::Result;
use millrace_ranker::{LibraryError, LightGbm};

use crate::block_on;

#[test]
fn a_damaged_copy_is_fetched_again_and_a_whole_one_asks_nobody() -> Result<()> {
    let root = tempfile::tempdir()?;
    let folder = root.path().join("lightgbm-4.7.0");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("lib_lightgbm.so"), "\x7fELF and nothing more")?;
    let mut last = (0, 0);
    let library = block_on(LightGbm::pinned_in(root.path(), &mut |done, total| {
        last = (done, total);
    }))?;
    assert_eq!(library.path(), folder.join("lib_lightgbm.so"));
    assert!(last.0 == last.1 && last.1 > 1_000_000, "{last:?}");
    block_on(LightGbm::pinned_in(root.path(), &mut |_, _| {
        panic!("fetched a library that was whole")
    }))?;
    let left: Vec<_> = std::fs::read_dir(root.path())?.collect::<Result<_, _>>()?;
    assert_eq!(left.len(), 1, "{left:?}");
    Ok(())
}

#[test]
fn a_missing_library_is_named_with_the_way_out() {
    let error = LightGbm::load(Path::new("/nowhere/lib_lightgbm.so")).unwrap_err();
    assert!(matches!(error, LibraryError::Load { .. }), "{error}");
    assert!(error.source().is_some());
    let said = error.to_string();
    assert!(
        said.contains("/nowhere/lib_lightgbm.so") && said.contains("LIGHTGBM_LIBRARY"),
        "{said}"
    );
}
