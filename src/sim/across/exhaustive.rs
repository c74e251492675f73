//! Exhaustive faults: one fixed script, and every I/O of it goes wrong once, in every way.
//!
//! - A run without faults counts the I/Os: writes begun and completed, segments made, manifests written. Then each of
//!   them is where the process dies, right before and right after, with nothing, half, all or a late rest of what was
//!   under way on the disk; or it fails, once or with all that follow.
//! - Recovery dies at each of its steps too, and finds the same again.
//! - Everything that holds for seeds holds here; and every planned fault must have happened.
//! - Of the faults, a debug build takes a share that has every I/O and every kind; `SIM_RUNS=20` takes all.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::disk::Disk;
use super::super::recovery::{decide_transactions, remove_strays};
use super::super::rng::Rng;
use super::super::seeds::number;
use super::super::swarm::Mode;
use super::action::Action;
use super::cell::{Cell, LASTING_RUNS, STAMPS, run_id};
use super::client::Client;
use super::program::{ACCOUNTS, NODES, Program, Purpose, account, node};
use super::recovery::{build, judge_all, manifest};
use super::swarm::Swarm;
use super::world::{Stats, World};
use crate::base::key::{Name, Space};
use crate::base::options::{DurabilityMode, HistoryRetention, Partitioning};
use crate::base::run_id::RunId;
use crate::format::manifest::Manifest;
use crate::shard::route::Layout;
use crate::store::chain::Revision;

/// What the disk is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Io {
    /// A write of a batch begins.
    Start,
    /// A write of a batch has completed.
    End,
    /// A segment is made.
    Create,
    /// Recovery writes its manifest.
    Manifest,
    /// A close writes its manifest.
    Seal,
}

/// What goes wrong. Chances to keep a sector are in 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The process dies; without a chance, what was under way lands during the recovery.
    Crash { is_after: bool, keep: Option<u64> },
    /// The I/O fails, and so do all that follow until the process ends, if it is for ever.
    Fail { keep: u64, is_for_ever: bool },
}

/// What becomes of an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    DieBefore,
    DieAfter,
    /// It fails, and keeps each sector with this chance in 1000.
    Fail(u64),
}

impl Verdict {
    /// Whether a manifest is as it was before. Its write is atomic, and may fail behind that.
    pub(super) const fn is_before(self) -> bool {
        matches!(self, Self::DieBefore | Self::Fail(0))
    }
}

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
}

/// A fault, where it happens, and what comes then.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// The number of the I/O.
    at: usize,
    fault: Fault,
    /// Which steps of the recovery behind it die, as bits, counted from the fault on.
    stumbles: u64,
    /// Whether the opening in which something failed is closed, or dies when it has come to rest.
    closes: bool,
}

/// A fixed script with at most one fault in it.
pub(super) struct Plan {
    case: Option<Case>,
    /// All I/Os so far, with the number of openings begun.
    points: Vec<(Io, usize)>,
    /// Whether what failed for ever works again.
    is_healed: bool,
    is_dead: bool,
    /// Whether the recovery behind the fault was rehearsed.
    is_rehearsed: bool,
    openings: usize,
    /// Steps of recoveries behind the fault.
    steps: u32,
    /// How often a manifest was not written.
    refusals: u32,
    scripts: Vec<VecDeque<Deed>>,
    current: Vec<Option<Deed>>,
}

/// How often an opening fails before a disk that fails for ever is repaired.
const REFUSALS: u32 = 3;
const CLIENTS: usize = 3;
const OPENINGS: usize = 3;
/// The steps of a recovery at which it dies: none, each alone, and each in turn.
const STUMBLES: [u64; 6] = [0, 1, 1 << 1, 1 << 2, 1 << 3, 1 | 1 << 2 | 1 << 5 | 1 << 9];
/// A debug build takes one of so many faults.
const STRIDE: usize = 6;

impl Plan {
    fn new(case: Option<Case>) -> Self {
        Self {
            case,
            points: Vec::new(),
            is_healed: false,
            is_dead: false,
            is_rehearsed: false,
            openings: 0,
            steps: 0,
            refusals: 0,
            scripts: Vec::new(),
            current: vec![None; CLIENTS],
        }
    }

    /// Whether the fault has happened.
    fn was_reached(&self) -> bool {
        self.case.is_some_and(|case| case.at < self.points.len())
    }

    /// The next I/O, and what becomes of it.
    fn io(&mut self, io: Io) -> Verdict {
        let number = self.points.len();
        self.points.push((io, self.openings));
        let Some(case) = self.case else { return Verdict::Go };
        let is_first = case.at == number;
        match case.fault {
            Fault::Crash { is_after: false, .. } if is_first => Verdict::DieBefore,
            Fault::Crash { .. } if is_first => Verdict::DieAfter,
            Fault::Fail { keep, .. } if is_first => self.refuse(io, keep),
            Fault::Fail { keep, is_for_ever: true } if self.was_reached() && !self.is_healed => self.refuse(io, keep),
            Fault::Crash { .. } | Fault::Fail { .. } => Verdict::Go,
        }
    }

    fn refuse(&mut self, io: Io, keep: u64) -> Verdict {
        if io == Io::Manifest {
            // Another process has a disk that works; if it failed at once, it was repaired some time.
            let has_served = self.case.is_some_and(|case| self.points[case.at].0 != Io::Manifest);
            self.refusals += 1;
            self.is_healed = has_served || self.refusals == REFUSALS;
            if has_served {
                return Verdict::Go;
            }
        }
        Verdict::Fail(keep)
    }

    /// Of writes that are under way when the process dies.
    pub(super) fn keep(&self) -> Option<u64> {
        match self.case.map(|case| case.fault) {
            Some(Fault::Crash { keep, .. }) => keep,
            _ => Some(0),
        }
    }

    /// Whether an opening that has come to rest is closed.
    pub(super) fn closes(&self) -> bool {
        match self.case {
            Some(Case { fault: Fault::Fail { .. }, closes, .. }) if self.was_reached() && !self.is_healed => closes,
            _ => self.openings != 2,
        }
    }

    /// Whether this recovery is rehearsed: the one behind the fault, or each if there is none.
    pub(super) fn rehearses(&mut self) -> bool {
        let is_due = self.case.is_none() || (self.was_reached() && !self.is_rehearsed);
        self.is_rehearsed |= is_due;
        is_due
    }

    /// Whether a recovery dies here.
    pub(super) fn stumbles(&mut self) -> bool {
        let Some(case) = self.case.filter(|_| self.was_reached()) else { return false };
        self.steps += 1;
        case.stumbles.checked_shr(self.steps - 1).is_some_and(|left| left & 1 == 1)
    }

    /// An opening begins. Returns how much there is to do.
    pub(super) fn begin_opening(&mut self, layout: Layout) -> u64 {
        self.is_dead = false;
        // What has failed in an opening before does not fail any more.
        self.is_healed |= self.was_reached();
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
            Deed::Transact(..) | Deed::Flush => return None,
        })
    }
}

impl World {
    /// The disk is asked something.
    pub(super) fn io(&mut self, io: Io) -> Verdict {
        let verdict = self.plan.as_mut().map_or(Verdict::Go, |plan| plan.io(io));
        if verdict != Verdict::Go {
            self.note(format_args!("{io:?}: {verdict:?}"));
        }
        verdict
    }

    /// The process is dead from here on.
    pub(super) fn die(&mut self) {
        self.plan.as_mut().expect("only a plan lets it die").is_dead = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.is_dead)
    }

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
            vec![bank(Purpose::Audit), transfer(1, 4), fixed(&[], &of_mortal)],
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

type Revisions = Vec<BTreeMap<(RunId, Space, Name), Vec<Revision>>>;

/// Recovers a copy of the disk as far as its manifest, and says what is there.
fn recover(disk: &Disk, layout: Layout, history: HistoryRetention) -> (Revisions, Manifest) {
    let judged = judge_all(disk);
    let (decisions, _) = decide_transactions(disk, &judged.sealed);
    let (memories, latest) = build(disk, &judged.sealed, &decisions, layout, history);
    let revisions = memories.iter().map(|memory| {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (run, space, name, revision) in memory.every_revision() {
            all.entry((run, space, name.clone())).or_default().push(revision.clone());
        }
        all
    });
    let reserved = judged.reserved.max(judged.latest).max(latest).next();
    (revisions.collect(), manifest(&judged, layout, reserved))
}

/// Recovers copies of the disk that die behind each step, and again: the same is found.
pub(super) fn rehearse(disk: &Disk, layout: Layout, history: HistoryRetention) {
    let mut rng = Rng::new(1);
    for lands_first in [false, true] {
        let mut disk = disk.clone();
        if lands_first && disk.land_late_writes(&mut rng) == 0 {
            continue;
        }
        let (found, manifest) = recover(&disk, layout, history);
        assert_eq!(found, recover(&disk, layout, history).0, "before the manifest, nothing has changed");
        disk.write_manifest(manifest.to_bytes());
        for lands in [false, true] {
            let mut disk = disk.clone();
            let land = |disk: &mut Disk, rng: &mut Rng| lands && disk.land_late_writes(rng) > 0;
            assert_eq!(found, recover(&disk, layout, history).0, "behind the manifest");
            land(&mut disk, &mut rng);
            assert_eq!(found, recover(&disk, layout, history).0, "behind writes that land late");
            let is_named = |id: &_| manifest.sealed.iter().any(|segment| segment.id == *id);
            let stray = disk.segments().find(|id| !is_named(id));
            if let Some(stray) = stray {
                disk.remove(stray);
                assert_eq!(found, recover(&disk, layout, history).0, "when some strays are removed");
            }
            remove_strays(&mut disk, &manifest);
            let (again, manifest) = recover(&disk, layout, history);
            assert_eq!(found, again, "when all strays are removed");
            disk.write_manifest(manifest.to_bytes());
            assert_eq!(found, recover(&disk, layout, history).0, "behind another manifest");
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

    fn run(self, case: Option<Case>, verbose: bool) -> World {
        let seed = number("SIM_SEED").unwrap_or(1);
        let mut world = World::new(seed, self.mode, verbose);
        world.swarm = self.swarm();
        world.layout = Layout { shards: self.shards, partitioning: Partitioning::ByRun };
        world.clients = (0..CLIENTS).map(|_| Client::default()).collect();
        world.plan = Some(Plan::new(case));
        world.run();
        let plan = world.plan.as_ref().expect("there is a plan");
        assert!(case.is_none() || plan.was_reached(), "the fault has happened");
        let stumbles = case.map_or(0, |case| u64::BITS - case.stumbles.leading_zeros());
        assert!(plan.steps >= stumbles, "the recovery has died as often as planned");
        world
    }

    /// Every fault of every I/O.
    fn run_all(self) {
        let base = self.run(None, false);
        let points = &base.plan.as_ref().expect("there is a plan").points;
        let mut kinds: BTreeMap<Io, usize> = BTreeMap::new();
        for (io, _) in points {
            *kinds.entry(*io).or_default() += 1;
        }
        assert_eq!(kinds.len(), 5, "the script does every kind of I/O: {kinds:?}");
        assert!(base.stats.across >= 6 && base.stats.read_only >= 4, "{:?}", base.stats);
        let is_whole = number("SIM_RUNS").unwrap_or(1) >= 20;
        let mut total = Stats::default();
        // The last opening shows that all is well again.
        let in_question = points.iter().take_while(|(_, openings)| *openings < OPENINGS);
        for (at, (io, _)) in in_question.enumerate() {
            for (number, case) in cases(at, *io, is_whole).into_iter().enumerate() {
                if is_whole || (at + number).is_multiple_of(STRIDE) {
                    total.add(&self.run_caught(case).stats);
                }
            }
        }
        println!("{self:?} {kinds:?} {} I/Os: {total:?}", points.len());
    }

    fn run_caught(self, case: Case) -> World {
        let run = |verbose| catch_unwind(AssertUnwindSafe(|| self.run(Some(case), verbose)));
        run(false).unwrap_or_else(|_| {
            println!("{self:?} {case:?}");
            let _ = run(true);
            panic!("{self:?} {case:?}");
        })
    }
}

/// All that can go wrong with an I/O; behind each, the recovery goes wrong in one way, or in all.
fn cases(at: usize, io: Io, is_whole: bool) -> Vec<Case> {
    let is_manifest = matches!(io, Io::Manifest | Io::Seal);
    let mut faults = Vec::new();
    for keep in [Some(0), Some(500), Some(1_000), None] {
        if is_manifest && keep.is_none_or(|keep| keep > 0) {
            break;
        }
        faults.extend([false, true].map(|is_after| Fault::Crash { is_after, keep }));
    }
    let keeps: &[u64] = match io {
        Io::End => &[0, 500, 1_000],
        Io::Manifest | Io::Seal => &[0, 1_000],
        Io::Start | Io::Create => &[0],
    };
    for keep in keeps {
        faults.extend([false, true].map(|is_for_ever| Fault::Fail { keep: *keep, is_for_ever }));
    }
    let mut cases = Vec::new();
    for (number, fault) in faults.into_iter().enumerate() {
        let is_crash = matches!(fault, Fault::Crash { .. });
        for (other, stumbles) in STUMBLES.into_iter().enumerate() {
            let closes = (at + number + other).is_multiple_of(2);
            let is_its_turn = (at / STRIDE + number) % STUMBLES.len() == other;
            if is_its_turn || (is_whole && is_crash) {
                cases.push(Case { at, fault, stumbles, closes });
            }
            if is_its_turn && is_whole && !is_crash {
                cases.push(Case { at, fault, stumbles, closes: !closes });
            }
        }
    }
    cases
}

#[test]
fn every_io_of_strict_dies_and_fails_on_two_shards() {
    Setting { mode: Mode::Strict, shards: 2 }.run_all();
}

#[test]
fn every_io_of_strict_dies_and_fails_on_three_shards() {
    Setting { mode: Mode::Strict, shards: 3 }.run_all();
}

#[test]
fn every_io_of_buffered_dies_and_fails_on_two_shards() {
    Setting { mode: Mode::Buffered, shards: 2 }.run_all();
}

#[test]
fn every_io_of_buffered_dies_and_fails_on_three_shards() {
    Setting { mode: Mode::Buffered, shards: 3 }.run_all();
}

#[test]
fn the_script_is_the_same_every_time() {
    let setting = Setting { mode: Mode::Strict, shards: 3 };
    assert_eq!(setting.run(None, false).trace(), setting.run(None, false).trace());
}
