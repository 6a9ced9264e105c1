//! The mutations change the code as it is, and the judge's README tells of each.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

#[test]
fn every_mutation_applies_and_is_listed() -> anyhow::Result<()> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(crate_folder.join("README.md"))?;
    let root = crate_folder
        .ancestors()
        .nth(2)
        .context("the crate lies two folders deep")?;
    let mut patches = 0;
    for entry in std::fs::read_dir(crate_folder.join("mutations"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "patch")
        {
            continue;
        }
        patches += 1;
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .context("a patch's name is text")?;
        ensure!(
            readme.contains(&format!("| `{name}` |")),
            "{name} is not listed in the README"
        );
        let text = std::fs::read_to_string(&path)?;
        let tells = if text.contains("\nExpect: nothing\n") {
            "No safeguard is removed: "
        } else {
            "Safeguard: "
        };
        ensure!(
            text.starts_with(tells) && text.contains("\nJudge: "),
            "{name} does not say which safeguard it removes, or how the judge is run"
        );
        let beside = text.lines().find_map(|line| line.strip_prefix("Beside: "));
        let beside = beside.map(|other| path.with_file_name(format!("{other}.patch")));
        let applied = Command::new("git")
            .args(["apply", "--check"])
            .args(beside)
            .arg(&path)
            .current_dir(root)
            .output()
            .context("git is needed to check the patches")?;
        ensure!(
            applied.status.success(),
            "{name} does not apply: {}",
            String::from_utf8_lossy(&applied.stderr)
        );
    }
    ensure!(patches > 0, "no patch was found");
    Ok(())
}
