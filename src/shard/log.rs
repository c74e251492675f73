//! Group commit: the batch that is being filled and the batch that is being written.
//!
//! - At most one batch is in flight. Records staged meanwhile form the next one.
//! - `durable` only moves forward, and only to the end of a whole batch.
//! - A batch starts on a block boundary, ends on one, and never leaves its segment. The next segment is used only when
//!   everything in the one before is durable.
//! - Nothing is ever written twice to the same place.
//! - A commit is staged only where there is room for it: in the current segment, or in the next one, which is there
//!   already. So a segment that cannot be made fails nothing that anybody was told or shown.
//! - Some room is kept back for marks and abort records, which nobody refuses.

use std::collections::VecDeque;

use serde::Serialize;

use super::effect::{Append, Effect};
use super::gate::RecordCount;
use crate::base::error::{IoFailure, Result};
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::format::record::{self, Position, RecordHeader};
use crate::format::{BLOCK, round_up_to_block};

/// The size of a shard's first segment; each further one is twice as large.
const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// The size at which segments stop growing.
const LARGEST_SEGMENT_BYTES: u64 = 16 << 20;
/// A batch is closed at this size, so that one write does not hold up the next replies for long.
const BATCH_BYTES: usize = 4 << 20;
/// `Buffered` writes this much at once without waiting for the interval.
const BUFFERED_BATCH_BYTES: usize = 1 << 20;
/// What commits leave of a segment for marks and abort records: each may need a block.
const KEPT_BACK_BYTES: u64 = 16 * BLOCK as u64;
/// With this much staged, the shard takes no more requests until a batch is durable.
const STAGED_BYTES: usize = 64 << 20;
const _: () = assert!(BUFFERED_BATCH_BYTES <= BATCH_BYTES && BATCH_BYTES <= STAGED_BYTES, "a batch is part of a stage");
const _: () = assert!(space_for(0) < FIRST_SEGMENT_BYTES / 2, "a segment is for commits");
const _: () = assert!(LARGEST_SEGMENT_BYTES > (BATCH_BYTES + BLOCK) as u64, "a full batch fits a segment");

/// A segment that is being written or waits to be.
#[derive(Clone, Copy, Debug)]
struct Segment {
    index: u32,
    capacity: u64,
    salt: u64,
    used: u64,
}

impl Segment {
    const fn room(&self) -> u64 {
        self.capacity - self.used
    }
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    index: u32,
    capacity: u64,
}

/// The most that so many staged bytes take in one segment, and what is kept back.
const fn space_for(staged: usize) -> u64 {
    // Every batch is rounded up to whole blocks; of two in a row, both together are larger than one may be.
    let batches = 2 * (staged / BATCH_BYTES) + 2;
    (staged + batches * BLOCK) as u64 + KEPT_BACK_BYTES
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    end: Position,
    written: Written,
}

/// What a batch holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// A shard's log: what is staged, what is in flight, what is durable.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what it waits for is independent")]
pub(crate) struct Log {
    mode: DurabilityMode,
    staged: Vec<u8>,
    /// Where each staged record ends.
    staged_ends: VecDeque<usize>,
    /// Somebody waits for what is staged.
    hurry: bool,
    flight: Option<Flight>,
    segment: Option<Segment>,
    next: Option<Segment>,
    /// The segment asked for. Only one at a time, so that a segment in use is never made anew.
    asked: Option<Asked>,
    /// How many bytes somebody waits to stage; 0 if nobody does.
    wanted: usize,
    /// Why the last segment asked for could not be made.
    failed: Option<IoFailure>,
    /// The log goes on in the next segment as soon as there is one.
    is_rotating: bool,
    /// It is too early to ask for it again.
    is_too_early: bool,
    /// A segment of the usual size could not be made: the next try is for the smallest that is of use.
    is_modest: bool,
    /// The segments there have been, each with how many records were logged before its first.
    segments: Vec<(RecordCount, u32)>,
    durable: Position,
    durable_records: u64,
    /// Versions of records that are not durable yet, in order; of an abort record or a mark, those of the one before.
    pending: VecDeque<Version>,
}

impl Log {
    pub(crate) const fn new(mode: DurabilityMode) -> Self {
        Self {
            mode,
            staged: Vec::new(),
            staged_ends: VecDeque::new(),
            hurry: false,
            flight: None,
            segment: None,
            next: None,
            asked: None,
            wanted: 0,
            failed: None,
            is_rotating: false,
            is_too_early: false,
            is_modest: false,
            segments: Vec::new(),
            durable: Position::START,
            durable_records: 0,
            pending: VecDeque::new(),
        }
    }

    /// Stages a record. `version`: whoever has seen this version depends on the record.
    ///
    /// # Errors
    /// `Serialization` or `LimitExceeded` if it cannot be encoded; nothing is staged then.
    pub(crate) fn stage(
        &mut self,
        header: RecordHeader,
        version: Version,
        body: &impl Serialize,
    ) -> Result<RecordCount> {
        assert!(self.pending.back().is_none_or(|before| *before <= version), "versions rise along the log");
        record::stage(&mut self.staged, header, body)?;
        self.staged_ends.push_back(self.staged.len());
        self.pending.push_back(version);
        Ok(self.logged())
    }

    /// The same for what may be refused.
    ///
    /// # Errors
    /// `Io` if there is no room and none can be had; nothing is staged then.
    pub(crate) fn stage_if_room(
        &mut self,
        header: RecordHeader,
        version: Version,
        body: &impl Serialize,
    ) -> Result<RecordCount> {
        let before = self.staged.len();
        let staged = self.stage(header, version, body)?;
        let Some(reason) = self.refuses(0) else { return Ok(staged) };
        let refused = reason.refused();
        self.staged.truncate(before);
        self.staged_ends.pop_back();
        self.pending.pop_back();
        Err(refused)
    }

    /// Whether so many more bytes can be staged and written without another segment.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        if planted(Bug::RoomNotChecked) {
            return true;
        }
        let needed = space_for(self.staged.len() + bytes);
        // What does not fit the current segment is written to the next one, and the current one may be left as it is.
        [self.segment, self.next].iter().flatten().any(|segment| needed <= segment.room())
    }

    /// Why so many more bytes are refused; `None` if there is room, or may be soon.
    pub(crate) fn refuses(&self, bytes: usize) -> Option<&IoFailure> {
        self.failed.as_ref().filter(|_| self.is_too_early && !self.has_room_for(bytes))
    }

    /// Why not even the smallest commit has room; `None` if it has, or nobody knows yet.
    pub(crate) fn shortage(&self) -> Option<&IoFailure> {
        self.failed.as_ref().filter(|_| !self.has_room_for(0))
    }

    /// Somebody waits to stage so many bytes; 0 if nobody does any more.
    pub(crate) const fn want(&mut self, bytes: usize) {
        self.wanted = bytes;
    }

    /// Whether something staged waits for a segment that cannot be made.
    pub(crate) fn is_stuck(&self) -> bool {
        let needed = self.first_batch_bytes();
        self.is_too_early
            && self.flight.is_none()
            && !self.staged_ends.is_empty()
            && [self.segment, self.next].iter().flatten().all(|segment| segment.room() < needed)
    }

    /// How many records have been logged.
    pub(crate) fn logged(&self) -> RecordCount {
        RecordCount(self.durable_records + self.pending.len() as u64)
    }

    /// How many records are durable.
    pub(crate) const fn durable(&self) -> RecordCount {
        RecordCount(self.durable_records)
    }

    /// Everything below is durable.
    pub(crate) const fn durable_through(&self) -> Position {
        self.durable
    }

    /// The segment that a record is in, or one before it if it is not written yet.
    pub(crate) fn segment_of(&self, record: RecordCount) -> u32 {
        let later = self.segments.partition_point(|(before, _)| *before < record);
        self.segments[..later].last().map_or(0, |(_, index)| *index)
    }

    /// The record that must be durable before somebody may know what was read at this version.
    pub(crate) fn commit_of(&self, seen: Version) -> RecordCount {
        let depends = self.pending.partition_point(|version| *version <= seen);
        RecordCount(self.durable_records + depends as u64)
    }

    /// The version of the oldest record that is not durable.
    pub(crate) fn first_pending(&self) -> Option<Version> {
        self.pending.front().copied()
    }

    /// Whether a record of this version is not durable.
    pub(crate) fn is_pending(&self, version: Version) -> bool {
        self.pending.binary_search(&version).is_ok()
    }

    /// The version of the oldest record above another one that is not durable.
    pub(crate) fn pending_above(&self, version: Version) -> Option<Version> {
        let at = self.pending.partition_point(|pending| *pending <= version);
        self.pending.get(at).copied()
    }

    /// Writes what is staged at the next opportunity.
    pub(crate) fn hurry(&mut self) {
        self.hurry = !self.staged_ends.is_empty();
    }

    /// Whether more may be staged.
    pub(crate) fn has_room(&self) -> bool {
        self.staged.len() < STAGED_BYTES
    }

    /// Whether a batch is being written.
    pub(crate) const fn is_writing(&self) -> bool {
        self.flight.is_some()
    }

    /// # Panics
    /// If it is not the segment that was asked for.
    pub(crate) fn segment_ready(&mut self, index: u32, capacity: u64, salt: u64) {
        let asked = self.asked.take().map(|asked| asked.index);
        assert_eq!(asked, Some(index), "the segment that is ready is the one that was asked for");
        self.next = Some(Segment { index, capacity, salt, used: BLOCK as u64 });
        (self.failed, self.is_too_early, self.is_modest) = (None, false, false);
    }

    /// A segment cannot be made. A smaller one may be, and is asked for first; if there is none that would help, the
    /// log refuses what it has no room for until `ask_again`.
    pub(crate) fn segment_failed(&mut self, reason: IoFailure) {
        let asked = self.asked.take();
        self.is_rotating = false;
        if asked.is_some_and(|asked| asked.capacity > self.least_capacity()) {
            self.is_modest = true;
        } else {
            (self.failed, self.is_too_early) = (Some(reason), true);
        }
    }

    /// Leaves the current segment as it is, if anything is in it, and goes on in the next one.
    pub(crate) fn rotate(&mut self) {
        self.is_rotating = self.segment.is_some_and(|segment| segment.used > BLOCK as u64);
    }

    /// Whether it is about to; it never is when the next segment cannot be made.
    pub(crate) const fn is_rotating(&self) -> bool {
        self.is_rotating
    }

    /// Goes on where it is.
    pub(crate) const fn stop_rotating(&mut self) {
        self.is_rotating = false;
    }

    /// A segment that could not be made may be asked for again.
    pub(crate) fn ask_again(&mut self) {
        self.is_too_early = planted(Bug::NeverAskedAgain) && self.is_too_early;
    }

    /// The batch in flight is durable. Returns what it held.
    ///
    /// # Panics
    /// If no batch ends there: the driver has lost track of what it wrote.
    pub(crate) fn appended(&mut self, through: Position) -> Written {
        let flight = self.flight.take();
        let Some(flight) = flight.filter(|flight| flight.end == through) else {
            panic!("the batch that became durable is the one in flight: through={through:?} flight={flight:?}");
        };
        assert!(flight.end > self.durable, "durable only moves forward");
        self.durable = flight.end;
        for _ in 0..flight.written.records {
            self.pending.pop_front();
        }
        self.durable_records += flight.written.records;
        flight.written
    }

    /// The batch in flight failed: nobody waits for it any more.
    pub(crate) fn append_failed(&mut self) {
        self.flight = None;
    }

    /// The next thing to do, if any: write a batch, or ask for a segment.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        if self.is_rotating && self.flight.is_none() {
            match self.next.take_if(|next| space_for(self.staged.len()) <= next.room()) {
                Some(next) => self.go_on_in(next),
                None if self.is_too_early => self.is_rotating = false,
                // Until it is there, what is staged goes into the current one.
                None => {
                    if self.can_replace_next()
                        && let Some(effect) = self.ask(space_for(self.staged.len()))
                    {
                        return Some(effect);
                    }
                }
            }
        }
        if self.flight.is_none() && self.is_due() {
            if let Some(append) = self.start_batch() {
                return Some(Effect::Append(append));
            }
            return self.ask(self.first_batch_bytes());
        }
        if self.wants_room() && self.can_replace_next() {
            return self.ask(space_for(self.staged.len() + self.wanted));
        }
        // Whoever commits on another shard needs a mark here: there must be room for it before that.
        let is_needed_elsewhere = matches!(self.mode, DurabilityMode::Buffered { .. }) && !self.has_room_for(0);
        let running_out = self.segment.is_some_and(|segment| segment.room() < segment.capacity / 2);
        let is_due = is_needed_elsewhere || (running_out && self.failed.is_none());
        if is_due && self.next.is_none() { self.ask(0) } else { None }
    }

    /// Whether somebody waits for room that there is not.
    fn wants_room(&self) -> bool {
        self.wanted > 0 && !self.has_room_for(self.wanted)
    }

    /// Whether nothing that is staged may need the next segment, so that a larger one can be made in its place.
    fn can_replace_next(&self) -> bool {
        let fits = |segment: Segment| space_for(self.staged.len()) <= segment.room();
        self.next.is_none() || self.staged.is_empty() || self.segment.is_some_and(fits)
    }

    /// `Strict` writes whatever is staged; `Buffered` waits for a mark, unless much is staged or it is in somebody's way.
    fn is_due(&self) -> bool {
        let waits = matches!(self.mode, DurabilityMode::Buffered { .. });
        let is_in_the_way = || self.wants_room() && !self.can_replace_next();
        let is_wanted = || self.hurry || self.staged.len() >= BUFFERED_BATCH_BYTES || is_in_the_way();
        !self.staged_ends.is_empty() && (!waits || is_wanted())
    }

    /// The bytes of the smallest batch that makes progress: one record.
    fn first_batch_bytes(&self) -> u64 {
        round_up_to_block(self.staged_ends.front().copied().unwrap_or(0)) as u64
    }

    /// The smallest segment that is of use to whoever needs one.
    fn least_capacity(&self) -> u64 {
        let needed = space_for(self.staged.len() + self.wanted).max(self.first_batch_bytes());
        FIRST_SEGMENT_BYTES.max(needed + BLOCK as u64).next_multiple_of(BLOCK as u64)
    }

    fn ask(&mut self, needed: u64) -> Option<Effect> {
        if self.asked.is_some() || self.is_too_early {
            return None;
        }
        let index = self.segment.map_or(0, |segment| segment.index + 1);
        let usual = FIRST_SEGMENT_BYTES.checked_shl(index.min(16)).unwrap_or(LARGEST_SEGMENT_BYTES);
        let needed = (needed + BLOCK as u64).next_multiple_of(BLOCK as u64);
        let capacity = if self.is_modest { self.least_capacity() } else { usual.min(LARGEST_SEGMENT_BYTES) };
        let capacity = capacity.max(needed);
        // One that is too small is made anew. Whether it is still there if that fails, nobody knows: the new one may have
        // taken its name before the failure.
        self.next = None;
        self.asked = Some(Asked { index, capacity });
        Some(Effect::PrepareSegment { index, capacity })
    }

    /// Everything in the current segment is durable.
    fn go_on_in(&mut self, next: Segment) {
        self.segments.push((self.durable(), next.index));
        self.segment = Some(next);
        self.is_rotating = false;
    }

    fn start_batch(&mut self) -> Option<Append> {
        let needed = self.first_batch_bytes();
        if self.segment.is_none_or(|segment| segment.room() < needed) {
            let next = self.next.take_if(|next| next.room() >= needed)?;
            self.go_on_in(next);
        }
        let segment = self.segment.as_mut()?;
        let room = usize::try_from(segment.room()).unwrap_or(usize::MAX).min(BATCH_BYTES.max(self.staged_ends[0]));
        let records = self.staged_ends.partition_point(|end| *end <= room).max(1);
        let length = self.staged_ends[records - 1];
        let mut bytes: Vec<u8> = if records == self.staged_ends.len() {
            self.staged_ends.clear();
            std::mem::take(&mut self.staged)
        } else {
            self.staged_ends.drain(..records);
            for end in &mut self.staged_ends {
                *end -= length;
            }
            self.staged.drain(..length).collect()
        };
        self.hurry = self.hurry && !self.staged_ends.is_empty();
        let start = Position::new(segment.index, segment.used);
        record::seal(&mut bytes, start, self.durable, segment.salt);
        bytes.resize(round_up_to_block(length), 0);
        let append = Append { segment: segment.index, offset: segment.used, bytes };
        segment.used += append.bytes.len() as u64;
        assert!(segment.used <= segment.capacity, "a batch never leaves its segment");
        let written = Written { records: records as u64, bytes: append.bytes.len() as u64 };
        self.flight = Some(Flight { end: Position::new(segment.index, segment.used), written });
        Some(append)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::TransactionId;

    fn stage(log: &mut Log, at: u64, bytes: usize) -> RecordCount {
        let header = RecordHeader::commit(at.into(), TransactionId::default());
        log.stage(header, at.into(), &vec![7_u8; bytes]).unwrap()
    }

    fn poll_append(log: &mut Log) -> Option<Append> {
        match log.poll() {
            Some(Effect::Append(append)) => Some(append),
            Some(Effect::PrepareSegment { index, capacity }) => {
                log.segment_ready(index, capacity, 1);
                poll_append(log)
            }
            _ => None,
        }
    }

    fn end(append: &Append) -> Position {
        Position::new(append.segment, append.offset + append.bytes.len() as u64)
    }

    #[test]
    fn one_batch_is_in_flight_and_the_next_gathers_what_comes_meanwhile() {
        let mut log = Log::new(DurabilityMode::Strict);
        stage(&mut log, 1, 10);
        let first = poll_append(&mut log).unwrap();
        stage(&mut log, 2, 10);
        let last = stage(&mut log, 3, 10);
        assert!(poll_append(&mut log).is_none());
        assert_eq!(log.commit_of(Version::from(2)), RecordCount(2));
        log.appended(end(&first));
        assert_eq!(log.durable(), RecordCount(1));
        let second = poll_append(&mut log).unwrap();
        assert_eq!(second.offset, first.offset + first.bytes.len() as u64);
        log.appended(end(&second));
        assert_eq!(log.durable(), last);
    }

    #[test]
    fn buffered_waits_for_somebody_in_a_hurry_or_for_much() {
        let mode = DurabilityMode::Buffered { flush_interval_ms: 1, max_pending_writes: 10 };
        let mut log = Log::new(mode);
        stage(&mut log, 100, 10);
        assert!(poll_append(&mut log).is_none());
        log.hurry();
        assert!(poll_append(&mut log).is_some());
        let mut log = Log::new(mode);
        stage(&mut log, 1, BUFFERED_BATCH_BYTES);
        assert!(poll_append(&mut log).is_some());
    }

    #[test]
    fn a_record_larger_than_the_usual_segment_gets_one_that_fits() {
        let mut log = Log::new(DurabilityMode::Strict);
        stage(&mut log, 1, 10);
        let first = poll_append(&mut log).unwrap();
        log.appended(end(&first));
        stage(&mut log, 2, 5 << 20);
        let large = poll_append(&mut log).unwrap();
        assert_eq!((large.segment, large.offset), (1, BLOCK as u64));
        assert!(large.bytes.len() > 5 << 20);
        log.appended(end(&large));
    }

    #[test]
    fn segments_are_filled_in_order_without_overlap() {
        let mut log = Log::new(DurabilityMode::Strict);
        let mut at = Position::START;
        for number in 1..400 {
            stage(&mut log, number, 20_000);
            let append = poll_append(&mut log).unwrap();
            let start = Position::new(append.segment, append.offset);
            assert!(start >= at, "batch {number} starts behind the one before");
            at = end(&append);
            log.appended(at);
        }
        assert!(at.segment() > 1);
    }
}
