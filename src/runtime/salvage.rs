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
    let _span = tracing::info_span!("salvage", from = %from.display(), to = %to.display()).entered();
    let damaged = Directory::new(Files::open_damaged(from)?);
    let new = Directory::new(Files::open_new(to)?);
    let salt = || uuid::Uuid::new_v4().as_u64_pair().0;
    let report = salvage::salvage(&damaged, &new, *uuid::Uuid::new_v4().as_bytes(), salt)?;
    let damage = report.damage.len();
    tracing::info!(transactions = report.transactions, damage, "salvaged");
    Ok(report)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::json::edit::{Change, Edit};
    use crate::base::json::path::Path;
    use crate::base::json::{Document, Json};
    use crate::base::key::{Name, Space};
    use crate::base::run_id::RunId;
    use crate::base::stored::{Stored, Write};
    use crate::base::version::Version;
    use crate::disk::log_writer::LogWriter;

    const KEPT: RunId = RunId::from_bytes([1; 16]);
    const GONE: RunId = RunId::from_bytes([2; 16]);

    fn put(run: RunId) -> Write {
        Write::Put {
            run,
            space: Space::Kv,
            name: Name::from_slice(b"k"),
            stored: Stored::Value(1.into()),
            expires: None,
        }
    }

    /// The second transaction ends a run and writes into one that has ended: with what was between, it may have been
    /// refused, or it came before. What is salvaged behind it must not know of it.
    #[test]
    fn a_transaction_that_does_not_fit_leaves_no_trace() {
        let root = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| root.path().join(name));
        let directory = Directory::new(Files::open_new(&from).unwrap());
        let mut writer = LogWriter::new(&directory, [3; 16], || 7);
        let transactions = [
            vec![put(KEPT), put(GONE), Write::DeleteRun { run: GONE }],
            vec![Write::DeleteRun { run: KEPT }, put(GONE)],
            vec![put(KEPT)],
            vec![Write::DeleteRun { run: GONE }],
        ];
        for (number, writes) in (1..).zip(&transactions) {
            writer.push(Version::from(number), writes, None).unwrap();
        }
        writer.finish().unwrap();
        drop(directory);
        let report = salvage(&from, &to).unwrap();
        assert_eq!((report.transactions, report.unfit_transactions), (3, 1), "{report:?}");
        assert!(report.damage.is_empty() && !report.is_whole());
    }

    #[test]
    fn an_edit_of_a_document_that_is_lost_does_not_fit() {
        let root = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| root.path().join(name));
        let directory = Directory::new(Files::open_new(&from).unwrap());
        let mut writer = LogWriter::new(&directory, [3; 16], || 7);
        let [name, lost] = ["d", "lost"].map(|name| Name::from_slice(name.as_bytes()));
        let document = Json::from_value(serde_json::json!({})).unwrap();
        let stored = Stored::Json(Arc::new(Document::new(document)));
        let made = Write::Put { run: KEPT, space: Space::Json, name: name.clone(), stored, expires: None };
        let edit = |name: &Name, path: &str| {
            let edits = vec![Edit { path: Path::parse(path).unwrap(), change: Change::Set(Json::Null) }];
            Write::EditJson { run: KEPT, name: name.clone(), edits }
        };
        let transactions = [
            vec![made, edit(&name, "a")],
            vec![edit(&name, "b"), edit(&lost, "a")],
            vec![edit(&name, "b.c")],
            vec![edit(&name, "c")],
        ];
        for (number, writes) in (1..).zip(&transactions) {
            writer.push(Version::from(number), writes, None).unwrap();
        }
        writer.finish().unwrap();
        drop(directory);
        let report = salvage(&from, &to).unwrap();
        assert_eq!((report.transactions, report.unfit_transactions), (2, 2), "{report:?}");
    }
}
