//! Views: what a transaction has seen of others and written itself.
//!
//! - Every read is repeatable, and own writes are seen by later reads, inside scans too: that is checked at once.
//! - What was seen of others is kept for the checkers.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Action;
use super::cell::{Cell, Content, from_value, run_of};
use super::document::{Document, content_of, contents_inside};
use crate::primitive::output::Output;

/// A range that was read.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) low: Cell,
    pub(super) high: Cell,
    pub(super) found: BTreeMap<Cell, Content>,
}

/// What was done to a list, in order.
#[derive(Clone, Debug)]
pub(super) enum ListStep {
    Append(Cell, i64),
    Read(Cell, Content),
}

/// What a transaction has seen and written.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// What others had written.
    pub(super) reads: BTreeMap<Cell, Option<Content>>,
    pub(super) ranges: Vec<Range>,
    pub(super) mine: BTreeMap<Cell, Option<Content>>,
    /// What was added at the end of lists that were not read for that.
    pub(super) appended: BTreeMap<Cell, Content>,
    pub(super) deleted: BTreeSet<u8>,
    pub(super) lists: Vec<ListStep>,
}

impl View {
    /// What the transaction knows of a cell.
    pub(super) fn known(&self, cell: &Cell) -> Option<&Content> {
        self.mine.get(cell).or_else(|| self.reads.get(cell)).and_then(Option::as_ref)
    }

    /// An action was answered.
    pub(super) fn absorb(&mut self, action: &Action, outputs: &[Output]) {
        match action {
            Action::Read(cell) => self.read(cell, read_of(&outputs[0])),
            Action::Scan { run, prefix } => {
                let mut found = BTreeMap::new();
                for output in outputs {
                    let Output::Pairs(pairs) = output else { panic!("a scan answers pairs: {output:?}") };
                    for (name, value) in pairs {
                        let twice = found.insert(Cell::kv(*run, name), from_value(value));
                        assert!(twice.is_none(), "a key is found twice: {name}");
                    }
                }
                let mut end = prefix.clone();
                end.push('~');
                self.range(Cell::kv(*run, prefix), Cell::kv(*run, end), found);
            }
            Action::Traces(run) => {
                let Output::Traces(traces) = &outputs[0] else { panic!("no traces: {outputs:?}") };
                let found = traces.iter().map(|trace| (Cell::trace(*run, &*trace.id), from_value(&trace.metadata)));
                let found: BTreeMap<_, _> = found.collect();
                assert_eq!(found.len(), traces.len(), "a trace is found twice");
                self.range(Cell::trace(*run, ""), Cell::trace(*run, "~"), found);
            }
            Action::Put(cell, content, _) => self.wrote(cell, content.clone()),
            Action::Insert(cell, content) => {
                self.read(cell, None);
                self.wrote(cell, content.clone());
            }
            Action::Delete(cell) => {
                self.delete(cell, &outputs[0]);
            }
            Action::Append(run, stamp) => {
                self.append(&Cell::log(*run), *stamp);
            }
            Action::Push(cell, stamp) => match self.mine.get_mut(cell) {
                Some(mine) => mine.get_or_insert_default().push(*stamp),
                None => self.append(cell, *stamp),
            },
            Action::Inside(document, place) => {
                let Output::Json(found) = &outputs[0] else { panic!("a document answers JSON: {outputs:?}") };
                let found = found.as_ref().map(|json| contents_inside(document, place, json)).unwrap_or_default();
                let [low, high] = ["", "~"].map(|end| document.place(&format!("{place}{end}")));
                self.range(low, high, found);
            }
            Action::Documents(run) => self.list(*run, outputs),
            Action::Replace(document, place, contents) => self.replace(document, place, contents),
            Action::Make(document, contents) => {
                self.read(&document.made(), None);
                self.replace(document, "", contents);
            }
            Action::DeleteDocument(document) => match &outputs[0] {
                Output::Flag(true) => self.replace(document, "", &BTreeMap::new()),
                Output::Flag(false) => self.read(&document.made(), None),
                output => panic!("a delete answers a flag: {output:?}"),
            },
            Action::Record { run, stamp, .. } => {
                let Output::TraceId(id) = &outputs[0] else { panic!("no trace: {outputs:?}") };
                self.mine.insert(Cell::trace(*run, &**id), Some(vec![*stamp]));
            }
            Action::DeleteRun(run) => {
                self.deleted.insert(*run);
                self.appended.retain(|cell, _| cell.run != *run);
                self.mine.retain(|cell, _| cell.run != *run);
            }
        }
    }

    /// The documents of a run were listed.
    fn list(&mut self, run: u8, outputs: &[Output]) {
        let found = outputs.iter().flat_map(|output| match output {
            Output::Texts(keys) => keys.clone(),
            output => panic!("a list answers keys: {output:?}"),
        });
        let found: BTreeSet<String> = found.collect();
        for document in Document::all(run) {
            let made = document.made();
            match (found.contains(&document.key), self.mine.get(&made).or_else(|| self.reads.get(&made))) {
                (true, Some(None)) => panic!("a list names a document that is not there: {document:?}"),
                (false, _) => self.read(&made, None),
                (true, _) => {}
            }
        }
    }

    /// A delete says whether there was something; where there was nothing, nothing is written.
    fn delete(&mut self, cell: &Cell, output: &Output) {
        let Output::Flag(was_there) = output else { panic!("a delete answers a flag: {output:?}") };
        match self.mine.get(cell).or_else(|| self.reads.get(cell)) {
            Some(known) => assert_eq!(known.is_some(), *was_there, "a delete sees what the reads saw: {cell:?}"),
            None if !*was_there => drop(self.reads.insert(cell.clone(), None)),
            None => {}
        }
        if *was_there {
            self.mine.insert(cell.clone(), None);
        }
    }

    /// A command of its own was sent: what it will have written, if it does.
    pub(super) fn promise(&mut self, action: &Action) {
        match action {
            Action::Delete(cell) => drop(self.mine.insert(cell.clone(), None)),
            Action::Insert(cell, content) => self.wrote(cell, content.clone()),
            Action::Make(document, contents) => self.replace(document, "", contents),
            Action::DeleteDocument(document) => self.replace(document, "", &BTreeMap::new()),
            action => self.absorb(action, &[Output::Unit]),
        }
    }

    fn append(&mut self, cell: &Cell, stamp: i64) {
        if cell.is_list() {
            self.lists.push(ListStep::Append(cell.clone(), stamp));
        }
        self.appended.entry(cell.clone()).or_default().push(stamp);
    }

    /// Everything inside a place of a document was written: what is not among the contents is gone.
    fn replace(&mut self, document: &Document, place: &str, contents: &BTreeMap<Cell, Content>) {
        for cell in document.cells().filter(|cell| cell.in_document().1.starts_with(place)) {
            self.appended.remove(&cell);
            let content = contents.get(&cell).cloned();
            self.mine.insert(cell, content);
        }
    }

    /// A write that nobody waited for.
    pub(super) fn wrote(&mut self, cell: &Cell, content: Content) {
        if cell.is_list() {
            let stamp = *content.last().expect("what is written has a stamp");
            self.lists.push(ListStep::Append(cell.clone(), stamp));
        }
        self.mine.insert(cell.clone(), Some(content));
    }

    fn read(&mut self, cell: &Cell, mut content: Option<Content>) {
        if self.deleted.contains(&cell.run) {
            assert_eq!(content, None, "a run that the transaction has deleted is empty: {cell:?}");
            return;
        }
        if cell.is_list() {
            self.lists.push(ListStep::Read(cell.clone(), content.clone().unwrap_or_default()));
        }
        if let Some(own) = self.appended.get(cell) {
            content = without(cell, content, own);
        } else if let Some(mine) = self.mine.get(cell) {
            let has_expired = cell.name.starts_with('t') && content.is_none();
            assert!(has_expired || content == *mine, "own writes are seen: {cell:?} {content:?} {mine:?}");
            return;
        }
        match self.reads.get(cell) {
            Some(before) => assert_eq!(*before, content, "reads are repeatable: {cell:?}"),
            None => drop(self.reads.insert(cell.clone(), content)),
        }
    }

    fn range(&mut self, low: Cell, high: Cell, mut found: BTreeMap<Cell, Content>) {
        if self.deleted.contains(&low.run) {
            assert!(found.is_empty(), "a run that the transaction has deleted is empty: {low:?} {found:?}");
            return;
        }
        let is_in = |cell: &&Cell| low <= **cell && **cell < high;
        let mut has_own = false;
        for (cell, own) in self.appended.iter().filter(|(cell, _)| is_in(cell)) {
            if let Some(content) = without(cell, found.remove(cell), own) {
                found.insert(cell.clone(), content);
            }
        }
        for (cell, content) in self.mine.iter().filter(|(cell, _)| is_in(cell)) {
            has_own = true;
            assert_eq!(found.remove(cell), *content, "own writes are seen in scans: {cell:?}");
        }
        for (cell, content) in &found {
            let before = self.reads.get(cell);
            assert!(
                before.is_none_or(|before| before.as_ref() == Some(content)),
                "a scan sees what reads saw: {cell:?}"
            );
        }
        for (cell, before) in self.reads.iter().filter(|(cell, _)| is_in(cell) && !self.mine.contains_key(*cell)) {
            assert_eq!(found.get(cell), before.as_ref(), "a scan sees what reads saw: {cell:?}");
        }
        if let Some(before) = self.ranges.iter().find(|range| range.low == low) {
            let others = before.found.iter().filter(|(cell, _)| !self.mine.contains_key(*cell));
            assert!(others.eq(found.iter()), "scans are repeatable: {low:?} {before:?} {found:?}");
        } else if !has_own {
            self.ranges.push(Range { low, high, found });
        }
    }
}

/// What a list held without what was added to it.
fn without(cell: &Cell, content: Option<Content>, own: &Content) -> Option<Content> {
    let mut all = content.unwrap_or_default();
    assert!(all.ends_with(own), "what was added is at the end of the list: {cell:?} {all:?} {own:?}");
    all.truncate(all.len() - own.len());
    (!all.is_empty()).then_some(all)
}

fn read_of(output: &Output) -> Option<Content> {
    match output {
        Output::Value(value) => value.as_ref().map(from_value),
        Output::Versioned(versioned) => versioned.as_ref().map(|versioned| from_value(&versioned.value)),
        Output::State(state) => state.as_ref().map(|state| from_value(&state.value)),
        Output::Events(events) => {
            for (at, event) in (0_u64..).zip(events) {
                assert_eq!(event.sequence, at, "a log has no gaps");
            }
            let stamps: Content = events.iter().flat_map(|event| from_value(&event.payload)).collect();
            (!stamps.is_empty()).then_some(stamps)
        }
        Output::Json(json) => json.as_ref().and_then(content_of),
        other => panic!("a read does not answer {other:?}"),
    }
}

/// What a whole memory holds, by cell.
pub(super) fn contents_of(
    dump: impl Iterator<Item = (crate::base::run_id::RunId, crate::base::key::Name, crate::base::stored::Stored)>,
) -> BTreeMap<Cell, Content> {
    use crate::base::stored::Stored;
    let mut contents: BTreeMap<Cell, Content> = BTreeMap::new();
    let mut logs: BTreeMap<(u8, u64), Content> = BTreeMap::new();
    for (id, name, stored) in dump {
        let run = run_of(id);
        let text = || String::from_utf8_lossy(&name).into_owned();
        match stored {
            Stored::Value(value) => drop(contents.insert(Cell::kv(run, text()), from_value(&value.into()))),
            Stored::State(state) => drop(contents.insert(Cell::state(run, text()), from_value(&state.value))),
            Stored::Trace(trace) => {
                contents.insert(Cell::trace(run, &*trace.id), from_value(&trace.metadata));
            }
            Stored::Json(document) => {
                contents.extend(contents_inside(&Document { run, key: text() }, "", &document.root));
            }
            Stored::Event(event) => drop(logs.insert((run, event.sequence), from_value(&event.payload))),
            _ => {}
        }
    }
    for ((run, sequence), stamps) in logs {
        let log = contents.entry(Cell::log(run)).or_default();
        assert_eq!(log.len() as u64, sequence, "a log has no gaps: run={run}");
        log.extend(stamps);
    }
    contents
}
