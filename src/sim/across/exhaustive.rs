//! Exhaustive faults: one fixed script, and every call to the disk in it goes wrong once, in every way.
//!
//! - A run without faults counts the calls: those of recoveries, of closes and for new segments, and the writes of the
//!   logs, begun and completed. Then each of them is where the process dies, right before and right after, by a power
//!   cut that keeps nothing, half or all of what was volatile, or by a kill whose writes land late; or it fails, before
//!   or after it has done what it should, once or with all that follow.
//! - The recovery behind a crash dies too, at one call or another, and finds the same again.
//! - Everything that holds for seeds holds here; and every planned fault must have happened.
//! - Of the faults, a debug build takes a share that has every call and every kind; `SIM_RUNS=20` takes all.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::disk::{Crash, Disk};
use super::super::faults::{Fault, Operation, When};
use super::super::recovery::{Revisions, recover, revisions};
use super::super::seeds::{caught, number};
use super::super::swarm::Mode;
use super::super::trace::Trace;
use super::action::Action;
use super::cell::{Cell, LASTING_RUNS, STAMPS, run_id};
use super::client::Client;
use super::program::{ACCOUNTS, NODES, Program, Purpose, account, node};
use super::swarm::Swarm;
use super::world::{Stats, World};
use crate::base::options::{DurabilityMode, HistoryRetention, Partitioning};
use crate::base::planted::{Bug, plant};
use crate::base::version::Version;
use crate::disk::recovery;
use crate::shard::route::Layout;

/// What a client does next.
#[derive(Clone, Debug)]
enum Deed {
    /// A transaction, with what it reads and what it writes.
    Transact(Purpose, Vec<Cell>, Vec<Cell>),
    Put(Cell),
    Read(Cell),
    Delete(Cell),
    Append(u8),
    Flush,
    /// Of the whole database, by the keeper.
    Snapshot,
}

/// A fault, where it happens, and what comes then.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// The number of the call.
    at: usize,
    fault: Fault,
    /// How a process ends.
    end: Crash,
    /// At which of their calls the recoveries behind it die, one after the other.
    stumbles: [Option<u64>; 2],
    /// Whether the opening in which something failed is closed, or dies when it has come to rest.
    closes: bool,
}

impl Case {
    const fn is_crash(&self) -> bool {
        matches!(self.fault, Fault::Die { .. })
    }
}

/// A fixed script with at most one fault in it.
pub(super) struct Plan {
    case: Option<Case>,
    /// Whether the fault has happened.
    was_reached: bool,
    /// Whether what failed for ever works again.
    is_healed: bool,
    /// Whether the recovery behind the fault was rehearsed.
    is_rehearsed: bool,
    openings: usize,
    /// How many calls there were when the last opening began.
    calls_in_question: u64,
    /// Recoveries begun behind the fault.
    recoveries: usize,
    /// How many of them died.
    stumbled: u64,
    /// How often an opening failed.
    refusals: u32,
    scripts: Vec<VecDeque<Deed>>,
    current: Vec<Option<Deed>>,
}

/// How often an opening fails before a disk that fails for ever is repaired.
const REFUSALS: u32 = 3;
const CLIENTS: usize = 3;
const OPENINGS: usize = 3;
/// Behind a fault, one of so many calls of a recovery is where its rehearsal dies.
const REHEARSED: usize = 29;
/// What does not hold where segments are not fenced.
const SEEN: &str = "what somebody has seen who only looked is not changed by what lands late";
/// A debug build takes one of so many faults.
const STRIDE: usize = 24;

impl Plan {
    fn new(case: Option<Case>) -> Self {
        Self {
            case,
            was_reached: false,
            is_healed: false,
            is_rehearsed: false,
            openings: 0,
            calls_in_question: 0,
            recoveries: 0,
            stumbled: 0,
            refusals: 0,
            scripts: Vec::new(),
            current: vec![None; CLIENTS],
        }
    }

    /// How a process ends that dies.
    pub(super) fn end(&self) -> Crash {
        self.case.map_or(Crash::Power(Some(0)), |case| case.end)
    }

    /// Whether what fails goes on to fail until the database is opened again.
    pub(super) fn fails_for_ever(&self) -> bool {
        matches!(self.case, Some(Case { fault: Fault::Fail { is_for_ever: true, .. }, .. }))
    }

    /// Whether an opening that has come to rest is closed.
    pub(super) fn closes(&self) -> bool {
        match self.case {
            Some(case) if !case.is_crash() && self.was_reached && !self.is_healed => case.closes,
            _ => self.openings != 2,
        }
    }

    /// A recovery begins: another process has a disk that works, and may die.
    pub(super) fn begin_recovery(&mut self, disk: &Disk) {
        self.note(disk);
        let Some(case) = self.case.filter(|_| self.was_reached) else { return };
        if self.refusals > 0 && !self.is_healed {
            return;
        }
        disk.disarm();
        self.is_healed = true;
        let stumble = case.stumbles.get(self.recoveries).copied().flatten();
        self.recoveries += 1;
        if let Some(after) = stumble {
            disk.arm(When::Call(after), Fault::Die { is_after: after.is_multiple_of(2) });
        }
    }

    /// An opening has failed.
    pub(super) fn refused(&mut self, disk: &Disk) {
        self.note(disk);
        self.refusals += 1;
        if self.refusals == REFUSALS {
            self.is_healed = true;
            disk.disarm();
        }
    }

    /// Remembers what has happened.
    fn note(&mut self, disk: &Disk) {
        let stumbles = self.is_healed && disk.disarm();
        self.stumbled += u64::from(stumbles);
        self.was_reached |= disk.was_reached();
    }

    /// At one of how many of its calls this recovery dies in rehearsals: the one behind the fault, or each at every call
    /// if there is none.
    pub(super) fn rehearses(&mut self, disk: &Disk) -> Option<usize> {
        self.was_reached |= disk.was_reached();
        if self.case.is_none() {
            return Some(1);
        }
        let is_due = self.was_reached && !self.is_rehearsed;
        self.is_rehearsed |= is_due;
        is_due.then_some(REHEARSED)
    }

    /// An opening begins. Returns how much there is to do.
    pub(super) fn begin_opening(&mut self, layout: Layout, disk: &Disk) -> u64 {
        self.note(disk);
        if self.was_reached {
            self.is_healed = true;
            disk.disarm();
        }
        self.calls_in_question = disk.calls();
        self.scripts = scripts(self.openings, layout);
        self.openings += 1;
        self.scripts.iter().map(|script| script.len() as u64).sum()
    }

    /// Makes a program do what the script says.
    pub(super) fn fix(&self, client: usize, program: &mut Program) {
        let Some(Deed::Transact(_, reads, writes)) = &self.current[client] else { panic!("no transaction is due") };
        program.fix(reads, writes);
    }

    /// What a command of its own does.
    pub(super) fn action(&self, client: usize, id: u64) -> Option<Action> {
        let stamp = i64::try_from(id).unwrap() * STAMPS;
        Some(match self.current[client].clone()? {
            Deed::Put(cell) => Action::Put(cell, vec![stamp], None),
            Deed::Read(cell) => Action::Read(cell),
            Deed::Delete(cell) => Action::Delete(cell),
            Deed::Append(run) => Action::Append(run, stamp),
            Deed::Transact(..) | Deed::Flush | Deed::Snapshot => return None,
        })
    }
}

impl World {
    /// A client does what the script says.
    pub(super) fn follow(&mut self, client: usize) {
        let Some(plan) = &mut self.plan else { return };
        let Some(deed) = plan.scripts[client].pop_front() else { return };
        plan.current[client] = Some(deed.clone());
        self.budget -= 1;
        match deed {
            Deed::Transact(purpose, ..) => self.begin(client, purpose, None, 0, None),
            Deed::Flush => {
                self.flush(client);
                self.think_later(client);
            }
            Deed::Snapshot => {
                self.begin_snapshot();
                self.think_later(client);
            }
            Deed::Put(_) | Deed::Read(_) | Deed::Delete(_) | Deed::Append(_) => self.single(client),
        }
    }
}

/// What all clients do in an opening.
fn scripts(opening: usize, layout: Layout) -> Vec<VecDeque<Deed>> {
    let run_on = |shard: usize| {
        // Of three shards, one has only runs behind the lasting ones and the one that is deleted.
        let mut runs =
            (0..LASTING_RUNS).chain(LASTING_RUNS + 1..50).filter(|run| layout.shard_of_run(&run_id(*run)) == shard);
        runs.next().expect("every shard has a run")
    };
    let (a, b, c) = (run_on(0), run_on(1), run_on(layout.shards - 1));
    let fixed = |reads: &[Cell], writes: &[Cell]| Deed::Transact(Purpose::Fixed, reads.to_vec(), writes.to_vec());
    let accounts: Vec<Cell> = (0..ACCOUNTS).map(account).collect();
    let bank = |purpose: Purpose| Deed::Transact(purpose, accounts.clone(), Vec::new());
    let transfer = |from, to| Deed::Transact(Purpose::Transfer, vec![account(from), account(to)], Vec::new());
    let swap = |at| Deed::Transact(Purpose::Swap, vec![node(at)], Vec::new());
    let walk = || Deed::Transact(Purpose::Walk, (0..u64::from(NODES)).map(node).collect(), Vec::new());
    let (list, other) = (Cell::kv(a, "l0"), Cell::kv(b, "l1"));
    let everywhere =
        [list.clone(), other.clone(), Cell::log(c), Cell::state(b, "s0"), Cell::trace(a, ""), Cell::kv(c, "t0")];
    let mortal = LASTING_RUNS;
    let of_mortal = [Cell::kv(mortal, "r0"), Cell::state(mortal, "s0"), Cell::log(mortal), Cell::kv(a, "r1")];
    let delete = Deed::Transact(Purpose::DeleteRun, vec![Cell::log(mortal)], Vec::new());
    let all: [Vec<Deed>; CLIENTS] = match opening {
        0 => [
            vec![
                bank(Purpose::Setup),
                fixed(&[Cell::log(c), list.clone()], &everywhere),
                transfer(0, 1),
                Deed::Flush,
                Deed::Snapshot,
                Deed::Read(other.clone()),
                transfer(2, 3),
            ],
            vec![
                Deed::Put(Cell::kv(a, "r0")),
                Deed::Append(b),
                fixed(&[Cell::kv(a, "r0")], &[Cell::log(b), Cell::trace(c, "")]),
                swap(0),
                fixed(&[Cell::kv(a, "r2"), Cell::state(b, "s0")], &everywhere[..2]),
                bank(Purpose::Audit),
            ],
            vec![
                Deed::Put(Cell::state(b, "s1")),
                fixed(&[], &of_mortal),
                Deed::Delete(Cell::kv(a, "r0")),
                delete,
                walk(),
                fixed(&[other, Cell::log(a)], &[Cell::kv(a, "r2"), Cell::state(c, "s2")]),
            ],
        ],
        1 => [
            vec![bank(Purpose::Audit), transfer(1, 4), Deed::Snapshot, fixed(&[], &of_mortal)],
            vec![fixed(&everywhere[..4], &everywhere), Deed::Put(Cell::kv(b, "r3")), walk()],
            vec![fixed(&[list], &[]), swap(2), Deed::Append(c), Deed::Flush],
        ],
        _ => [
            vec![bank(Purpose::Setup), bank(Purpose::Audit), transfer(3, 0)],
            vec![fixed(&[list, other], &everywhere), Deed::Read(Cell::log(b))],
            vec![walk(), Deed::Append(b)],
        ],
    };
    all.into_iter().map(VecDeque::from).collect()
}

/// Recovers a copy of the disk, and says what is there.
fn recover_copy(disk: &Disk, layout: Layout, history: HistoryRetention, read_only: bool) -> Revisions {
    let plan = recovery::Plan { layout, history: history.into(), read_only, beside: false };
    let recovered = recover(disk, plan, Version::next).expect("nothing fails");
    revisions(&recovered.memories)
}

/// Recovers copies of the disk that die at any call, and again: the same is found.
pub(super) fn rehearse(disk: &Disk, layout: Layout, history: HistoryRetention, stride: usize) {
    let first = disk.steady_copy();
    for lands_first in [false, true] {
        let disk = first.clone();
        if lands_first && disk.land_late_writes() == 0 {
            continue;
        }
        let found = recover_copy(&disk, layout, history, true);
        assert_eq!(found, recover_copy(&disk, layout, history, true), "to look changes nothing");
        let seen = disk.clone();
        seen.land_late_writes();
        assert_eq!(found, recover_copy(&seen, layout, history, true), "{SEEN}");
        let whole = disk.clone();
        let before = whole.calls();
        assert_eq!(found, recover_copy(&whole, layout, history, false), "read-only or not, the same is found");
        let calls = whole.calls() - before;
        whole.land_late_writes();
        assert_eq!(found, recover_copy(&whole, layout, history, false), "what lands late changes nothing");
        let ends = [Crash::Kill, Crash::Power(Some(0)), Crash::Power(Some(500)), Crash::Power(Some(1_000))];
        let first = calls % stride as u64;
        for (at, end) in (first..calls).step_by(stride).zip(ends.into_iter().cycle()) {
            let disk = disk.clone();
            disk.arm(When::Call(at), Fault::Die { is_after: true });
            let plan = recovery::Plan { layout, history: history.into(), read_only: false, beside: false };
            let died = recover(&disk, plan, Version::next);
            assert!(disk.is_dead() && died.is_err(), "it dies at call {at}");
            disk.disarm();
            disk.crash(end);
            let again = recover_copy(&disk, layout, history, false);
            assert_eq!(found, again, "a recovery that died at call {at} of {calls}, {end:?}");
        }
    }
}

/// What a script runs on.
#[derive(Clone, Copy, Debug)]
struct Setting {
    mode: Mode,
    shards: usize,
}

impl Setting {
    fn swarm(self) -> Swarm {
        let mut swarm = Swarm::plain();
        swarm.mode = match self.mode {
            Mode::InMemory => DurabilityMode::InMemory,
            Mode::Buffered => DurabilityMode::Buffered { flush_interval_ms: 1, max_pending_writes: 12 },
            Mode::Strict => DurabilityMode::Strict,
        };
        (swarm.shards, swarm.partitioning) = (self.shards, Partitioning::ByRun);
        (swarm.history, swarm.openings, swarm.transactions) = (HistoryRetention::Forever, OPENINGS as u64, 10);
        (swarm.longest_link, swarm.longest_service, swarm.longest_write) = (4_000, 500, 30_000);
        (swarm.longest_think, swarm.longest_ttl, swarm.grain) = (10_000, 300_000, 1);
        (swarm.write_fails, swarm.prepare_fails, swarm.crash_in_recovery, swarm.crash_in_write) = (0, 0, 0, 0);
        (swarm.drops, swarm.idles, swarm.reshard, swarm.deletes) = (0, 0, 0, 0);
        (swarm.begins, swarm.durables) = (200, 300);
        swarm
    }

    fn run(self, case: Option<Case>, trace: Trace) -> World {
        let seed = number("SIM_SEED").unwrap_or(1);
        let mut world = World::new(seed, self.mode, trace);
        world.swarm = self.swarm();
        world.layout = Layout { shards: self.shards, partitioning: Partitioning::ByRun };
        world.clients = (0..CLIENTS).map(|_| Client::default()).collect();
        if let Some(case) = case {
            world.disk.arm(When::Call(case.at as u64), case.fault);
        }
        world.plan = Some(Plan::new(case));
        world.run();
        let plan = world.plan.as_ref().expect("there is a plan");
        assert!(case.is_none() || plan.was_reached, "the fault has happened");
        world
    }

    /// Every fault of every call.
    fn run_all(self) {
        let base = self.run(None, Trace::default());
        let plan = base.plan.as_ref().expect("there is a plan");
        // The last opening shows that all is well again.
        let calls = base.disk.log();
        let calls = &calls[..usize::try_from(plan.calls_in_question).unwrap()];
        let mut kinds: BTreeMap<Operation, usize> = BTreeMap::new();
        for operation in calls {
            *kinds.entry(*operation).or_default() += 1;
        }
        kinds.remove(&Operation::Remove);
        assert_eq!(kinds.len(), 13, "the script does every kind of call, removals perhaps: {kinds:?}");
        assert!(base.stats.across >= 6 && base.stats.read_only >= 4, "{:?}", base.stats);
        let is_whole = number("SIM_RUNS").unwrap_or(1) >= 20;
        let (mut total, mut stumbled) = (Stats::default(), 0);
        for (at, operation) in calls.iter().enumerate() {
            for (number, case) in cases(at, *operation, is_whole).into_iter().enumerate() {
                if is_whole || (at + number).is_multiple_of(STRIDE) {
                    let world = self.run_caught(case);
                    total.add(&world.stats);
                    stumbled += world.plan.as_ref().map_or(0, |plan| plan.stumbled);
                }
            }
        }
        assert!(stumbled > 0, "recoveries die too");
        println!("{self:?} {kinds:?} {} calls, {stumbled} crashes behind crashes: {total:?}", calls.len());
    }

    fn run_caught(self, case: Case) -> World {
        let run = |verbose| catch_unwind(AssertUnwindSafe(|| self.run(Some(case), Trace::printed(verbose))));
        run(false).unwrap_or_else(|_| {
            println!("{self:?} {case:?}");
            let _ = run(true);
            panic!("{self:?} {case:?}");
        })
    }
}

/// All that can go wrong with a call; behind each, the recovery goes wrong in one way, or in several.
fn cases(at: usize, operation: Operation, is_whole: bool) -> Vec<Case> {
    let ends = [Crash::Power(Some(0)), Crash::Power(Some(500)), Crash::Power(Some(1_000)), Crash::KillLate];
    let mut cases = Vec::new();
    let mut add = |fault, end| {
        let number = at / STRIDE + cases.len();
        let stumbles = [None, Some(at as u64 % 50), Some(at as u64 * 7 % 50)];
        let stumbles = [stumbles[number % 3], Some(at as u64 * 3 % 40).filter(|_| number % 3 == 2)];
        cases.push(Case { at, fault, end, stumbles, closes: number.is_multiple_of(2) });
        if is_whole {
            cases.push(Case {
                at,
                fault,
                end,
                stumbles: [Some(at as u64 * 11 % 60), None],
                closes: !number.is_multiple_of(2),
            });
        }
    };
    for end in ends {
        add(Fault::Die { is_after: false }, end);
        add(Fault::Die { is_after: true }, end);
    }
    let keeps: &[u64] = if operation == Operation::Appended { &[0, 500, 1_000] } else { &[0] };
    for keep in keeps.iter().copied() {
        for (is_after, is_for_ever) in [(false, false), (true, false), (false, true), (true, true)] {
            let error = if at.is_multiple_of(2) { io::ErrorKind::Other } else { io::ErrorKind::StorageFull };
            let end = ends[(at + usize::from(is_after)) % ends.len()];
            add(Fault::Fail { error, is_after, is_for_ever, keep }, end);
        }
    }
    cases
}

#[test]
fn every_call_of_strict_dies_and_fails_on_two_shards() {
    Setting { mode: Mode::Strict, shards: 2 }.run_all();
}

#[test]
fn every_call_of_strict_dies_and_fails_on_three_shards() {
    Setting { mode: Mode::Strict, shards: 3 }.run_all();
}

#[test]
fn every_call_of_buffered_dies_and_fails_on_two_shards() {
    Setting { mode: Mode::Buffered, shards: 2 }.run_all();
}

#[test]
fn every_call_of_buffered_dies_and_fails_on_three_shards() {
    Setting { mode: Mode::Buffered, shards: 3 }.run_all();
}

#[test]
fn the_script_is_the_same_every_time() {
    let setting = Setting { mode: Mode::Strict, shards: 3 };
    let hash = || setting.run(None, Trace::hashed()).trace.finish();
    assert_eq!(hash(), hash());
}

/// An opening that only reads serves what it finds and writes no decision: what a dead process still writes would come to
/// light behind it.
#[test]
fn segments_that_are_not_fenced_change_what_was_seen() {
    let setting = Setting { mode: Mode::Strict, shards: 2 };
    let base = setting.run(None, Trace::default());
    let calls = base.disk.log();
    let writes = calls.iter().enumerate().filter(|(_, kind)| **kind == Operation::Appended);
    let fault = Fault::Die { is_after: false };
    let kill = |at| Case { at, fault, end: Crash::KillLate, stumbles: [None; 2], closes: true };
    plant(Some(Bug::SegmentsNotFenced));
    let told =
        writes.filter_map(|(at, _)| caught(|| setting.run(Some(kill(at)), Trace::default())).err()).collect::<Vec<_>>();
    plant(None);
    assert!(!told.is_empty() && told.iter().all(|what| what.contains(SEEN)), "{told:?}");
}
