//! What is derived from writes: indexes, the end of the event log, the number of traces, the marks of who changed what in
//! JSON documents.
//!
//! - The log holds primary writes only. `derive` says what follows from one, in one place for all who need it: the
//!   commit, the recovery and the running transaction.
//! - `apply` is the only one who pushes revisions into memory, so that memory always holds what its primary entries
//!   imply, at every version.
//! - What is derived has the version of the write it was derived from.
//! - A mark holds nothing and has a version only: it goes when nobody can be below that any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::error::Result;
use crate::base::event::EventHead;
use crate::base::json::Document;
use crate::base::json::edit::Edit;
use crate::base::key::{
    Name, NameBuffer, Space, number_at_end, number_pair_name, push_bytes, push_text, text_name, text_number_name,
    unit_name,
};
use crate::base::planted::{Bug, planted};
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::stored::{Stored, Write};
use crate::base::trace::{Trace, TraceType};
use crate::base::version::Version;
use crate::commit::access::Access;
use crate::commit::part::Part;
use crate::store::backlog::Backlog;
use crate::store::chain::Revision;
use crate::store::memory::Memory;

use super::trace_store::parse_id;

/// Where derived entries go.
trait Target {
    /// What a key holds before the write.
    fn current(&mut self, run: RunId, space: Space, name: &Name) -> Option<Stored>;
    /// A key holds this from now on; `None` is a delete.
    fn set(&mut self, run: RunId, space: Space, name: Name, stored: Option<Stored>);
    /// The run has one more trace.
    fn count_trace(&mut self, run: RunId);
    /// Whether there is a JSON document before the write.
    fn holds_document(&mut self, run: RunId, name: &Name) -> bool;
    /// Somebody wrote there.
    fn mark(&mut self, run: RunId, space: Space, name: Name);
}

/// Applies a logged write, and everything derived from it, to memory.
///
/// # Panics
/// If the write goes to a run that was deleted at a lower version, or below what its key holds.
pub(crate) fn apply(memory: &mut Memory, write: Write, version: Version, horizon: Version) {
    if let Err(what) = replay(memory, write, version, horizon) {
        panic!("{what}");
    }
}

/// The same for a write that was read from a log. Memory is of no use after an error.
///
/// # Errors
/// Why no shard can have written that here.
pub(crate) fn replay(
    memory: &mut Memory,
    write: Write,
    version: Version,
    horizon: Version,
) -> Result<(), &'static str> {
    let mut commit = Commit { memory, version, horizon, refused: None };
    match write {
        Write::Put { run, space, name, stored, expires } => {
            derive(&mut commit, run, &name, &stored);
            commit.push(run, space, name, put_revision(stored, expires, version));
        }
        Write::Delete { run, space, name } => {
            assert!(
                !matches!(space, Space::Event | Space::Trace | Space::Run),
                "entries are derived from events, traces and metadata: they end with their run only"
            );
            if space == Space::Json {
                mark_document(&mut commit, run, &name, true);
            }
            commit.set(run, space, name, None);
        }
        Write::EditJson { run, name, edits } => {
            let Some(Stored::Json(document)) = commit.current(run, Space::Json, &name) else {
                return Err("an edit of a JSON document that is not there");
            };
            for edit in &edits {
                mark_edit(&mut commit, run, &name, edit);
            }
            let mut after = document.edited(edits)?;
            if commit.memory.newest_version(&run, Space::Json, &name) == Some(version) {
                after = after.continuing(&document);
            }
            commit.set(run, Space::Json, name, Some(Stored::Json(Arc::new(after))));
        }
        Write::DeleteRun { run } => {
            if let Some(Stored::Run(metadata)) = commit.current(run, Space::Run, &unit_name()) {
                for (space, name) in directory_entries(run, &metadata) {
                    commit.set(RunId::DIRECTORY, space, name, None);
                }
            }
            commit.memory.delete_run(run, version);
        }
    }
    commit.refused.map_or(Ok(()), Err)
}

/// The same, at leisure: plain values and states wait, because nothing is derived from them and nothing asks for them but
/// the end of their run.
///
/// # Errors
/// Why no shard can have written one of those that wait. Memory is of no use then.
pub(crate) fn enqueue(backlog: &mut Backlog, write: Write, version: Version) -> Result<(), &'static str> {
    match write {
        Write::Put { run, space: space @ (Space::Kv | Space::State), name, stored, expires } => {
            backlog.add(run, space, name, put_revision(stored, expires, version))
        }
        Write::Delete { run, space: Space::Kv, name } => {
            backlog.add(run, Space::Kv, name, Revision { version, expires: Version::MAX, stored: None })
        }
        Write::Put { space: Space::Event | Space::Trace, .. } => {
            replay(backlog.memory(), write, version, version.previous())
        }
        write => {
            for space in [Space::Kv, Space::State] {
                backlog.settle_space(write.run(), space)?;
            }
            replay(backlog.memory(), write, version, version.previous())
        }
    }
}

fn put_revision(stored: Stored, expires: Option<Version>, version: Version) -> Revision {
    // A commit that took longer than its value's time to live replaces what was there all the same.
    Revision { version, expires: expires.unwrap_or(Version::MAX).max(version), stored: Some(stored) }
}

/// Writes something in a running transaction, and lets its later reads see that and what is derived from it. What is
/// derived without looking at anything is postponed until one of them looks, see `lay_over`.
///
/// # Errors
/// `LimitExceeded` if the transaction becomes too large.
pub(crate) fn put(
    access: &mut Access<'_>,
    run: RunId,
    space: Space,
    name: Name,
    stored: Stored,
    expires: Option<Version>,
) -> Result<()> {
    if !access.needs_overlay() {
        return access.push(Write::Put { run, space, name, stored, expires });
    }
    if can_be_postponed(space) {
        return access.postpone(space, Write::Put { run, space, name, stored, expires });
    }
    access.push(Write::Put { run, space, name: name.clone(), stored: stored.clone(), expires })?;
    show(access, run, space, name, stored, expires);
    Ok(())
}

/// Lets the reads of a running transaction see one thing that it has written, and what is derived from it.
fn show(access: &mut Access<'_>, run: RunId, space: Space, name: Name, stored: Stored, expires: Option<Version>) {
    derive(&mut Overlay(access), run, &name, &stored);
    access.lay_over(run, space, name, stored, expires);
}

/// Lets the reads of a running transaction see all that it has written: before a command that may look for it, before
/// one that may have to be taken back, and before its keys are locked.
pub(crate) fn lay_over(access: &mut Access<'_>) {
    while let Some(write) = access.next_postponed() {
        let Write::Put { run, space, name, stored, expires } = write else { continue };
        show(access, run, space, name, stored, expires);
    }
}

/// The same, for a part that no command is at.
pub(crate) fn complete(part: &mut Part, memory: &Memory, now: Version) {
    if !part.is_complete() && !planted(Bug::PostponedNotLocked) {
        lay_over(&mut Access::new(memory, part, now));
    }
}

/// Whether what is derived from what is put there follows from that alone.
const fn can_be_postponed(space: Space) -> bool {
    matches!(space, Space::Kv | Space::State | Space::Event | Space::Trace)
}

/// Changes a JSON document in some places in a running transaction; with the edits, it is this.
///
/// # Errors
/// `LimitExceeded` if the transaction becomes too large.
pub(crate) fn edit_json(
    access: &mut Access<'_>,
    run: RunId,
    name: &Name,
    edits: Vec<Edit>,
    document: Document,
) -> Result<()> {
    let to_mark = if access.needs_overlay() { edits.clone() } else { Vec::new() };
    access.edit_json(run, name.clone(), edits, Stored::Json(Arc::new(document)))?;
    for edit in &to_mark {
        mark_edit(&mut Overlay(access), run, name, edit);
    }
    Ok(())
}

/// Deletes a JSON document in a running transaction.
///
/// # Errors
/// `LimitExceeded` if the transaction becomes too large.
pub(crate) fn delete_json(access: &mut Access<'_>, run: RunId, name: &Name) -> Result<()> {
    access.delete(run, Space::Json, name.clone())?;
    if access.needs_overlay() {
        mark_document(&mut Overlay(access), run, name, true);
    }
    Ok(())
}

/// Deletes a run in a running transaction, and what its shard's directory says of it.
///
/// # Errors
/// `LimitExceeded` if the transaction becomes too large.
pub(crate) fn delete_run(access: &mut Access<'_>, run: RunId) -> Result<()> {
    let before = if access.needs_overlay() { access.get(run, Space::Run, &unit_name()) } else { None };
    access.delete_run(run)?;
    if let Some(Stored::Run(metadata)) = before {
        for (space, name) in directory_entries(run, &metadata) {
            access.overlay(RunId::DIRECTORY, space, name, None);
        }
    }
    Ok(())
}

/// What a JSON document's key holds with these edits.
pub(crate) fn edited(memory: &Memory, run: &RunId, name: &Name, edits: &[Edit]) -> Option<Stored> {
    let Some(Stored::Json(document)) = &memory.at(run, Space::Json, name, Version::MAX)?.stored else { return None };
    document.edited(edits.to_vec()).ok().map(|document| Stored::Json(Arc::new(document)))
}

/// A commit under way: derived entries go to memory.
struct Commit<'a> {
    memory: &'a mut Memory,
    version: Version,
    horizon: Version,
    /// Why it cannot be.
    refused: Option<&'static str>,
}

impl Commit<'_> {
    fn push(&mut self, run: RunId, space: Space, name: Name, revision: Revision) {
        let pushed = self.memory.push(run, space, name, revision, self.horizon);
        self.refused = self.refused.or(pushed.err());
    }
}

impl Target for Commit<'_> {
    /// That the run is deleted does not count: of several logs, one may say so before another has told what was there.
    fn current(&mut self, run: RunId, space: Space, name: &Name) -> Option<Stored> {
        self.memory.newest(&run, space, name)?.stored.clone()
    }

    fn set(&mut self, run: RunId, space: Space, name: Name, stored: Option<Stored>) {
        let revision = Revision { version: self.version, expires: Version::MAX, stored };
        self.push(run, space, name, revision);
    }

    fn count_trace(&mut self, run: RunId) {
        let count = match self.current(run, Space::TraceCount, &unit_name()) {
            Some(Stored::Count(count)) => count,
            _ => 0,
        };
        self.set(run, Space::TraceCount, unit_name(), Some(Stored::Count(count + 1)));
    }

    fn holds_document(&mut self, run: RunId, name: &Name) -> bool {
        self.current(run, Space::Json, name).is_some()
    }

    fn mark(&mut self, run: RunId, space: Space, name: Name) {
        let revision = Revision { version: self.version, expires: self.version, stored: Some(Stored::Marker) };
        self.push(run, space, name, revision);
    }
}

/// A running transaction: derived entries are for its own later reads.
struct Overlay<'a, 'm>(&'a mut Access<'m>);

impl Target for Overlay<'_, '_> {
    fn current(&mut self, run: RunId, space: Space, name: &Name) -> Option<Stored> {
        self.0.get(run, space, name)
    }

    fn set(&mut self, run: RunId, space: Space, name: Name, stored: Option<Stored>) {
        self.0.overlay(run, space, name, stored);
    }

    /// Counted beside the overlay: to read the count would make every two recordings conflict.
    fn count_trace(&mut self, run: RunId) {
        self.0.count_trace(run);
    }

    /// Looked at, not read: to read it would make every two edits of a document conflict.
    fn holds_document(&mut self, run: RunId, name: &Name) -> bool {
        self.0.look(run, name).is_some()
    }

    fn mark(&mut self, run: RunId, space: Space, name: Name) {
        self.0.overlay(run, space, name, Some(Stored::Marker));
    }
}

/// Everything that follows from a key of a run holding something from now on.
fn derive(target: &mut impl Target, run: RunId, name: &Name, stored: &Stored) {
    match stored {
        Stored::Event(event) => {
            let entry = text_number_name(&event.event_type, event.sequence);
            target.set(run, Space::EventType, entry, Some(Stored::Marker));
            let head = EventHead { len: event.sequence + 1, timestamp: event.timestamp, hash: event.hash };
            target.set(run, Space::EventHead, unit_name(), Some(Stored::EventHead(Arc::new(head))));
        }
        Stored::Trace(trace) => {
            let Some(number) = number_at_end(name) else { unreachable!("a trace's name is its number") };
            for (space, entry) in trace_entries(number, trace) {
                target.set(run, space, entry, Some(Stored::Marker));
            }
            target.count_trace(run);
        }
        Stored::Run(metadata) => {
            let before = match target.current(run, Space::Run, name) {
                Some(Stored::Run(before)) => directory_entries(run, &before),
                _ => BTreeSet::new(),
            };
            let after = directory_entries(run, metadata);
            for (space, entry) in before.difference(&after) {
                target.set(RunId::DIRECTORY, *space, entry.clone(), None);
            }
            for (space, entry) in after.difference(&before) {
                target.set(RunId::DIRECTORY, *space, entry.clone(), Some(Stored::Marker));
            }
        }
        Stored::Json(_) => {
            let is_new = !target.holds_document(run, name);
            mark_document(target, run, name, is_new);
        }
        Stored::Value(_)
        | Stored::State(_)
        | Stored::DeletedState(_)
        | Stored::RunId(_)
        | Stored::RunEnded(_)
        | Stored::Retention(_) => {}
        Stored::EventHead(_) | Stored::Count(_) | Stored::Marker => unreachable!("nobody writes what is derived"),
    }
}

/// Marks a whole document as written, and if it was made or deleted, its key.
fn mark_document(target: &mut impl Target, run: RunId, document: &Name, is_made_or_deleted: bool) {
    let mut name = NameBuffer::new();
    push_bytes(&mut name, document);
    target.mark(run, Space::JsonPath, Name::from_slice(&name));
    if is_made_or_deleted && !planted(Bug::KeysNotMarked) {
        target.mark(run, Space::JsonKey, Name::from_slice(document));
    }
}

/// Marks the path that an edit writes.
fn mark_edit(target: &mut impl Target, run: RunId, document: &Name, edit: &Edit) {
    let mut name = NameBuffer::new();
    push_bytes(&mut name, document);
    for segment in edit.written() {
        push_text(&mut name, segment);
    }
    if !planted(Bug::EditsNotMarked) {
        target.mark(run, Space::JsonPath, Name::from_slice(&name));
    }
}

/// The entries by which a trace is found.
fn trace_entries(number: u64, trace: &Trace) -> SmallVec<[(Space, Name); 4]> {
    let parent = trace.parent_id.as_deref().and_then(parse_id).unwrap_or(0);
    let mut entries = SmallVec::new();
    entries.push((Space::TraceKind, text_number_name(&trace.trace_type.kind(), number)));
    entries.push((Space::TraceChild, number_pair_name(parent, number)));
    if matches!(trace.trace_type, TraceType::Custom { .. }) {
        entries.push((Space::TraceKind, text_number_name(trace.trace_type.family(), number)));
    }
    entries.extend(trace.tags.iter().map(|tag| (Space::TraceTag, text_number_name(tag, number))));
    entries.sort_unstable();
    entries.dedup();
    entries
}

/// The entries by which a run is found in its shard's directory.
fn directory_entries(run: RunId, metadata: &RunMetadata) -> BTreeSet<(Space, Name)> {
    let of_text = |space: Space, text: &str| (space, text_name(text, run.as_bytes()));
    let mut entries = BTreeSet::from([
        (Space::RunAll, Name::from_slice(run.as_bytes())),
        of_text(Space::RunStatus, metadata.status.as_str()),
    ]);
    if let Some(parent) = metadata.parent_run {
        entries.insert((Space::RunChild, Name::from_slice(&[*parent.as_bytes(), *run.as_bytes()].concat())));
    }
    entries.extend(metadata.tags.iter().map(|tag| of_text(Space::RunTag, tag)));
    entries
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::command::{
        Command, EventCommand, JsonCommand, KvCommand, RunCommand, RunFilter, StateCommand, TraceCommand,
    };
    use super::super::harness::{Harness, OTHER, RUN, append, create, record};
    use super::super::output::Output;
    use super::*;
    use crate::base::json::Json;
    use crate::base::json::path::Path;
    use crate::base::options::HistoryRetention;
    use crate::base::packed::Packed;
    use crate::base::run::RunStatus;
    use crate::base::value::Value;

    const PARENT: &str = "00000000000003e8";

    /// A small generator: the same numbers every time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % limit
        }
    }

    /// What a transaction does to make entries of every derived kind, some of them twice, some to remove them again.
    fn changes() -> Vec<Command> {
        vec![
            create("r", Some(OTHER), &["old", "kept"]).into(),
            append("a").into(),
            EventCommand::AppendMany { events: vec![("b".into(), 1.into()), ("a".into(), 2.into())] }.into(),
            record(1_000, None, TraceType::from("plan"), &["t", "t"]).into(),
            record(2_000, Some(PARENT), TraceType::from("plan"), &["t", "u"]).into(),
            record(3_000, None, TraceType::Thought { content: "so".into(), confidence: None }, &[]).into(),
            RunCommand::AddTags { tags: vec!["new".into()] }.into(),
            RunCommand::RemoveTags { tags: vec!["old".into()] }.into(),
            RunCommand::UpdateStatus { to: RunStatus::Paused, error: None }.into(),
        ]
    }

    /// What every question that an index answers is answered now.
    fn answers(harness: &Harness, part: &mut Part) -> Vec<Output> {
        let kinds = ["plan", "Custom", "Custom:plan", "Thought"];
        let mut questions: Vec<Command> = vec![
            EventCommand::Len.into(),
            EventCommand::Head.into(),
            EventCommand::Types.into(),
            EventCommand::Verify.into(),
            EventCommand::ReadByType { event_type: "a".into() }.into(),
            EventCommand::ReadByTime { range: 0..i64::MAX }.into(),
            TraceCommand::Count.into(),
            TraceCommand::Roots.into(),
            TraceCommand::Children { id: PARENT.into() }.into(),
            TraceCommand::Tree { id: PARENT.into() }.into(),
            TraceCommand::ByTime { range: 0..i64::MAX }.into(),
            TraceCommand::Page { after: 1_000, limit: 9 }.into(),
            RunCommand::Get.into(),
        ];
        questions.extend(kinds.map(|kind| TraceCommand::ByKind { kind: kind.into() }.into()));
        questions.extend(["t", "u"].map(|tag| TraceCommand::ByTag { tag: tag.into() }.into()));
        let mut answers: Vec<_> =
            questions.into_iter().map(|question| harness.step_in(part, RUN, question).unwrap()).collect();
        let statuses = [RunStatus::Active, RunStatus::Paused].map(RunFilter::Status);
        let tags = ["old", "kept", "new"].map(|tag| RunFilter::Tag(tag.into()));
        let others = [RunFilter::All, RunFilter::Parent(OTHER), RunFilter::Parent(RUN)];
        for filter in statuses.into_iter().chain(tags).chain(others) {
            answers.push(harness.step_in(part, RunId::DIRECTORY, RunCommand::List(filter)).unwrap());
        }
        answers
    }

    #[test]
    fn a_transaction_sees_of_its_own_writes_what_everybody_sees_after_its_commit() {
        let mut harness = Harness::new();
        let mut part = harness.begin();
        for change in changes() {
            harness.step(&mut part, change).unwrap();
        }
        let before = answers(&harness, &mut part);
        harness.commit(part).unwrap();
        let after = answers(&harness, &mut Part::tracked(harness.version()));
        assert_eq!(before, after);
        let listed: Vec<_> = after[after.len() - 8..].iter().map(|output| output.clone().ids().len()).collect();
        assert_eq!(listed, [0, 1, 0, 1, 1, 1, 1, 0], "active paused, old kept new, all, by parent, no children");
        assert_eq!(after[6], Output::Count(3));
    }

    #[test]
    fn one_transaction_and_many_derive_the_same() {
        let mut together = Harness::new();
        let mut part = together.begin();
        let mut apart = Harness::new();
        for change in changes() {
            together.step(&mut part, change.clone()).unwrap();
            apart.now = together.now - 1_000;
            apart.run(change).unwrap();
        }
        together.commit(part).unwrap();
        apart.now = together.now;
        assert_eq!(together.memory.dump(Version::MAX.previous()), apart.memory.dump(Version::MAX.previous()));
    }

    #[test]
    fn a_recovery_derives_what_the_commits_derived_at_every_version() {
        let mut harness = Harness::new();
        for change in changes() {
            harness.run(change).unwrap();
        }
        harness.run_in(OTHER, create("other", None, &["kept"])).unwrap();
        harness.run_in(OTHER, RunCommand::Delete).unwrap();
        let recovered = harness.recovered();
        for now in (0..=harness.now).step_by(1_000) {
            assert_eq!(recovered.dump(now.into()), harness.memory.dump(now.into()), "at {now}");
        }
    }

    /// After a change of the number of shards: of two logs, the one that only knows of the end of a run may be read first.
    #[test]
    fn what_a_run_held_is_known_though_its_end_was_read_before() {
        let mut harness = Harness::new();
        for change in changes() {
            harness.run(change).unwrap();
        }
        let (key, path) = ("d".into(), Path::parse("a").unwrap());
        harness.run(JsonCommand::Create { key, document: Json::from_value(serde_json::json!({})).unwrap() }).unwrap();
        harness.run(JsonCommand::Set { key: "d".into(), path, value: Json::Null }).unwrap();
        harness.run(RunCommand::Delete).unwrap();
        let mut memory = Memory::new(HistoryRetention::Forever);
        for (version, write) in harness.log.iter().rev().take(1).chain(&harness.log) {
            replay(&mut memory, write.clone(), *version, Version::ZERO).unwrap();
        }
        for now in (0..=harness.now).step_by(1_000) {
            assert_eq!(memory.dump(now.into()), harness.memory.dump(now.into()), "at {now}");
        }
    }

    /// What commands of all kinds logged in a few runs, which begin and end meanwhile.
    fn history(numbers: &mut Numbers) -> Vec<(Version, Write)> {
        let mut harness = Harness::new();
        for _ in 0..200 {
            let run = RunId::from_bytes([u8::try_from(numbers.below(8)).unwrap() + 1; 16]);
            let key =
                |numbers: &mut Numbers| Name::from(format!("{:04}", numbers.below(40)).repeat(1 + numbers.below(7)));
            let number = numbers.below(1_000) as u64 + 1;
            let command: Command = match numbers.below(12) {
                0 => KvCommand::Delete { key: key(numbers) }.into(),
                1 => StateCommand::Set { name: key(numbers), value: Value::from(harness.now) }.into(),
                2 => StateCommand::Delete { name: key(numbers) }.into(),
                3 => append(["a", "b"][numbers.below(2)]).into(),
                4 => record(number, None, TraceType::from("plan"), &["t"]).into(),
                5 => create("run", None, &["old"]).into(),
                6 => RunCommand::AddTags { tags: vec![format!("tag-{}", numbers.below(3))] }.into(),
                7 if numbers.below(3) == 0 => RunCommand::Delete.into(),
                8 => {
                    let ttl = Some(Duration::from_nanos(number * 100));
                    KvCommand::Put { key: key(numbers), value: Value::from(harness.now), ttl }.into()
                }
                9 => {
                    let pairs = (0..9).map(|_| (key(numbers), Value::from(harness.now))).collect();
                    KvCommand::PutMany { pairs }.into()
                }
                _ => KvCommand::Put { key: key(numbers), value: Value::from(harness.now), ttl: None }.into(),
            };
            // What is refused has written nothing.
            let _ = harness.run_in(run, command);
        }
        harness.log
    }

    #[test]
    fn writes_that_wait_leave_what_writes_one_by_one_leave_and_are_refused_with_them() {
        let policies = [
            HistoryRetention::Off,
            HistoryRetention::For(Duration::from_micros(30)),
            HistoryRetention::Commits(3),
            HistoryRetention::Forever,
        ];
        let (mut refused, mut accepted) = (0, 0);
        for seed in 0..200 {
            let numbers = &mut Numbers(seed);
            let mut log = history(numbers);
            // Some logs say what no shard wrote, or are not in the order of their versions.
            for _ in 0..(seed % 3) * 6 {
                let at = numbers.below(log.len() - 20);
                let other = at + numbers.below(20);
                if seed % 3 == 1 {
                    log.swap(at, other);
                } else {
                    (log[at].0, log[other].0) = (log[other].0, log[at].0);
                }
            }
            // What a snapshot left: keys that are out of the way, and runs that are gone.
            let begun = log.split_off(numbers.below(log.len()));
            let policy = policies[numbers.below(policies.len())];
            let base = || {
                let mut memory = Memory::new(policy);
                for (version, write) in log.clone() {
                    replay(&mut memory, write, version, version.previous()).ok()?;
                }
                let last = log.last().map_or(Version::ZERO, |(version, _)| *version);
                memory.sweep(last, usize::MAX);
                Some(memory)
            };
            let Some(mut expected) = base() else { continue };
            let one_by_one = begun
                .iter()
                .cloned()
                .try_for_each(|(version, write)| replay(&mut expected, write, version, version.previous()));
            let mut backlog = Backlog::new(base().unwrap(), [1, 7, 100, usize::MAX][numbers.below(4)]);
            let all = begun.into_iter().try_for_each(|(version, write)| enqueue(&mut backlog, write, version));
            let finished = all.and_then(|()| backlog.finish());
            assert_eq!(finished.is_err(), one_by_one.is_err(), "seed {seed}");
            match finished {
                Err(_) => refused += 1,
                Ok(mut memory) => {
                    accepted += 1;
                    assert!(memory.describe() == expected.describe(), "seed {seed}");
                    assert_eq!(memory.footprint(), memory.count_footprint(), "seed {seed}");
                    memory.sweep(Version::MAX, usize::MAX);
                    expected.sweep(Version::MAX, usize::MAX);
                    assert!(memory.describe() == expected.describe(), "seed {seed}");
                }
            }
        }
        assert!(refused > 20 && accepted > 100, "{refused} {accepted}");
    }

    /// Transactions over several shards are decided at versions that need not rise along a log.
    #[test]
    fn a_run_ends_after_what_was_logged_before_its_end() {
        let put = |space, stored| Write::Put { run: RUN, space, name: Name::from_slice(b"k"), stored, expires: None };
        for write in [put(Space::Kv, Stored::Value(Packed::Null)), put(Space::State, Stored::DeletedState(1))] {
            let mut backlog = Backlog::new(Memory::new(HistoryRetention::Off), usize::MAX);
            enqueue(&mut backlog, write, 10.into()).unwrap();
            enqueue(&mut backlog, Write::DeleteRun { run: RUN }, 8.into()).unwrap();
            assert_eq!(backlog.finish().unwrap().deleted(&RUN), Some(8.into()));
        }
    }

    #[test]
    fn an_aborted_transaction_leaves_nothing() {
        let mut harness = Harness::new();
        let mut part = harness.begin();
        for change in changes() {
            harness.step(&mut part, change).unwrap();
        }
        drop(part);
        assert!(harness.memory.dump(harness.version()).is_empty());
    }

    #[test]
    fn a_deleted_run_is_in_no_directory() {
        let mut harness = Harness::new();
        for change in changes() {
            harness.run(change).unwrap();
        }
        harness.run(RunCommand::Delete).unwrap();
        assert!(harness.memory.dump(harness.version()).is_empty());
    }

    #[test]
    fn plain_values_derive_nothing() {
        let mut harness = Harness::new();
        harness.run(KvCommand::Put { key: "k".into(), value: 1.into(), ttl: None }).unwrap();
        assert_eq!(harness.memory.dump(harness.version()).len(), 1);
    }
}
