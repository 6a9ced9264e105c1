//! The stylesheet and the script: in the binary, under names that change with their content.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::error::PageError;

/// A file that browsers may keep for good.
pub struct Asset {
    name: String,
    media_type: &'static str,
    content: &'static str,
}

/// How all pages look.
pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("assets/console.css");
    Asset::new("console", "css", "text/css; charset=utf-8", content)
});
/// What pages do without being loaded again.
pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("assets/console.js");
    Asset::new("console", "js", "text/javascript; charset=utf-8", content)
});

impl Asset {
    fn new(stem: &str, extension: &str, media_type: &'static str, content: &'static str) -> Self {
        let hash: String = Sha256::digest(content)
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            name: format!("{stem}-{hash}.{extension}"),
            media_type,
            content,
        }
    }

    /// Where it is.
    pub fn path(&self) -> String {
        format!("/console/assets/{}", self.name)
    }
}

/// `GET /console/assets/{name}`.
pub async fn asset(Path(name): Path<String>) -> Result<Response, PageError> {
    let assets = [&STYLE, &SCRIPT];
    let asset = assets.into_iter().find(|asset| asset.name == name);
    let asset =
        asset.ok_or_else(|| PageError::not_found("There is no such file; load the page again."))?;
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, asset.content).into_response())
}
