//! What key-value commands answer.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::history::expanded;
use super::{Desk, Refusal, Run};
use crate::base::key::Name;
use crate::base::run_id::RunId;
use crate::base::value::Value;
use crate::base::version::{Version, Versioned};
use crate::primitive::command::{KvCommand, KvScan};
use crate::primitive::output::Output;

/// What a key held from one commit on; `None` is a delete.
#[derive(Clone, Debug)]
pub(in super::super) struct Revision {
    pub(in super::super) version: Version,
    pub(in super::super) expires: Version,
    pub(in super::super) value: Option<Value>,
    /// Written by the transaction that looks, and not committed.
    pub(in super::super) own: bool,
}

impl Desk<'_> {
    pub(super) fn kv(&mut self, run: RunId, command: &KvCommand) -> Result<Output, Refusal> {
        let state = self.run(run);
        Ok(match command {
            KvCommand::Get { key } => Output::Value(self.value(&state, key.as_str())),
            KvCommand::GetVersioned { key } => {
                let found =
                    self.live(&state, key.as_str()).map(|(value, version)| Box::new(Versioned { value, version }));
                Output::Versioned(found)
            }
            KvCommand::GetMany { keys } => {
                Output::Values(keys.iter().map(|key| self.value(&state, key.as_str())).collect())
            }
            KvCommand::Exists { key } => Output::Flag(self.live(&state, key.as_str()).is_some()),
            KvCommand::History { key } => {
                let revisions = state.pairs.get(key.as_str()).map_or(&[][..], Vec::as_slice);
                Output::History(expanded(revisions, self.sheet.at))
            }
            KvCommand::List { prefix } => {
                Output::Texts(self.pairs(&state, prefix.as_deref()).into_iter().map(|(key, _)| key).collect())
            }
            KvCommand::ListWithValues { prefix } => Output::Pairs(self.pairs(&state, prefix.as_deref())),
            KvCommand::Count { prefix } => Output::Count(self.pairs(&state, prefix.as_deref()).len() as u64),
            KvCommand::Scan(scan) => {
                let KvScan { prefix, start, end, after, reverse, limit } = &**scan;
                let mut pairs = self.pairs(&state, prefix.as_deref());
                pairs.retain(|(key, _)| {
                    start.as_ref().is_none_or(|start| key >= start)
                        && end.as_ref().is_none_or(|end| key < end)
                        && after.as_ref().is_none_or(|after| if *reverse { key < after } else { key > after })
                });
                if *reverse {
                    pairs.reverse();
                }
                pairs.truncate(*limit);
                Output::Pairs(pairs)
            }
            write => return self.kv_write(run, write),
        })
    }

    fn kv_write(&mut self, run: RunId, command: &KvCommand) -> Result<Output, Refusal> {
        let mut state = self.writable(run)?;
        Ok(match command {
            KvCommand::Put { key, value, ttl } => {
                let expires = ttl.map_or(Version::MAX, |ttl| self.now.after(ttl));
                self.write(run, &mut state, key.as_str(), Some(value.clone()), expires);
                Output::Unit
            }
            KvCommand::PutMany { pairs } => {
                for (key, value) in pairs {
                    self.write(run, &mut state, key.as_str(), Some(value.clone()), Version::MAX);
                }
                Output::Unit
            }
            KvCommand::Delete { key } => Output::Flag(self.delete(run, &mut state, key.as_str())),
            KvCommand::DeleteMany { keys } => {
                let distinct: BTreeSet<&str> = keys.iter().map(Name::as_str).collect();
                let deleted = distinct.into_iter().filter(|key| self.delete(run, &mut state, key));
                Output::Count(deleted.count() as u64)
            }
            KvCommand::CompareAndPut { key, expected, value } => {
                let actual = self.live(&state, key.as_str()).map(|(_, version)| version);
                if actual != *expected {
                    let number = |version: Option<Version>| version.map_or(0, Version::get);
                    return Err(Refusal::Mismatch(number(*expected), number(actual)));
                }
                self.write(run, &mut state, key.as_str(), Some(value.clone()), Version::MAX);
                Output::Unit
            }
            read => unreachable!("answered above: {read:?}"),
        })
    }

    fn delete(&mut self, run: RunId, state: &mut Run, key: &str) -> bool {
        let is_there = self.live(state, key).is_some();
        if is_there {
            self.write(run, state, key, None, Version::MAX);
        }
        is_there
    }

    fn write(&mut self, run: RunId, state: &mut Run, key: &str, value: Option<Value>, expires: Version) {
        let revisions = Rc::make_mut(&mut state.pairs).entry(key.into()).or_default();
        // Two writes of one commit to one key leave the later one.
        revisions.pop_if(|last| last.own);
        let version = self.sheet.own_at.unwrap_or(self.now);
        revisions.push(Revision { version, expires, value, own: true });
        self.change(run, state.clone());
    }

    fn value(&self, state: &Run, key: &str) -> Option<Value> {
        self.live(state, key).map(|(value, _)| value)
    }

    fn live(&self, state: &Run, key: &str) -> Option<(Value, Version)> {
        self.is_live(state.pairs.get(key)?.last()?)
    }

    fn is_live(&self, revision: &Revision) -> Option<(Value, Version)> {
        let read_at = if revision.own { self.sheet.own_at.unwrap_or(self.sheet.at) } else { self.sheet.at };
        let value = revision.value.clone().filter(|_| read_at < revision.expires)?;
        Some((value, revision.version))
    }

    pub(super) fn pairs(&self, state: &Run, prefix: Option<&str>) -> Vec<(String, Value)> {
        let within = state.pairs.iter().filter(|(key, _)| prefix.is_none_or(|prefix| key.starts_with(prefix)));
        within.filter_map(|(key, revisions)| Some((key.clone(), self.is_live(revisions.last()?)?.0))).collect()
    }
}
