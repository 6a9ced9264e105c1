//! The corpora of the fuzz targets, and how an ordinary test replays one.
//!
//! What a target does with an input lives in the crate that owns the parser, in a module `fuzzing`
//! that exists under `cfg(any(test, fuzzing))` only: it reaches private parsers, and no product API
//! grows for it. Two callers: the libFuzzer program `fuzz_targets/<target>.rs`, and a test of that
//! crate, which calls [`replay`].
//!
//! Promises that a target without a corpus, or one that nobody replays, fails a test.
//!
//! Leaves to others: building with instrumentation and running (`fuzz/run`), and the properties.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// The inputs of a target, in the repository.
#[must_use]
pub fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

/// Runs `check` on nothing, and on every input of the target's corpus.
///
/// # Panics
/// Where `check` does, after naming the input; where the corpus cannot be read or is empty.
pub fn replay(target: &str, check: impl Fn(&[u8])) {
    check(&[]);
    let folder = corpus(target);
    let entries = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("no corpus at {}: {error}", folder.display()));
    let mut inputs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    for input in inputs {
        let bytes = fs::read(&input)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", input.display()));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&bytes))) {
            eprintln!("the input was {}", input.display());
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut files = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                files.extend(self::files(&path, extension));
            } else if path.extension().is_some_and(|is| is == extension) {
                files.push(path);
            }
        }
        files
    }

    #[test]
    fn every_target_is_built_described_and_replayed() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &Path| fs::read_to_string(path).expect("a text");
        let tests: Vec<String> = [
            "schemas",
            "infra",
            "models",
            "producers",
            "consumers",
            "src",
        ]
        .iter()
        .flat_map(|folder| files(&here.join("..").join(folder), "rs"))
        .map(|path| read(&path))
        .filter(|source| source.contains("replay("))
        .collect();
        let (manifest, readme) = (
            read(&here.join("Cargo.toml")),
            read(&here.join("README.md")),
        );
        let targets = files(&here.join("fuzz_targets"), "rs");
        assert!(!targets.is_empty());
        for target in targets {
            let name = target.file_stem().and_then(|stem| stem.to_str());
            let name = name.expect("a name");
            assert!(
                manifest.contains(&format!("name = \"{name}\"")),
                "{name}: no [[bin]]"
            );
            assert!(
                readme.contains(&format!("`{name}`")),
                "{name}: not in README.md"
            );
            let replayed = format!("replay(\"{name}\"");
            assert!(
                tests.iter().any(|source| source.contains(&replayed)),
                "no test replays the corpus of {name}"
            );
        }
    }
}
