//! The history of one opening, and what the checkers say of it.
//!
//! - It begins with what was there, as one more transaction, and ends with a read of everything.
//! - A transaction whose reply has left its shard has happened, whether or not its client listened. One whose reply
//!   never left may have happened: the checkers find out.
//! - No two commits have one version. In the checkers' time, whoever reads at a version comes behind its commit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::action::Action;
use super::cell::{Cell, Content, writer_of};
use super::isolation::{black_box, history as appends, white_box};
use super::lifecycle::EPOCH;
use super::view::{ListStep, Range, View};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its commit was not sent.
    Running,
    /// Its commit was sent, or may have been carried out.
    Unknown,
    Committed(u64),
    ReadOnly,
    Failed,
}

/// A transaction or a command of its own.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) client: usize,
    pub(super) is_single: bool,
    /// The version it reads at; of a single write, below its own.
    pub(super) snapshot: Option<u64>,
    pub(super) fate: Fate,
    pub(super) view: View,
    pub(super) invoked: u64,
    /// When its client heard of its end; never, if it did not listen.
    pub(super) completed: u64,
    /// Whether it is a read of a shard whose log had failed.
    pub(super) in_aftermath: bool,
    /// Whether more than one shard takes part.
    pub(super) is_across: bool,
    /// The shard that answers for it.
    pub(super) shard: usize,
    /// Of a command of its own: what it does.
    pub(super) action: Option<Action>,
}

impl Record {
    pub(super) fn new(client: usize, is_single: bool, invoked: u64) -> Self {
        let view = View::default();
        Self {
            client,
            is_single,
            snapshot: None,
            fate: Fate::Running,
            view,
            invoked,
            completed: u64::MAX,
            in_aftermath: false,
            is_across: false,
            shard: 0,
            action: None,
        }
    }

    /// The version that its client was told.
    const fn version(&self) -> Option<u64> {
        match self.fate {
            Fate::Committed(version) => Some(version),
            _ => None,
        }
    }
}

/// Everything that happened in one opening.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) records: BTreeMap<u64, Record>,
    /// What was there when it began.
    pub(super) initial: BTreeMap<Cell, Content>,
    pub(super) start: u64,
    /// The id that stands for whoever wrote that.
    pub(super) beginner: u64,
}

/// What is known of versions beside the replies.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The version of a writer's commit.
    pub(super) versions: BTreeMap<u64, u64>,
    /// Writers that have committed, whatever was answered: those that a recovery has found and, where readers see what
    /// is not durable, those in memory. Of them it does not matter whether anybody saw what they wrote: once that has
    /// expired, all that tells of it is that what it replaced is gone.
    pub(super) happened: BTreeSet<u64>,
    /// What expires: the cell, its version, and when.
    pub(super) expiries: BTreeMap<(Cell, u64), u64>,
}

/// A read of everything at the end.
#[derive(Debug)]
pub(super) struct LastLook {
    /// The version it reads at.
    pub(super) snapshot: u64,
    pub(super) contents: BTreeMap<Cell, Content>,
    /// Whether everything that was acknowledged must be there.
    pub(super) is_complete: bool,
    pub(super) at: u64,
}

/// Moments of the checkers' time in one version.
const MOMENTS: u64 = 2;

/// The first moment of a version.
const fn at(version: u64) -> u64 {
    version.saturating_sub(EPOCH) * MOMENTS
}

/// The last moment of a version.
const fn after(version: u64) -> u64 {
    at(version) + MOMENTS - 1
}

type Timed = white_box::Transaction<Cell>;

impl History {
    pub(super) fn begin(start: u64, beginner: u64, initial: BTreeMap<Cell, Content>) -> Self {
        Self { records: BTreeMap::new(), initial, start, beginner }
    }

    /// Every cell that was ever there.
    fn cells(&self) -> BTreeSet<Cell> {
        let mut cells: BTreeSet<Cell> = self.initial.keys().cloned().collect();
        for record in self.records.values() {
            cells.extend(record.view.mine.keys().cloned());
            cells.extend(record.view.appended.keys().cloned());
        }
        cells
    }

    /// Holds everything against both checkers.
    pub(super) fn check(&self, found: &Found, last: &[LastLook]) -> Result<usize, String> {
        self.check_versions(found)?;
        self.check_times(found, last)?;
        self.check_aftermath()?;
        self.check_lists(last)?;
        Ok(self.records.len())
    }

    /// A read of a shard whose log had failed may stand below what was committed and heard of before, if that wrote
    /// nothing that it read.
    fn check_aftermath(&self) -> Result<(), String> {
        let cells = self.cells();
        let read = |record: &Record, cell: &Cell| {
            let is_inside = |range: &Range| (&range.low..&range.high).contains(&cell);
            record.view.reads.contains_key(cell) || record.view.ranges.iter().any(is_inside)
        };
        for (id, record) in self.records.iter().filter(|(_, record)| record.in_aftermath) {
            let Some(snapshot) = record.snapshot.filter(|_| record.fate == Fate::ReadOnly) else { continue };
            for (other, writer) in self.records.iter().filter(|(_, writer)| writer.completed < record.invoked) {
                let is_above = matches!(writer.fate, Fate::Committed(version) if version > snapshot);
                if is_above && writes(&writer.view, &cells).iter().any(|write| read(record, &write.key)) {
                    return Err(format!("T{id} misses what T{other} had written: snapshot={snapshot}"));
                }
            }
        }
        Ok(())
    }

    fn check_versions(&self, found: &Found) -> Result<(), String> {
        let mut given = BTreeMap::new();
        for (id, record) in &self.records {
            let version = record.version().or_else(|| found.versions.get(id).copied());
            if let Some(other) = version.and_then(|version| given.insert(version, id)) {
                return Err(format!("T{other} and T{id} have one version: {version:?}"));
            }
        }
        Ok(())
    }

    fn check_times(&self, found: &Found, last: &[LastLook]) -> Result<(), String> {
        let cells = self.cells();
        let mut timed = vec![self.beginning()];
        for (id, record) in &self.records {
            timed.extend(self.timed(*id, record, &cells, found)?);
        }
        let mut ids = self.beginner + 1;
        for look in last {
            let seen = |cell: &Cell| look.contents.get(cell);
            let reads = cells.iter().filter_map(|cell| self.read(cell, seen(cell), found).transpose());
            let reads = reads.collect::<Result<Vec<_>, _>>()?;
            if let Some(cell) = look.contents.keys().find(|cell| !cells.contains(*cell)) {
                return Err(format!("nobody wrote {cell:?}, and there it is: {:?}", look.contents[cell]));
            }
            ids += 1;
            timed.push(Timed {
                id: ids,
                snapshot: after(look.snapshot),
                outcome: white_box::Outcome::ReadOnly,
                reads,
                ranges: Vec::new(),
                writes: Vec::new(),
                invoked: if look.is_complete { look.at } else { 0 },
                completed: u64::MAX,
            });
        }
        timed.extend(self.expiries(&timed, found, ids));
        white_box::check(&timed).map(drop).map_err(|violations| {
            let lines: Vec<String> = violations.iter().take(5).map(ToString::to_string).collect();
            format!("white box: {}", lines.join("\n"))
        })
    }

    /// What was there before, as a transaction.
    fn beginning(&self) -> Timed {
        let write = |cell: &Cell| white_box::Write { key: cell.clone(), is_present: true };
        Timed {
            id: self.beginner,
            snapshot: at(self.start) - 1,
            outcome: white_box::Outcome::Committed(at(self.start)),
            reads: Vec::new(),
            ranges: Vec::new(),
            writes: self.initial.keys().map(write).collect(),
            invoked: 0,
            completed: 0,
        }
    }

    fn timed(&self, id: u64, record: &Record, cells: &BTreeSet<Cell>, found: &Found) -> Result<Option<Timed>, String> {
        let outcome = match record.fate {
            Fate::Running | Fate::Failed => return Ok(None),
            Fate::Unknown => match found.versions.get(&id).filter(|_| found.happened.contains(&id)) {
                Some(version) => white_box::Outcome::Committed(at(*version)),
                None => white_box::Outcome::Unknown,
            },
            Fate::Committed(version) => white_box::Outcome::Committed(at(version)),
            Fate::ReadOnly => white_box::Outcome::ReadOnly,
        };
        let version = match record.fate {
            Fate::Committed(version) => Some(version),
            _ => found.versions.get(&id).copied(),
        };
        let snapshot = match (record.is_single, outcome, version) {
            (true, white_box::Outcome::Committed(_) | white_box::Outcome::Unknown, Some(version)) => at(version) - 1,
            (true, white_box::Outcome::Unknown, None) => at(record.snapshot.unwrap_or(0)),
            _ => record.snapshot.map_or(0, after),
        };
        let view = &record.view;
        let reads =
            view.reads.iter().filter_map(|(cell, content)| self.read(cell, content.as_ref(), found).transpose());
        let reads = reads.collect::<Result<Vec<_>, _>>()?;
        let mut ranges = Vec::new();
        for range in &view.ranges {
            ranges.extend(self.range(range, found)?);
        }
        let mut writes = if outcome == white_box::Outcome::ReadOnly { Vec::new() } else { writes(view, cells) };
        for write in &mut writes {
            // What expires as it is committed was never there.
            let ends = version.and_then(|version| found.expiries.get(&(write.key.clone(), version)));
            write.is_present &= ends.is_none_or(|ends| Some(*ends) != version);
        }
        // Of those that are known afterwards only, nobody knows when they were known.
        let completed = if record.fate == Fate::Unknown { u64::MAX } else { record.completed };
        let invoked = if record.in_aftermath { 0 } else { record.invoked };
        Ok(Some(Timed { id, snapshot, outcome, reads, ranges, writes, invoked, completed }))
    }

    fn read(
        &self,
        cell: &Cell,
        content: Option<&Content>,
        found: &Found,
    ) -> Result<Option<white_box::Read<Cell>>, String> {
        let Some(content) = content else { return Ok(Some(white_box::Read { key: cell.clone(), seen: None })) };
        let seen = self.seen(cell, content, found)?;
        Ok(seen.map(|seen| white_box::Read { key: cell.clone(), seen: Some(seen) }))
    }

    fn range(&self, range: &Range, found: &Found) -> Result<Option<white_box::RangeRead<Cell>>, String> {
        let mut all = Vec::new();
        for (cell, content) in &range.found {
            let Some(seen) = self.seen(cell, content, found)? else { return Ok(None) };
            all.push((cell.clone(), seen));
        }
        let (low, high) = (Bound::Included(range.low.clone()), Bound::Excluded(range.high.clone()));
        Ok(Some(white_box::RangeRead { low, high, found: all }))
    }

    /// Who wrote what was seen, and when. `None` if nobody can know when.
    fn seen(&self, cell: &Cell, content: &Content, found: &Found) -> Result<Option<white_box::Seen>, String> {
        let writer = writer_of(content);
        let Some(record) = self.records.get(&writer) else {
            if self.initial.get(cell) == Some(content) {
                let version = at(self.start);
                return Ok(Some(white_box::Seen { version, writer: Some(self.beginner) }));
            }
            let there = self.initial.get(cell);
            return Err(format!("T{writer} wrote {cell:?} long ago, and {there:?} was there, not {content:?}"));
        };
        let written = record.view.mine.get(cell).and_then(Option::as_ref);
        let appended = record.view.appended.get(cell);
        if appended.map_or(written != Some(content), |appended| !content.ends_with(appended)) {
            return Err(format!("T{writer} wrote {written:?} {appended:?} to {cell:?}, not {content:?}"));
        }
        let version = match record.fate {
            Fate::Committed(version) => Some(version),
            Fate::Unknown => found.versions.get(&writer).copied(),
            Fate::Running | Fate::ReadOnly | Fate::Failed => {
                return Err(format!(
                    "T{writer} is not committed ({:?}), and its write was seen: {cell:?}",
                    record.fate
                ));
            }
        };
        Ok(version.map(|version| white_box::Seen { version: at(version), writer: Some(writer) }))
    }

    /// Expiries as deletions of their own.
    fn expiries(&self, timed: &[Timed], found: &Found, mut ids: u64) -> Vec<Timed> {
        let mut revisions: BTreeMap<&Cell, Vec<u64>> = BTreeMap::new();
        let mut sights: BTreeSet<u64> = BTreeSet::new();
        for transaction in timed {
            if let white_box::Outcome::Committed(time) = transaction.outcome {
                for write in &transaction.writes {
                    revisions.entry(&write.key).or_default().push(time / MOMENTS + EPOCH);
                }
            }
            // Of those whose outcome is not known, those that somebody saw count, with all their writes.
            let reads = transaction.reads.iter().filter_map(|read| Some((&read.key, read.seen?)));
            let ranges =
                transaction.ranges.iter().flat_map(|range| range.found.iter().map(|(cell, seen)| (cell, *seen)));
            for (cell, seen) in reads.chain(ranges) {
                sights.insert(seen.version / MOMENTS + EPOCH);
                revisions.entry(cell).or_default().push(seen.version / MOMENTS + EPOCH);
            }
        }
        let mut deletions = Vec::new();
        for ((cell, version), expires) in &found.expiries {
            let is_replaced = |at: &u64| *at > *version && *at <= *expires;
            let all = revisions.get(cell).map_or(&[][..], Vec::as_slice);
            // What was there when the opening began has its beginning as its version.
            let is_known = sights.contains(version) || all.iter().any(|at| *at == (*version).max(self.start));
            if expires <= version
                || !is_known
                || all.iter().any(|at| *at > self.start && is_replaced(at))
                || *expires <= self.start
            {
                continue;
            }
            ids += 1;
            deletions.push(Timed {
                id: ids,
                snapshot: at(*expires) - 1,
                outcome: white_box::Outcome::Committed(at(*expires)),
                reads: Vec::new(),
                ranges: Vec::new(),
                writes: vec![white_box::Write { key: cell.clone(), is_present: false }],
                invoked: 0,
                completed: u64::MAX,
            });
        }
        deletions
    }

    /// The same without versions: lists only.
    fn check_lists(&self, last: &[LastLook]) -> Result<(), String> {
        let cells: Vec<Cell> = self.cells().into_iter().filter(is_lasting_list).collect();
        let key = |cell: &Cell| cells.binary_search(cell).ok().map(|at| i64::try_from(at).unwrap());
        let everything = |contents: &BTreeMap<Cell, Content>, step: &dyn Fn(i64, &[i64]) -> Vec<appends::Operation>| {
            let all = cells.iter().filter_map(|cell| Some((key(cell)?, contents.get(cell))));
            all.flat_map(|(key, content)| step(key, content.map_or(&[][..], Vec::as_slice))).collect::<Vec<_>>()
        };
        let append = |key: i64, values: &[i64]| {
            values.iter().map(|value| appends::Operation::Append { key, value: *value }).collect()
        };
        let read = |key: i64, values: &[i64]| vec![appends::Operation::Read { key, values: Some(values.to_vec()) }];
        let whole = |operations: Vec<appends::Operation>, invoked: u64, completed: u64| appends::Transaction {
            process: 0,
            status: appends::Status::Ok,
            invoked,
            completed,
            operations,
        };
        let mut history = vec![whole(everything(&self.initial, &append), 0, 0)];
        for record in self.records.values() {
            let status = match record.fate {
                Fate::Running | Fate::Failed => appends::Status::Fail,
                Fate::Unknown => appends::Status::Info,
                Fate::Committed(_) | Fate::ReadOnly => appends::Status::Ok,
            };
            let operations = record.view.lists.iter().filter_map(|step| match step {
                ListStep::Append(cell, value) => Some(appends::Operation::Append { key: key(cell)?, value: *value }),
                ListStep::Read(cell, values) => {
                    Some(appends::Operation::Read { key: key(cell)?, values: Some(values.clone()) })
                }
            });
            let (process, invoked) = (record.client as u64, record.invoked);
            let (completed, operations) = (record.completed, operations.collect());
            history.push(appends::Transaction { process, status, invoked, completed, operations });
        }
        for look in last.iter().filter(|look| look.is_complete) {
            history.push(whole(everything(&look.contents, &read), look.at, u64::MAX));
        }
        black_box::check(&history).map(drop).map_err(|anomalies| {
            let lines: Vec<String> = anomalies.iter().take(3).map(|anomaly| format!("{anomaly:?}")).collect();
            format!("black box: {}", lines.join("\n"))
        })
    }
}

fn is_lasting_list(cell: &Cell) -> bool {
    cell.is_list() && cell.run < super::cell::LASTING_RUNS
}

fn writes(view: &View, cells: &BTreeSet<Cell>) -> Vec<white_box::Write<Cell>> {
    let mut writes: BTreeMap<Cell, bool> = BTreeMap::new();
    for run in &view.deleted {
        writes.extend(cells.iter().filter(|cell| cell.run == *run).map(|cell| (cell.clone(), false)));
    }
    writes.extend(view.mine.iter().map(|(cell, content)| (cell.clone(), content.is_some())));
    writes.extend(view.appended.keys().map(|cell| (cell.clone(), true)));
    writes.into_iter().map(|(key, is_present)| white_box::Write { key, is_present }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cell::STAMPS;
    use super::*;

    const START: u64 = EPOCH + 1_000;

    fn record(fate: Fate, snapshot: u64) -> Record {
        let mut record = Record::new(0, false, 1);
        record.fate = fate;
        record.snapshot = Some(snapshot);
        record
    }

    fn put(writer: u64, fate: Fate, cell: &Cell) -> Record {
        let mut record = record(fate, START + 10);
        record.view.wrote(cell, vec![i64::try_from(writer).unwrap() * STAMPS]);
        record
    }

    /// In `Buffered` mode a pair that expires at 400 replaces one that expires at 900, and the disk fails before the
    /// answer leaves: its fate is unknown, and it is lost. Everybody who saw it is aborted. A reader at a version between
    /// 400 and 900 finds nothing, and that it does so is right for no other reason than that write.
    fn overwritten(happened: bool, snapshot: u64, seen: Option<u64>) -> Result<usize, String> {
        let cell = Cell::kv(0, "t0");
        let (first, second) = (START + 100, START + 200);
        let mut history = History::begin(START, 1 << 32, BTreeMap::new());
        history.records.insert(1, put(1, Fate::Committed(first), &cell));
        history.records.insert(2, put(2, Fate::Unknown, &cell));
        let mut reader = record(Fate::ReadOnly, START + snapshot);
        let content = seen.map(|writer| vec![i64::try_from(writer).unwrap() * STAMPS]);
        reader.view.reads.insert(cell.clone(), content);
        history.records.insert(3, reader);
        let found = Found {
            versions: BTreeMap::from([(1, first), (2, second)]),
            happened: if happened { BTreeSet::from([1, 2]) } else { BTreeSet::new() },
            expiries: BTreeMap::from([((cell.clone(), first), START + 900), ((cell, second), START + 400)]),
        };
        history.check(&found, &[])
    }

    #[test]
    fn a_write_in_memory_replaces_what_was_there_though_it_is_seen_only_by_what_is_gone() {
        for (snapshot, right) in [(150, Some(1)), (200, Some(2)), (399, Some(2)), (400, None), (899, None)] {
            for seen in [None, Some(1), Some(2)] {
                let result = overwritten(true, snapshot, seen);
                assert_eq!(result.is_ok(), seen == right, "snapshot={snapshot} seen={seen:?} {result:?}");
            }
        }
    }

    #[test]
    fn a_write_that_was_in_no_memory_explains_nothing() {
        for (snapshot, right) in [(150, Some(1)), (300, Some(1)), (500, Some(1)), (950, None)] {
            for seen in [None, Some(1)] {
                let result = overwritten(false, snapshot, seen);
                assert_eq!(result.is_ok(), seen == right, "snapshot={snapshot} seen={seen:?} {result:?}");
            }
        }
    }
}
