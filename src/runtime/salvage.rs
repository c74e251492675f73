//! Salvage on the real file system.

use std::path::Path;

use super::files::Files;
use crate::base::error::Result;
use crate::disk::directory::Directory;
use crate::disk::salvage::{self, SalvageReport};

/// Copies what is provably intact in one directory into another; blocks while it does.
///
/// # Errors
/// See `Database::salvage`.
pub(crate) fn salvage(from: &Path, to: &Path) -> Result<SalvageReport> {
    let damaged = Directory::new(Files::open_damaged(from)?);
    let new = Directory::new(Files::open_new(to)?);
    let salt = || uuid::Uuid::new_v4().as_u64_pair().0;
    let report = salvage::salvage(&damaged, &new, *uuid::Uuid::new_v4().as_bytes(), salt)?;
    let damage = report.damage.len();
    tracing::info!(transactions = report.transactions, damage, from = %from.display(), "salvaged");
    Ok(report)
}
