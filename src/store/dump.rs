//! Dumps: everything that was committed at or below a version, piece by piece, and back.
//!
//! - A dump goes on while the memory grows. Whoever takes one lets nothing be forgotten until it ends, and begins when
//!   nothing at or below its version is in doubt any more.
//! - Runs and names come in order. A name that is put out of the way, or comes back, while the dump goes on stays at its
//!   place in the order: it is met once.

use std::collections::BTreeMap;
use std::ops::Bound;

use smallvec::SmallVec;

use super::chain::{Chain, Leftover, Revision};
use super::footprint::{self, Footprint};
use super::memory::{ALL_SPACES, Memory, RunTable, new_table};
use crate::base::key::{Name, Space};
use crate::base::options::HistoryPolicy;
use crate::base::run_id::RunId;
use crate::base::stored::Stored;
use crate::base::version::Version;
use crate::format::snapshot::{Entry, Held, Kept, Piece};

/// How many revisions a piece has at most, if its keys have few each.
const PIECE_REVISIONS: usize = 128;
/// How many bytes a piece weighs at most, unless a single key is heavier. They are shared, not copied.
const PIECE_BYTES: usize = 128 << 10;
/// How many commits a piece has at most.
const PIECE_COMMITS: usize = 1024;

/// How far a dump has come.
#[derive(Debug)]
pub(crate) struct Dump {
    at: Version,
    runs: std::vec::IntoIter<RunId>,
    /// The run it is in, and how far.
    place: Option<(RunId, Place)>,
}

/// How far the dump of a run has come.
#[derive(Debug)]
enum Place {
    /// The commits up to this version.
    Commits(Version),
    /// What the commits up to this version read.
    Lineage(Version),
    /// A space, and the last name.
    Names(usize, Option<Name>),
}

impl Memory {
    /// Begins a dump of everything at or below a version.
    pub(crate) fn dump_at(&self, at: Version) -> Dump {
        let mut runs: Vec<RunId> = self.runs.keys().chain(self.tombstones.keys()).copied().collect();
        runs.sort_unstable();
        Dump { at, runs: runs.into_iter(), place: None }
    }

    /// The next piece; `None` at the end.
    pub(crate) fn next_piece(&self, dump: &mut Dump) -> Option<Piece> {
        loop {
            let Some((run, place)) = dump.place.take() else {
                let run = dump.runs.next()?;
                let Some(table) = self.runs.get(&run) else {
                    let Some(deleted) = self.deleted(&run) else { continue };
                    let collected = vec![deleted; Space::COUNT];
                    return Some(Piece::Run { run, deleted: Some(deleted), collected });
                };
                let deleted = table.deleted.filter(|deleted| *deleted <= dump.at);
                if deleted.is_none() {
                    dump.place = Some((run, Place::Commits(Version::ZERO)));
                }
                return Some(Piece::Run { run, deleted, collected: table.collected.to_vec() });
            };
            let Some(table) = self.runs.get(&run) else { continue };
            let (space, after) = match place {
                Place::Commits(above) => {
                    let commits = table.commits_between(above, dump.at, PIECE_COMMITS).to_vec();
                    let last = commits.last().map(|last| last.version);
                    dump.place = Some((run, last.map_or(Place::Lineage(Version::ZERO), Place::Commits)));
                    if last.is_none() {
                        continue;
                    }
                    return Some(Piece::Commits { run, commits });
                }
                Place::Lineage(above) => {
                    let commits = table.lineage_between(above, dump.at, PIECE_BYTES).to_vec();
                    let last = commits.last().map(|(last, _)| *last);
                    dump.place = Some((run, last.map_or(Place::Names(0, None), Place::Lineage)));
                    if last.is_none() {
                        continue;
                    }
                    return Some(Piece::Lineage { run, commits });
                }
                Place::Names(space, after) => (space, after),
            };
            let names = names_behind(table, ALL_SPACES[space], after.as_ref(), |chain| kept_until(chain, dump.at));
            if let Some(last) = names.last() {
                dump.place = Some((run, Place::Names(space, Some(last.name.clone()))));
                return Some(Piece::Names { run, space: ALL_SPACES[space], names });
            }
            if space + 1 < Space::COUNT {
                dump.place = Some((run, Place::Names(space + 1, None)));
            }
        }
    }
}

/// Some of the records of one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) pieces: Vec<Piece>,
    /// Where the next page begins, if there is one.
    pub(crate) last: Option<(Space, Name)>,
}

impl Memory {
    /// The next records of a run that are not derived, with all revisions at or below a version.
    pub(crate) fn records_of(&self, run: RunId, after: Option<(Space, Name)>, at: Version) -> Page {
        self.page_of(run, after, |chain| kept_until(chain, at))
    }

    fn page_of(&self, run: RunId, after: Option<(Space, Name)>, keep: impl Fn(&Chain) -> SmallVec<[Kept; 1]>) -> Page {
        let mut page = Page { pieces: Vec::new(), last: None };
        let Some(table) = self.runs.get(&run) else { return page };
        let first = after.as_ref().map_or(0, |(space, _)| space.index());
        let mut after = after.map(|(_, name)| name);
        for space in ALL_SPACES.into_iter().skip(first).filter(|space| !space.is_derived()) {
            let names = names_behind(table, space, after.take().as_ref(), &keep);
            if let Some(last) = names.last() {
                page.last = Some((space, last.name.clone()));
                page.pieces.push(Piece::Names { run, space, names });
                return page;
            }
        }
        page
    }

    /// What a run holds at a version beyond a place, without what is derived.
    pub(crate) fn state_of(&self, run: RunId, after: Option<(Space, Name)>, at: Version) -> Page {
        self.page_of(run, after, |chain| {
            let live = chain.at(at).filter(|revision| revision.live_at(at).is_some());
            live.map(|revision| kept(None, revision)).into_iter().collect()
        })
    }

    /// From which version on all of a run's history is kept.
    pub(crate) fn history_since(&self, run: &RunId) -> Version {
        let Some(table) = self.runs.get(run) else { return Version::ZERO };
        let kept = ALL_SPACES.iter().filter(|space| space.keeps_history());
        kept.map(|space| table.collected[space.index()]).max().unwrap_or_default()
    }
}

/// The next names of a space, as many as fit into a piece.
fn names_behind(
    table: &RunTable,
    space: Space,
    after: Option<&Name>,
    keep: impl Fn(&Chain) -> SmallVec<[Kept; 1]>,
) -> Vec<Entry> {
    let behind = || (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
    let mut present = table.spaces[space.index()].range::<Name, _>(behind()).peekable();
    let mut buried = table.buried_in(space).into_iter().flat_map(|names| names.range::<Name, _>(behind())).peekable();
    let (mut names, mut revisions, mut bytes) = (Vec::new(), 0, 0);
    while revisions < PIECE_REVISIONS && bytes < PIECE_BYTES {
        let is_buried_next = match (present.peek(), buried.peek()) {
            (None, None) => break,
            (present, None) => present.is_none(),
            (None, Some(_)) => true,
            (Some((present, _)), Some((buried, _))) => buried < present,
        };
        let next = if is_buried_next { buried.next() } else { present.next() };
        let Some((name, chain)) = next else { break };
        let kept = keep(chain);
        if !kept.is_empty() {
            revisions += kept.len();
            bytes += chain.footprint().bytes;
            names.push(Entry { name: name.clone(), kept });
        }
    }
    names
}

/// The revisions of a key at or below a version.
fn kept_until(chain: &Chain, at: Version) -> SmallVec<[Kept; 1]> {
    let mut before = None;
    let revisions = chain.revisions().take_while(|revision| revision.version <= at);
    revisions.map(|revision| kept(std::mem::replace(&mut before, revision.stored.as_ref()), revision)).collect()
}

fn kept(before: Option<&Stored>, revision: &Revision) -> Kept {
    let held = revision.stored.as_ref().map(|stored| Held::behind(before, stored));
    Kept { version: revision.version, expires: revision.expires, held }
}

/// A revision as it was dumped, behind what its key held before.
fn revision(Kept { version, expires, held }: Kept, before: Option<&Stored>) -> Result<Revision, &'static str> {
    let stored = held.map(|held| held.into_stored(before).ok_or("an edit of what is not there")).transpose()?;
    Ok(Revision { version, expires, stored })
}

/// Fills an empty memory from pieces, in the order they were dumped.
#[derive(Debug)]
pub(crate) struct Loader {
    memory: Memory,
    at: Version,
    /// The names of the space that is being loaded.
    place: Option<(RunId, Space)>,
    names: Vec<(Name, Chain)>,
    /// What they take.
    taken: Footprint,
}

impl Loader {
    /// A loader of what was dumped at a version.
    pub(crate) fn new(policy: impl Into<HistoryPolicy>, at: Version) -> Self {
        Self { memory: Memory::new(policy), at, place: None, names: Vec::new(), taken: Footprint::default() }
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// What is wrong with it: nobody dumps such a thing.
    pub(crate) fn load(&mut self, piece: Piece) -> Result<(), String> {
        match piece {
            Piece::Run { run, deleted, collected } => {
                self.end_space();
                if let Some(deleted) = deleted {
                    self.memory.remember_deleted(run, deleted);
                    return Ok(());
                }
                let total = &mut self.memory.footprint;
                let table = self.memory.runs.entry(run).or_insert_with(|| new_table(total));
                for (own, dumped) in table.collected.iter_mut().zip(collected) {
                    *own = dumped;
                    self.memory.collected = self.memory.collected.max(dumped);
                }
            }
            Piece::Commits { run, commits } => {
                for commit in commits {
                    self.memory.note_commit(run, commit);
                }
            }
            Piece::Lineage { run, commits } => {
                for (version, reads) in commits {
                    self.memory.note_lineage(run, version, reads);
                }
            }
            Piece::Names { run, space, names } => {
                if self.place != Some((run, space)) {
                    self.end_space();
                    self.place = Some((run, space));
                }
                for entry in names {
                    self.load_name(run, space, entry)?;
                }
            }
        }
        Ok(())
    }

    fn load_name(&mut self, run: RunId, space: Space, Entry { name, kept }: Entry) -> Result<(), String> {
        if self.names.last().is_some_and(|(last, _)| *last >= name) {
            return Err("names out of order, or twice".into());
        }
        let chain = match kept.into_inner() {
            Ok([kept]) => Some(Chain::new(revision(kept, None)?)),
            Err(kept) => {
                let mut revisions: Vec<Revision> = Vec::with_capacity(kept.len());
                for kept in kept {
                    let before = revisions.last().and_then(|revision| revision.stored.as_ref());
                    revisions.push(revision(kept, before)?);
                }
                Chain::of(revisions)
            }
        };
        let chain = chain.filter(|chain| chain.newest().version <= self.at);
        let Some(mut chain) = chain else {
            return Err("revisions out of order, or above the snapshot's version".into());
        };
        let gone_at = chain.newest().gone_at();
        if matches!(space, Space::Run | Space::RunHistory)
            && let Some(table) = self.memory.runs.get_mut(&run)
        {
            table.history.learn(chain.newest().stored.as_ref());
            if table.history.retention(self.memory.policy) != self.memory.policy.active {
                self.memory.thinning.insert(Version::ZERO, run);
            }
        }
        let retention =
            self.memory.runs.get(&run).map(|table| table.retention(self.memory.policy, space, Version::ZERO));
        let leftover = retention.map_or(Leftover::Settled, |retention| chain.prune(retention).leftover);
        let due = match leftover {
            Leftover::LookAgain(due) => Some(due),
            Leftover::Settled | Leftover::Empty => None,
        };
        for due in due.into_iter().chain(Some(gone_at).filter(|gone_at| *gone_at != Version::MAX)) {
            self.memory.sweep.insert((due, run, space, name.clone()));
        }
        self.taken += footprint::of_entry(&name, &chain);
        self.names.push((name, chain));
        Ok(())
    }

    fn end_space(&mut self) {
        let Some((run, space)) = self.place.take() else { return };
        let names: BTreeMap<Name, Chain> = std::mem::take(&mut self.names).into_iter().collect();
        let taken = std::mem::take(&mut self.taken);
        let total = &mut self.memory.footprint;
        let table = self.memory.runs.entry(run).or_insert_with(|| new_table(total));
        table.spaces[space.index()] = names;
        table.footprint += taken;
        self.memory.footprint += taken;
    }

    /// Everything is loaded.
    pub(crate) fn finish(mut self) -> Memory {
        self.end_space();
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::options::HistoryRetention;

    /// A small generator: the same numbers every time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }

    fn write(memory: &mut Memory, numbers: &mut Numbers, version: u64, horizon: Version) {
        let run = RunId::from_bytes([u8::try_from(numbers.below(4)).unwrap() + 1; 16]);
        let space = if numbers.below(3) == 0 { Space::State } else { Space::Kv };
        let name = Name::from_slice(format!("{:03}", numbers.below(300)).as_bytes());
        let expires = if numbers.below(9) == 0 { Version::from(version + numbers.below(400)) } else { Version::MAX };
        let stored = (numbers.below(4) > 0).then(|| Stored::Value(i64::try_from(version).unwrap().into()));
        let revision = Revision { version: version.into(), expires, stored };
        if memory.deleted(&run).is_none() {
            let _ = memory.push(run, space, name, revision, horizon);
            if numbers.below(700) == 0 {
                memory.delete_run(run, version.into());
            }
        }
        memory.sweep(horizon, 3);
    }

    #[test]
    fn what_is_dumped_while_others_write_is_what_there_was() {
        for seed in 0..40 {
            let mut numbers = Numbers(seed);
            let history = if seed % 2 == 0 { HistoryRetention::Off } else { HistoryRetention::Forever };
            let mut memory = Memory::new(history);
            let at = 2_000 + numbers.below(500);
            for version in 1..=at {
                write(&mut memory, &mut numbers, version, Version::from(version.saturating_sub(50).min(at)));
            }
            let expected = memory.dump(at.into());
            let histories = |memory: &Memory| -> Vec<(RunId, Space, Name, Version)> {
                let all = memory.every_revision().filter(|(run, space, _, old)| {
                    *space == Space::Kv
                        && old.version <= at.into()
                        && memory.deleted(run).is_none_or(|deleted| deleted > at.into())
                });
                let mut all: Vec<_> =
                    all.map(|(run, space, name, old)| (run, space, name.clone(), old.version)).collect();
                all.sort_unstable();
                all
            };
            let before = histories(&memory);
            let mut dump = memory.dump_at(at.into());
            let mut loader = Loader::new(history, at.into());
            let mut version = at;
            while let Some(piece) = memory.next_piece(&mut dump) {
                loader.load(piece).unwrap();
                for _ in 0..40 {
                    version += 1;
                    write(&mut memory, &mut numbers, version, at.into());
                }
            }
            let copy = loader.finish();
            assert!(copy.dump(at.into()) == expected, "seed {seed}");
            assert_eq!(copy.footprint(), copy.count_footprint());
            let is_kept = history == HistoryRetention::Forever;
            assert!(!is_kept || histories(&copy) == before, "history, seed {seed}");
        }
    }
}
