//! What the history of a key must say, and what a retention policy lets it leave out.

use super::kv::Revision;
use crate::base::options::HistoryRetention;
use crate::base::value::Value;
use crate::base::version::{Version, Versioned};

/// Everything a key ever held, as a reader sees it.
pub(super) fn expanded(revisions: &[Revision], at: Version) -> Vec<Versioned<Option<Value>>> {
    let committed: Vec<&Revision> = revisions.iter().filter(|revision| !revision.own).collect();
    let mut entries = Vec::new();
    for (index, revision) in committed.iter().enumerate() {
        let replaced = committed.get(index + 1).map_or(Version::MAX, |next| next.version);
        let expired = revision.value.is_some() && revision.expires <= at && revision.expires < replaced;
        if !(expired && revision.expires == revision.version) {
            entries.push(Versioned { version: revision.version, value: revision.value.clone() });
        }
        if expired {
            entries.push(Versioned { version: revision.expires, value: None });
        }
    }
    entries
}

/// How much of a history may be missing.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Allowance {
    pub(in super::super) policy: HistoryRetention,
    /// The time, which may be later than what the reader sees.
    pub(in super::super) now: Version,
    /// How many versions of the key are above what the reader sees.
    pub(in super::super) newer: usize,
}

/// Whether an answer is all of a history, or the end of it that the policy asks for.
pub(in super::super) fn history_agrees(
    answer: &[Versioned<Option<Value>>],
    all: &[Versioned<Option<Value>>],
    allowance: Allowance,
) -> bool {
    if !all.ends_with(answer) {
        return false;
    }
    let ends = |index: usize| all.get(index + 1).map_or(Version::MAX, |next| next.version);
    let is_gone = all.last().is_some_and(|last| last.value.is_none());
    let needed = match allowance.policy {
        HistoryRetention::Forever => all.len(),
        HistoryRetention::Off => usize::from(!all.is_empty() && !is_gone),
        HistoryRetention::For(duration) => {
            let needed = (0..all.len()).filter(|&index| {
                let since = if all[index].value.is_none() { all[index].version } else { ends(index) };
                since > allowance.now.before(duration)
            });
            needed.count()
        }
        // What was before a key was gone may be forgotten with it.
        HistoryRetention::Commits(count) => {
            let since = all.iter().rposition(|entry| entry.value.is_none()).map_or(0, |gone| gone + 1);
            let count = usize::try_from(count.max(1)).unwrap_or(usize::MAX);
            count.saturating_sub(allowance.newer).min(all.len() - since)
        }
    };
    answer.len() >= needed
}
