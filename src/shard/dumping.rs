//! Dumping: everything that is committed at or below a version, a little at a time, while others read and write.
//!
//! - No commit comes below the version any more once the dump has begun, and pieces come when nothing below it is in doubt.
//! - Nothing is forgotten meanwhile: how far a run's past reaches back is said before its keys are handed out.
//! - There is one dump at a time; a new one ends the one before.

use super::gate::RecordCount;
use super::input::RequestId;
use super::machine::{Shard, unit};
use crate::base::error::{Error, Result};
use crate::base::options::DurabilityMode;
use crate::base::planted::{Bug, planted};
use crate::base::version::Version;
use crate::format::snapshot::Piece;
use crate::primitive::output::{Output, Reply};
use crate::store::dump::Dump;

/// How many pieces are handed out at once.
const PIECES: usize = 4;
/// Registered as long as a dump goes on: no horizon is above it.
const ALL_OF_THE_PAST: Version = Version::ZERO;

/// A dump that goes on.
#[derive(Debug)]
pub(super) struct Dumping {
    /// It holds what was committed at or below this version.
    at: Version,
    /// `None` as long as something at or below the version is in doubt.
    dump: Option<Dump>,
}

impl Shard {
    /// Somebody wants to know where the log begins, perhaps of what comes in a new segment.
    pub(super) fn ask_log_start(&mut self, id: RequestId, rotates: bool) {
        if rotates && self.config.mode != DurabilityMode::InMemory && !self.config.read_only {
            self.log.rotate();
        }
        self.rotations.push(id);
    }

    /// The log has gone on in a new segment, or stays where it is.
    pub(super) fn end_rotations(&mut self) {
        for id in std::mem::take(&mut self.rotations) {
            self.say_log_start(id);
        }
    }

    /// Says where the log begins that a dump at a later version, or at the latest so far, does not replace.
    fn say_log_start(&mut self, id: RequestId) {
        let late = u32::from(planted(Bug::LogStartTooLate));
        let RecordCount(records) = self.log.logged();
        let undecided = self.transactions.first_promised().filter(|_| !planted(Bug::UndecidedCut));
        let segment = self.log.segment_of(undecided.unwrap_or(RecordCount(records + 1))) + late;
        let latest = self.latest;
        let result = self.check_not_poisoned().map(|()| Reply::read(Output::LogStart { segment, records, latest }));
        self.answer(id, (result, Version::ZERO));
    }

    /// Chooses the version of a dump over all shards, and begins this shard's. None of the others forgets what is visible
    /// there: no shard forgets what another may still read.
    pub(super) fn choose_dump(&mut self, id: RequestId, above: Version) {
        self.latest = self.latest.max(self.now).max(above);
        self.keep_for_dump(self.latest);
        self.answer(id, (Ok(Reply::in_transaction(Output::Unit, self.latest)), Version::ZERO));
    }

    /// Begins a dump: from now on, all that is kept stays.
    pub(super) fn begin_dump(&mut self, id: RequestId, at: Version) {
        self.latest = self.latest.max(at);
        self.keep_for_dump(at);
        self.answer(id, (Ok(unit()), Version::ZERO));
    }

    fn keep_for_dump(&mut self, at: Version) {
        self.end_dump();
        self.transactions.snapshots().register(ALL_OF_THE_PAST);
        self.dumping = Some(Dumping { at, dump: None });
    }

    /// Hands out the next pieces; in `Strict` mode when everything in them is durable.
    pub(super) fn dump(&mut self, id: RequestId, at: Version) {
        let result = self.next_pieces(at).map(|pieces| Reply::read(Output::Pieces(pieces)));
        self.answer(id, (result, at));
    }

    fn next_pieces(&mut self, at: Version) -> Result<Option<Vec<Piece>>> {
        self.check_not_poisoned()?;
        let Some(dumping) = self.dumping.as_mut().filter(|dumping| dumping.at == at) else {
            return Err(Error::InvalidOperation("another backup has begun, and ended this one".into()));
        };
        if dumping.dump.is_none() && self.intents.is_in_doubt(at) && !planted(Bug::DumpInDoubt) {
            return Ok(Some(Vec::new()));
        }
        let memory = &self.memory;
        let dump = dumping.dump.get_or_insert_with(|| memory.dump_at(at));
        let pieces: Vec<_> = std::iter::from_fn(|| memory.next_piece(dump)).take(PIECES).collect();
        if pieces.is_empty() {
            self.end_dump();
            return Ok(None);
        }
        Ok(Some(pieces))
    }

    /// Whoever took the dump has failed: what it held back may go.
    pub(super) fn give_up_dump(&mut self, id: RequestId, at: Version) {
        if self.dumping.as_ref().is_some_and(|dumping| dumping.at == at) {
            self.end_dump();
        }
        self.answer(id, (Ok(unit()), Version::ZERO));
    }

    /// Ends the dump that goes on, if one does.
    pub(super) fn end_dump(&mut self) {
        if self.dumping.take().is_some() {
            self.transactions.snapshots().release(ALL_OF_THE_PAST);
        }
    }
}
