//! Salvage on the real file system.

use std::path::Path;

use super::files::Files;
use crate::base::error::{Error, Result};
use crate::disk::directory::Directory;
use crate::disk::salvage::{self, SalvageReport};

/// Copies what is provably intact in one directory into another; blocks while it does.
///
/// # Errors
/// See `Database::salvage`.
pub(crate) fn salvage(from: &Path, to: &Path) -> Result<SalvageReport> {
    if to.exists() && std::fs::read_dir(to)?.next().is_some() {
        let what = "what is salvaged needs a directory of its own, give a new or an empty one";
        return Err(Error::InvalidOperation(format!("{what}: path={}", to.display())));
    }
    let damaged = Directory::new(Files::open_damaged(from)?);
    let new = Directory::new(Files::open(to, false)?);
    let salt = || uuid::Uuid::new_v4().as_u64_pair().0;
    let report = salvage::salvage(&damaged, &new, *uuid::Uuid::new_v4().as_bytes(), salt)?;
    let damage = report.damage.len();
    tracing::info!(transactions = report.transactions, damage, from = %from.display(), "salvaged");
    Ok(report)
}
