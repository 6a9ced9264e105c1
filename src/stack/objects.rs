//! The object stores, and what may be read from them: what is configured, watched, or was granted before.

use std::sync::Arc;

use millrace_objects::{ObjectStores, ObjectStoresConfig};

use super::canary;
use super::granted_roots::GrantedRoots;
use crate::config::Config;

/// Opens the stores, and the grants that they heed.
///
/// # Errors
/// The configuration can't be used, or the grants can't be read.
pub fn open(config: &Config) -> anyhow::Result<(Arc<ObjectStores>, Arc<GrantedRoots>)> {
    let objects = ObjectStores::new(&objects_config(config)?)?;
    let granted_roots = GrantedRoots::in_folder(&config.data_dir);
    granted_roots.restore(objects.allow_list())?;
    Ok((Arc::new(objects), Arc::new(granted_roots)))
}

/// Watched folders may be read: what is noticed there must be fetched from there. So may the canary's.
fn objects_config(config: &Config) -> anyhow::Result<ObjectStoresConfig> {
    let mut objects = config.objects.clone();
    objects
        .allowed_roots
        .extend(config.uploads.folders.iter().cloned());
    if config.canary.every().is_some()
        && let Some(folder) = canary::location(config)?.path()
    {
        objects.allowed_roots.push(folder.to_owned());
    }
    Ok(objects)
}
