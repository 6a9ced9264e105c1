//! Local folders.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use millrace_objects::{
    ListError, ObjectStores, ObjectStoresConfig, ObjectUri, ObjectWriter, ReadError,
};
use tempfile::TempDir;

const CAP: u64 = 1 << 20;

struct Folder {
    dir: TempDir,
    stores: ObjectStores,
}

impl Folder {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let stores = allow(&[dir.path()])?;
        Ok(Self { dir, stores })
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<ObjectUri> {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().context("a parent")?)?;
        fs::write(&path, content)?;
        Ok(ObjectUri::file(&path)?)
    }

    async fn list(&self) -> Result<(Vec<String>, Vec<ListError>)> {
        self.list_at(self.dir.path()).await
    }

    async fn list_at(&self, top: &Path) -> Result<(Vec<String>, Vec<ListError>)> {
        let mut names = vec![];
        let mut errors = vec![];
        let mut listing = self.stores.list(&ObjectUri::file(top)?);
        while let Some(entry) = listing.next().await {
            match entry {
                Ok(entry) => {
                    let path = entry.uri.path().context("a file")?.to_owned();
                    names.push(path.strip_prefix(self.dir.path())?.display().to_string());
                }
                Err(error) => errors.push(error),
            }
        }
        Ok((names, errors))
    }
}

fn allow(roots: &[&Path]) -> Result<ObjectStores> {
    let allowed_roots = roots.iter().map(|r| r.to_path_buf()).collect();
    Ok(ObjectStores::new(&ObjectStoresConfig {
        allowed_roots,
        ..Default::default()
    })?)
}

fn not_allowed(result: Result<millrace_objects::Object, ReadError>) -> String {
    match result {
        Err(ReadError::NotAllowed { reason }) => reason,
        other => panic!("expected NotAllowed, got {other:?}"),
    }
}

#[tokio::test]
async fn a_file_is_read_with_its_tag() -> Result<()> {
    let folder = Folder::new()?;
    let uri = folder.write("sub dir/100% #1 文档.txt", b"content")?;
    let object = folder.stores.read(&uri, None, CAP).await?;
    assert_eq!(&object.bytes[..], b"content");
    assert_eq!(object.meta.size_bytes, 7);
    assert_eq!(object.meta, folder.stores.head(&uri).await?);
    // By its text too: what a notice carries.
    let again = ObjectUri::parse(&uri.to_string())?;
    let tag = object.meta.etag.context("a tag")?;
    folder.stores.read(&again, Some(&tag), CAP).await?;
    folder
        .stores
        .read(&again.with_fragment("7")?, Some(&tag), CAP)
        .await?;

    folder.write("sub dir/100% #1 文档.txt", b"CONTENT and more")?;
    let changed = folder.stores.read(&uri, Some(&tag), CAP).await;
    assert!(matches!(changed, Err(ReadError::Changed)), "{changed:?}");
    Ok(())
}

#[tokio::test]
async fn an_empty_file_is_read_and_a_removed_one_is_not_found() -> Result<()> {
    let folder = Folder::new()?;
    let uri = folder.write("empty.txt", b"")?;
    assert!(folder.stores.read(&uri, None, CAP).await?.bytes.is_empty());
    fs::remove_file(uri.path().context("a path")?)?;
    let gone = folder.stores.read(&uri, None, CAP).await;
    assert!(matches!(gone, Err(ReadError::NotFound)), "{gone:?}");
    let below_a_file =
        ObjectUri::file(&folder.write("a", b"")?.path().context("a path")?.join("b"))?;
    let gone = folder.stores.read(&below_a_file, None, CAP).await;
    assert!(matches!(gone, Err(ReadError::NotFound)), "{gone:?}");
    Ok(())
}

#[tokio::test]
async fn the_cap_counts_bytes() -> Result<()> {
    let folder = Folder::new()?;
    let uri = folder.write("ten.bin", b"0123456789")?;
    assert_eq!(folder.stores.read(&uri, None, 10).await?.bytes.len(), 10);
    let error = folder.stores.read(&uri, None, 9).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::TooLarge {
                size_bytes: 10,
                limit_bytes: 9
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.error_type(), "object_too_large");
    // A file whose size the system does not know beforehand.
    let proc = allow(&[Path::new("/proc/self")])?;
    let endless = ObjectUri::file(Path::new("/proc/self/maps"))?;
    let error = proc.read(&endless, None, 16).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::TooLarge {
                limit_bytes: 16,
                ..
            }
        ),
        "{error:?}"
    );
    Ok(())
}

/// The content of every accepted read is one version, while a writer replaces and rewrites.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_mixes_two_versions() -> Result<()> {
    const BYTES: usize = 1 << 18;
    let folder = Folder::new()?;
    let uri = folder.write("busy.bin", &vec![b'a'; BYTES])?;
    let path = uri.path().context("a path")?.to_owned();
    let stop = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut whole, mut changed) = (0, 0);
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            for round in (0..=u8::MAX).cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // Sizes differ, so that even two writes within one tick of the clock are told apart.
                let content = vec![b'a' + round % 26; BYTES + usize::from(round)];
                if round % 2 == 0 {
                    fs::write(&path, content).expect("rewriting in place");
                } else {
                    fs::write(path.with_extension("new"), content).expect("writing beside");
                    fs::rename(path.with_extension("new"), &path).expect("renaming into place");
                }
            }
        });
        let reader = tokio::runtime::Handle::current();
        let outcome = tokio::task::block_in_place(|| {
            while whole < 50 || changed == 0 {
                ensure!(
                    Instant::now() < deadline,
                    "{whole} whole, {changed} changed reads before the deadline"
                );
                match reader.block_on(folder.stores.read(&uri, None, CAP)) {
                    Ok(object) if object.bytes.is_empty() => {}
                    Ok(object) => {
                        let first = object.bytes[0];
                        ensure!(
                            object.bytes.iter().all(|b| *b == first),
                            "two versions in one read"
                        );
                        whole += 1;
                    }
                    Err(ReadError::Changed) => changed += 1,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

#[tokio::test]
async fn nothing_outside_the_roots_is_read() -> Result<()> {
    let outside = tempfile::tempdir()?;
    fs::write(outside.path().join("secret.txt"), "secret")?;
    let folder = Folder::new()?;
    folder.write("inside.txt", b"inside")?;
    let at = |name: &str| ObjectUri::file(&folder.dir.path().join(name));

    let reason = not_allowed(
        folder
            .stores
            .read(
                &ObjectUri::file(&outside.path().join("secret.txt"))?,
                None,
                CAP,
            )
            .await,
    );
    assert!(reason.contains("allowed_roots"), "{reason}");
    // A folder beside the root whose name begins the same.
    let sibling = format!("{}-more/x", folder.dir.path().display());
    not_allowed(
        folder
            .stores
            .read(&ObjectUri::file(Path::new(&sibling))?, None, CAP)
            .await,
    );

    symlink(
        outside.path().join("secret.txt"),
        folder.dir.path().join("link.txt"),
    )?;
    symlink(outside.path(), folder.dir.path().join("linked"))?;
    symlink(
        folder.dir.path().join("inside.txt"),
        folder.dir.path().join("alias.txt"),
    )?;
    symlink("dangling", folder.dir.path().join("dangling.txt"))?;
    symlink("loop.txt", folder.dir.path().join("loop.txt"))?;
    for name in ["link.txt", "linked/secret.txt"] {
        let reason = not_allowed(folder.stores.read(&at(name)?, None, CAP).await);
        assert!(reason.contains("symbolic link"), "{reason}");
        assert!(folder.stores.head(&at(name)?).await.is_err());
    }
    not_allowed(folder.stores.read(&at("loop.txt")?, None, CAP).await);
    assert_eq!(
        &folder
            .stores
            .read(&at("alias.txt")?, None, CAP)
            .await?
            .bytes[..],
        b"inside"
    );
    let dangling = folder.stores.read(&at("dangling.txt")?, None, CAP).await;
    assert!(matches!(dangling, Err(ReadError::NotFound)), "{dangling:?}");
    // Through a second root the link is fine.
    let both = allow(&[folder.dir.path(), outside.path()])?;
    assert_eq!(
        &both.read(&at("link.txt")?, None, CAP).await?.bytes[..],
        b"secret"
    );
    // With no roots nothing is.
    not_allowed(allow(&[])?.read(&at("inside.txt")?, None, CAP).await);
    Ok(())
}

#[tokio::test]
async fn a_root_may_be_a_link_or_a_single_file() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("real/a.txt", b"a")?;
    folder.write("real/b.txt", b"b")?;
    let link = folder.dir.path().join("link");
    symlink(folder.dir.path().join("real"), &link)?;
    let stores = allow(&[&link])?;
    assert_eq!(
        &stores
            .read(&ObjectUri::file(&link.join("a.txt"))?, None, CAP)
            .await?
            .bytes[..],
        b"a"
    );
    let single = allow(&[&folder.dir.path().join("real/a.txt")])?;
    single
        .read(
            &ObjectUri::file(&folder.dir.path().join("real/a.txt"))?,
            None,
            CAP,
        )
        .await?;
    not_allowed(
        single
            .read(
                &ObjectUri::file(&folder.dir.path().join("real/b.txt"))?,
                None,
                CAP,
            )
            .await,
    );
    Ok(())
}

#[tokio::test]
async fn what_is_no_regular_file_neither_blocks_nor_is_read() -> Result<()> {
    let folder = Folder::new()?;
    let pipe = folder.dir.path().join("pipe");
    ensure!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()?
            .success(),
        "mkfifo"
    );
    let _socket = std::os::unix::net::UnixListener::bind(folder.dir.path().join("socket"))?;
    fs::create_dir(folder.dir.path().join("folder"))?;
    for name in ["pipe", "socket", "folder"] {
        let uri = ObjectUri::file(&folder.dir.path().join(name))?;
        let read = folder.stores.read(&uri, None, CAP);
        let read = tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .context(name)?;
        assert!(not_allowed(read).contains("regular file"), "{name}");
    }
    Ok(())
}

/// A missing root is no removal of everything below it.
#[tokio::test]
async fn a_root_that_is_gone_is_unavailable() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let root = parent.path().join("root");
    fs::create_dir(&root)?;
    fs::write(root.join("a.txt"), "a")?;
    let stores = allow(&[&root])?;
    let uri = ObjectUri::file(&root.join("a.txt"))?;
    fs::rename(&root, parent.path().join("moved"))?;
    let gone = stores.read(&uri, None, CAP).await;
    assert!(
        matches!(gone, Err(ReadError::Unavailable { .. })),
        "{gone:?}"
    );
    let gone = stores.head(&uri).await;
    assert!(
        matches!(gone, Err(ReadError::Unavailable { .. })),
        "{gone:?}"
    );
    let listed = stores.list(&ObjectUri::file(&root)?).next().await;
    assert!(
        matches!(
            listed,
            Some(Err(ListError {
                source: ReadError::Unavailable { .. },
                ..
            }))
        ),
        "{listed:?}"
    );
    fs::rename(parent.path().join("moved"), &root)?;
    stores.read(&uri, None, CAP).await?;
    Ok(())
}

#[tokio::test]
async fn a_listing_is_recursive_sorted_and_without_what_is_hidden() -> Result<()> {
    let folder = Folder::new()?;
    let outside = tempfile::tempdir()?;
    fs::write(outside.path().join("secret.txt"), "secret")?;
    for name in [
        "b.txt",
        "a/z.txt",
        "a/y/x.txt",
        "a.txt",
        ".hidden",
        ".git/config",
        "a/.DS_Store",
        "ü b#.txt",
    ] {
        folder.write(name, b"x")?;
    }
    symlink(outside.path(), folder.dir.path().join("out"))?;
    symlink(
        outside.path().join("secret.txt"),
        folder.dir.path().join("out.txt"),
    )?;
    symlink(folder.dir.path(), folder.dir.path().join("a/loop"))?;
    symlink(
        folder.dir.path().join("b.txt"),
        folder.dir.path().join("c.txt"),
    )?;
    let (names, errors) = folder.list().await?;
    assert_eq!(
        names,
        [
            "a/y/x.txt",
            "a/z.txt",
            "a.txt",
            "b.txt",
            "c.txt",
            "ü b#.txt"
        ]
    );
    assert!(errors.is_empty(), "{errors:?}");
    let (names, _) = folder.list_at(&folder.dir.path().join("a/y")).await?;
    assert_eq!(names, ["a/y/x.txt"]);
    let (names, _) = folder.list_at(&folder.dir.path().join("b.txt")).await?;
    assert_eq!(names, ["b.txt"]);
    let (names, errors) = folder.list_at(&folder.dir.path().join("nothing")).await?;
    assert!(
        names.is_empty()
            && matches!(
                errors[..],
                [ListError {
                    source: ReadError::NotFound,
                    ..
                }]
            ),
        "{errors:?}"
    );
    // What is listed can be read, with the tag that the listing gave.
    let mut listing = folder.stores.list(&ObjectUri::file(folder.dir.path())?);
    while let Some(entry) = listing.next().await {
        let entry = entry?;
        folder
            .stores
            .read(&entry.uri, entry.meta.etag.as_deref(), CAP)
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn one_unreadable_folder_does_not_end_a_listing() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("a.txt", b"a")?;
    folder.write("closed/b.txt", b"b")?;
    folder.write("d.txt", b"d")?;
    let closed = folder.dir.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000))?;
    let readable_anyway = fs::read_dir(&closed).is_ok();
    let (names, errors) = folder.list().await?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    if readable_anyway {
        // The superuser reads everything: there is nothing closed to meet.
        assert_eq!(names, ["a.txt", "closed/b.txt", "d.txt"]);
    } else {
        assert_eq!(names, ["a.txt", "d.txt"]);
        assert!(
            matches!(
                errors[..],
                [ListError {
                    source: ReadError::Denied { .. },
                    ..
                }]
            ),
            "{errors:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_listed_and_read() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder
        .dir
        .path()
        .join(std::ffi::OsStr::from_bytes(b"caf\xe9.txt"));
    if fs::write(&path, "x").is_err() {
        // Some file systems hold only UTF-8 names; then there is none to list.
        return Ok(());
    }
    let entry = folder
        .stores
        .list(&ObjectUri::file(folder.dir.path())?)
        .next()
        .await
        .context("an entry")??;
    assert!(
        entry.uri.to_string().ends_with("/caf%E9.txt"),
        "{}",
        entry.uri
    );
    folder
        .stores
        .read(&ObjectUri::parse(&entry.uri.to_string())?, None, CAP)
        .await?;
    Ok(())
}

/// A reader that goes away ends the walk: the queue is bounded, so the walk would otherwise wait.
#[tokio::test]
async fn a_dropped_listing_stops() -> Result<()> {
    let folder = Folder::new()?;
    for n in 0..2000 {
        folder.write(&format!("{n:04}.txt"), b"x")?;
    }
    let mut listing = folder.stores.list(&ObjectUri::file(folder.dir.path())?);
    listing.next().await.context("an entry")??;
    drop(listing);
    let (names, _) = folder.list().await?;
    assert_eq!(names.len(), 2000);
    Ok(())
}

#[tokio::test]
async fn what_is_written_is_read_and_what_is_removed_is_gone() -> Result<()> {
    let folder = Folder::new()?;
    let uri = ObjectUri::file(folder.dir.path())?.child("one.txt")?;
    let writer = ObjectWriter::of(folder.stores.clone(), uri.clone());
    for content in ["first", "second"] {
        writer.put(content).await?;
        let object = folder.stores.read(&uri, None, CAP).await?;
        assert_eq!(object.bytes, content);
        // Nothing else is left beside it.
        assert_eq!(fs::read_dir(folder.dir.path())?.count(), 1);
    }
    writer.remove().await?;
    writer.remove().await?;
    let gone = folder.stores.read(&uri, None, CAP).await;
    assert!(matches!(gone, Err(ReadError::NotFound)), "{gone:?}");

    let other = tempfile::tempdir()?;
    let elsewhere = ObjectUri::file(&other.path().join("one.txt"))?;
    let refused = ObjectWriter::of(folder.stores.clone(), elsewhere)
        .put("x")
        .await;
    ensure!(refused.is_err());
    // A folder within the root that is a link out of it.
    symlink(other.path(), folder.dir.path().join("out"))?;
    let outside = ObjectUri::file(&folder.dir.path().join("out/one.txt"))?;
    let refused = ObjectWriter::of(folder.stores.clone(), outside)
        .put("x")
        .await;
    ensure!(refused.is_err() && fs::read_dir(other.path())?.count() == 0);
    Ok(())
}
