//! Regrouping: a snapshot of another layout, as the writes that led to it.
//!
//! - What is derived from writes is derived anew: on which shard it stands depends on the layout.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::json::{Document, Json};
use crate::base::key::{Name, Space};
use crate::base::options::HistoryRetention;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::value::Value;
use crate::base::version::Version;
use crate::format::snapshot::{Entry, Held, Kept, Piece};
use crate::primitive::index;
use crate::store::memory::Memory;

/// Collects what one of the new shards takes over.
#[derive(Debug, Default)]
pub(super) struct Regrouping {
    /// In the order of their versions, as they were replayed if they were in a log.
    writes: BTreeMap<Version, Vec<Write>>,
    /// Below which version a read of a run and a space could miss what was collected.
    collected: BTreeMap<RunId, Vec<Version>>,
}

impl Regrouping {
    /// Adds a piece; `takes_over` says what the new shard owns of a write.
    pub(super) fn add(&mut self, piece: Piece, takes_over: impl Fn(Write) -> Option<Write>) {
        if let Piece::Run { run, collected, .. } = &piece {
            let known = self.collected.entry(*run).or_insert_with(|| vec![Version::ZERO; Space::COUNT]);
            for (known, collected) in known.iter_mut().zip(collected) {
                *known = *collected.max(known);
            }
        }
        for (version, write) in writes_of(piece) {
            if let Some(write) = takes_over(write) {
                self.writes.entry(version).or_default().push(write);
            }
        }
    }

    /// The memory that comes of it.
    ///
    /// # Errors
    /// What does not fit together.
    pub(super) fn finish(self, history: HistoryRetention) -> Result<Memory, &'static str> {
        let mut memory = Memory::new(history);
        for (version, writes) in self.writes {
            for write in writes {
                index::replay(&mut memory, write, version, version.previous())?;
            }
        }
        for (run, collected) in self.collected {
            memory.note_collected(run, &collected);
        }
        Ok(memory)
    }
}

/// The writes that led to a piece, and their versions.
pub(super) fn writes_of(piece: Piece) -> Vec<(Version, Write)> {
    match piece {
        Piece::Run { run, deleted, .. } => {
            deleted.map(|version| (version, Write::DeleteRun { run })).into_iter().collect()
        }
        Piece::Names { run, space, names } => {
            let mut all = Vec::new();
            for Entry { name, kept } in names {
                // What the commit itself put there before it deleted it is not known any more.
                let is_deleted_first =
                    matches!(space, Space::Kv | Space::Json) && kept.first().is_some_and(|first| first.held.is_none());
                if let Some(first) = kept.first().filter(|_| is_deleted_first) {
                    let stored = match space {
                        Space::Json => Stored::Json(Arc::new(Document::new(Json::Null))),
                        _ => Stored::Value(Value::Null),
                    };
                    all.push((first.version, Write::Put { run, space, name: name.clone(), stored, expires: None }));
                }
                for kept in kept {
                    let version = kept.version;
                    all.extend(write_of(run, space, &name, kept).map(|write| (version, write)));
                }
            }
            all
        }
    }
}

/// The write that left a revision; `None` if it was derived.
fn write_of(run: RunId, space: Space, name: &Name, kept: Kept) -> Option<Write> {
    let name = name.clone();
    match kept.held {
        Some(Held::Stored(stored)) => {
            let expires = Some(kept.expires).filter(|expires| *expires != Version::MAX);
            Some(Write::Put { run, space, name, stored, expires })
        }
        Some(Held::Edited(edits)) => Some(Write::EditJson { run, name, edits }),
        None if matches!(space, Space::Kv | Space::RunName | Space::Json) => Some(Write::Delete { run, space, name }),
        Some(Held::EventHead { .. } | Held::Count(_) | Held::Marker) | None => None,
    }
}
