//! What commands of JSON documents answer: on plain `serde_json` values, with its own JSON Pointers.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::{Desk, Refusal, Run};
use crate::base::json::Json;
use crate::base::json::path::Path;
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::command::{JsonCommand, JsonOperation};
use crate::primitive::output::Output;

/// A document, and who changed it last.
#[derive(Clone, Debug)]
pub(in super::super) struct Document {
    pub(in super::super) root: Value,
    pub(in super::super) version: Version,
    /// Changed by the transaction that looks, and not committed.
    pub(in super::super) own: bool,
}

impl Desk<'_> {
    pub(super) fn json(&mut self, run: RunId, command: &JsonCommand) -> Result<Output, Refusal> {
        let state = self.run(run);
        let document = |key: &str| state.documents.get(key);
        Ok(match command {
            JsonCommand::Get { key, path } => {
                let found = document(key.as_str()).and_then(|document| document.root.pointer(&path.to_string()));
                Output::Json(found.map(|found| Json::from_value(found.clone()).unwrap()))
            }
            JsonCommand::Version { key } => Output::Version(document(key.as_str()).map(|document| document.version)),
            JsonCommand::Exists { key } => Output::Flag(document(key.as_str()).is_some()),
            JsonCommand::List { prefix } => {
                let prefix = prefix.as_deref().unwrap_or_default();
                Output::Texts(state.documents.keys().filter(|key| key.starts_with(prefix)).cloned().collect())
            }
            write => return self.json_write(run, write),
        })
    }

    fn json_write(&mut self, run: RunId, command: &JsonCommand) -> Result<Output, Refusal> {
        let state = self.writable(run)?;
        let found = |key: &str| state.documents.get(key).cloned();
        match command {
            JsonCommand::Create { key, .. } if found(key.as_str()).is_some() => Err(Refusal::Exists),
            JsonCommand::Create { key, document } => {
                Ok(self.keep(run, state.clone(), key.as_str(), Some(document.to_value())))
            }
            JsonCommand::Set { key, path, value } => {
                let mut root = found(key.as_str()).map(|document| document.root);
                set(&mut root, path, value.to_value())?;
                Ok(self.keep(run, state.clone(), key.as_str(), root))
            }
            JsonCommand::CompareAndSet { key, expected, path, value } => {
                let mut root = found(key.as_str());
                let actual = root.as_ref().map(|document| document.version);
                if actual != Some(*expected) {
                    return Err(Refusal::Mismatch(expected.get(), actual.unwrap_or_default().get()));
                }
                let mut root = root.take().map(|document| document.root);
                set(&mut root, path, value.to_value())?;
                Ok(self.keep(run, state.clone(), key.as_str(), root))
            }
            JsonCommand::Patch { key, operations } => {
                let mut root = Some(found(key.as_str()).ok_or(Refusal::NotFound)?.root);
                let mut changed = false;
                for operation in operations {
                    changed |= patch(&mut root, operation)?;
                }
                Ok(if changed { self.keep(run, state.clone(), key.as_str(), root) } else { Output::Unit })
            }
            JsonCommand::Merge { key, patch } => {
                let mut root = found(key.as_str()).ok_or(Refusal::NotFound)?.root;
                let changed = merge(&mut root, &patch.to_value());
                Ok(if changed { self.keep(run, state.clone(), key.as_str(), Some(root)) } else { Output::Unit })
            }
            JsonCommand::Push { key, path, value } => {
                let mut root = found(key.as_str()).ok_or(Refusal::NotFound)?.root;
                let place = root.pointer_mut(&path.to_string()).ok_or(Refusal::NotFound)?;
                place.as_array_mut().ok_or(Refusal::Invalid)?.push(value.to_value());
                Ok(self.keep(run, state.clone(), key.as_str(), Some(root)))
            }
            JsonCommand::DeleteAt { key, path } if !path.is_root() => {
                let Some(Document { mut root, .. }) = found(key.as_str()) else { return Ok(Output::Flag(false)) };
                let is_there = remove(&mut root, path).is_some();
                if is_there {
                    self.keep(run, state.clone(), key.as_str(), Some(root));
                }
                Ok(Output::Flag(is_there))
            }
            JsonCommand::Delete { key } | JsonCommand::DeleteAt { key, .. } => {
                let is_there = found(key.as_str()).is_some();
                if is_there {
                    self.keep(run, state.clone(), key.as_str(), None);
                }
                Ok(Output::Flag(is_there))
            }
            read => unreachable!("answered above: {read:?}"),
        }
    }

    fn keep(&mut self, run: RunId, mut state: Run, key: &str, root: Option<Value>) -> Output {
        let documents = Rc::make_mut(&mut state.documents);
        match root {
            Some(root) => {
                let version = self.sheet.own_at.unwrap_or(self.now);
                documents.insert(key.into(), Document { root, version, own: true });
            }
            None => drop(documents.remove(key)),
        }
        self.change(run, state);
        Output::Unit
    }
}

/// What a path ends in, and its last segment.
fn parent<'v>(root: &'v mut Value, path: &Path) -> Option<(&'v mut Value, String)> {
    let (last, parent) = path.segments().split_last()?;
    let parent = Path::of(parent.to_vec()).ok()?.to_string();
    Some((root.pointer_mut(&parent)?, last.to_string()))
}

fn place(items: &[Value], segment: &str) -> Option<usize> {
    let index: usize = segment.parse().ok()?;
    (index.to_string() == segment && index <= items.len()).then_some(index)
}

fn set(root: &mut Option<Value>, path: &Path, value: Value) -> Result<(), Refusal> {
    if path.is_root() {
        *root = Some(value);
        return Ok(());
    }
    let root = root.as_mut().ok_or(Refusal::NotFound)?;
    match parent(root, path).ok_or(Refusal::NotFound)? {
        (Value::Object(members), key) => drop(members.insert(key, value)),
        (Value::Array(items), segment) => {
            let at = place(items, &segment).filter(|at| *at < items.len()).ok_or(Refusal::NotFound)?;
            items[at] = value;
        }
        _ => return Err(Refusal::NotFound),
    }
    Ok(())
}

fn remove(root: &mut Value, path: &Path) -> Option<Value> {
    match parent(root, path)? {
        (Value::Object(members), key) => members.shift_remove(&key),
        (Value::Array(items), segment) => {
            let at = place(items, &segment).filter(|at| *at < items.len())?;
            Some(items.remove(at))
        }
        _ => None,
    }
}

fn add(root: &mut Option<Value>, path: &Path, value: Value) -> Result<(), Refusal> {
    if let Some((Value::Array(items), segment)) = root.as_mut().and_then(|root| parent(root, path)) {
        let at = if segment == "-" { Some(items.len()) } else { place(items, &segment) };
        items.insert(at.ok_or(Refusal::NotFound)?, value);
        return Ok(());
    }
    set(root, path, value)
}

/// Returns whether it changes anything.
fn patch(root: &mut Option<Value>, operation: &JsonOperation) -> Result<bool, Refusal> {
    let find = |root: &Option<Value>, path: &Path| {
        root.as_ref().and_then(|root| root.pointer(&path.to_string())).cloned().ok_or(Refusal::NotFound)
    };
    match operation {
        JsonOperation::Add { path, value } => add(root, path, value.to_value())?,
        JsonOperation::Remove { path } if path.is_root() => return Err(Refusal::Invalid),
        JsonOperation::Remove { path } => {
            root.as_mut().and_then(|root| remove(root, path)).ok_or(Refusal::NotFound)?;
        }
        JsonOperation::Replace { path, value } => {
            find(root, path)?;
            set(root, path, value.to_value())?;
        }
        JsonOperation::Move { from, path } => {
            if path.to_string().starts_with(&format!("{from}/")) {
                return Err(Refusal::Invalid);
            }
            let value = find(root, from)?;
            if from == path {
                return Ok(false);
            }
            root.as_mut().and_then(|root| remove(root, from)).ok_or(Refusal::NotFound)?;
            add(root, path, value)?;
        }
        JsonOperation::Copy { from, path } => {
            let value = find(root, from)?;
            add(root, path, value)?;
        }
        JsonOperation::Test { path, value } => {
            let found = find(root, path).ok().filter(|found| *found == value.to_value());
            return found.map(|_| false).ok_or(Refusal::Invalid);
        }
    }
    Ok(true)
}

/// RFC 7396, section 2. Returns whether it changes anything.
fn merge(target: &mut Value, patch: &Value) -> bool {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return true;
    };
    let mut changed = !target.is_object();
    if changed {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { unreachable!("made one above") };
    for (key, member) in patch {
        changed |= match member {
            Value::Null => members.shift_remove(key).is_some(),
            member => merge(members.entry(key.clone()).or_insert(Value::Null), member),
        };
    }
    changed
}
