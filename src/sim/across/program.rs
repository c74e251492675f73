//! Programs: what a transaction does, step by step, depending on what it sees.
//!
//! - Transfers keep the total of the bank, swaps keep the ring one cycle, inserts keep a prefix below its bound:
//!   whoever reads all of it in one transaction checks that.

use super::super::rng::Rng;
use super::action::Action;
use super::cell::{Cell, Content, Kind, LASTING_RUNS, STAMPS};
use super::document::{self, Document, some_documents};
use super::swarm::Swarm;
use super::view::View;

/// What everybody's balance begins with.
const BALANCE: i64 = 100;
pub(super) const ACCOUNTS: u8 = 5;
pub(super) const NODES: u8 = 5;
/// The most keys that inserts leave under a prefix.
const BOUND: usize = 3;

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Setup,
    Transfer,
    Audit,
    Swap,
    Walk,
    Mixed,
    Look,
    Insert,
    DeleteRun,
    Mortal,
    Document,
    /// Reads and writes what it is told to.
    Fixed,
}

/// The purposes that swarms choose among.
pub(super) const PURPOSES: [Purpose; 11] = [
    Purpose::Setup,
    Purpose::Transfer,
    Purpose::Audit,
    Purpose::Swap,
    Purpose::Walk,
    Purpose::Mixed,
    Purpose::Look,
    Purpose::Insert,
    Purpose::DeleteRun,
    Purpose::Mortal,
    Purpose::Document,
];

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Do(Vec<Action>),
    Commit,
    Abort,
}

/// What a transaction does.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) purpose: Purpose,
    /// Read first.
    reads: Vec<Cell>,
    /// Written then.
    writes: Vec<Cell>,
    scan: Option<(u8, String)>,
    traces: Option<u8>,
    documents: Vec<Document>,
    /// How it looks at them.
    looks: Vec<Action>,
    amount: i64,
    ttl: u64,
    deletes: u64,
    step: u32,
    stamps: i64,
    /// Whether all actions of a step are sent at once.
    pub(super) is_eager: bool,
}

impl Program {
    pub(super) fn new(purpose: Purpose, id: u64, swarm: &Swarm, rng: &mut Rng) -> Self {
        let mut program = Self {
            purpose,
            reads: Vec::new(),
            writes: Vec::new(),
            scan: None,
            traces: None,
            documents: Vec::new(),
            looks: Vec::new(),
            amount: i64::try_from(rng.below(9)).unwrap() + 1,
            ttl: rng.within(1_000..swarm.longest_ttl),
            deletes: swarm.deletes,
            step: 0,
            stamps: i64::try_from(id).unwrap() * STAMPS,
            is_eager: rng.chance(500),
        };
        match purpose {
            Purpose::Setup | Purpose::Audit => program.reads = (0..ACCOUNTS).map(account).collect(),
            Purpose::Transfer => {
                let from = rng.index(usize::from(ACCOUNTS));
                let to = (from + 1 + rng.index(usize::from(ACCOUNTS) - 1)) % usize::from(ACCOUNTS);
                program.reads = [from, to].map(|at| account(u8::try_from(at).unwrap())).to_vec();
            }
            Purpose::Swap => program.reads = vec![node(rng.below(u64::from(NODES)))],
            Purpose::Walk => program.reads = (0..u64::from(NODES)).map(node).collect(),
            Purpose::Mixed => {
                program.reads = some_cells(swarm, rng, 4);
                program.writes = some_cells(swarm, rng, 4);
                program.look_further(swarm, rng);
            }
            Purpose::Look => {
                program.reads = some_cells(swarm, rng, 8);
                program.look_further(swarm, rng);
            }
            Purpose::Insert => {
                let run = u8::try_from(rng.below(2)).unwrap();
                program.scan = Some((run, "p".into()));
                program.writes = vec![Cell::kv(run, format!("p{}", rng.below(8)))];
            }
            Purpose::Document => {
                program.documents = some_documents(swarm, rng);
                program.looks = document::look(&program.documents, swarm, rng);
                if rng.chance(250) {
                    program.documents.clear();
                } else if rng.chance(400) {
                    let at = u8::try_from(rng.below(u64::from(LASTING_RUNS))).unwrap();
                    program.writes = vec![Cell::kv(at, format!("w{at}"))];
                }
            }
            Purpose::Fixed => {}
            Purpose::DeleteRun => program.reads = vec![Cell::log(mortal_run(rng))],
            Purpose::Mortal => {
                let run = mortal_run(rng);
                let all = mortal_cells(run);
                program.reads = pick(&all, rng, 2);
                program.writes = pick(&all, rng, 3);
                program.traces = rng.chance(300).then_some(run);
                if rng.chance(300) {
                    program.writes.push(Cell::kv(0, "r0"));
                }
            }
        }
        program
    }

    /// One that only reads these cells.
    pub(super) fn looking(id: u64, reads: Vec<Cell>, swarm: &Swarm, rng: &mut Rng) -> Self {
        let mut program = Self::new(Purpose::Audit, id, swarm, rng);
        program.purpose = Purpose::Look;
        program.reads = reads;
        program
    }

    /// Does what a script says, and nothing by chance.
    pub(super) fn fix(&mut self, reads: &[Cell], writes: &[Cell]) {
        self.reads = reads.to_vec();
        self.writes = writes.to_vec();
        self.amount = 7;
        self.is_eager = self.stamps / STAMPS % 2 == 0;
    }

    fn look_further(&mut self, swarm: &Swarm, rng: &mut Rng) {
        if rng.chance(swarm.scans) {
            let run = u8::try_from(rng.below(swarm.width.min(2))).unwrap();
            self.scan = Some((run, (*rng.pick(&["p", "r", ""])).to_owned()));
        }
        if rng.chance(swarm.traces) {
            self.traces = Some(u8::try_from(rng.below(2)).unwrap());
        }
    }

    fn stamp(&mut self) -> i64 {
        self.stamps += 1;
        self.stamps
    }

    /// What comes next, after what was seen.
    pub(super) fn next(&mut self, view: &View, rng: &mut Rng) -> Next {
        self.step += 1;
        match (self.purpose, self.step) {
            (Purpose::Swap, _) => self.swap(view),
            (Purpose::Mixed | Purpose::Mortal | Purpose::Document, 3) => self.look_again(rng),
            (Purpose::Mixed | Purpose::Mortal, 4) if rng.chance(300) => Next::Do(self.write(view, rng)),
            (_, 1) => self.look(),
            (_, 2) => match self.change(view, rng) {
                Some(actions) if actions.is_empty() => Next::Commit,
                Some(actions) => Next::Do(actions),
                None => Next::Abort,
            },
            _ if self.purpose != Purpose::Fixed && rng.chance(20) => Next::Abort,
            _ => Next::Commit,
        }
    }

    fn look(&self) -> Next {
        let appends = self.writes.iter().filter(|cell| cell.is_list() && cell.kind == Kind::Kv);
        let mut cells: Vec<Cell> = self.reads.iter().chain(appends).cloned().collect();
        cells.dedup();
        let read = |cell: Cell| if cell.kind == Kind::Trace { Action::Traces(cell.run) } else { Action::Read(cell) };
        let mut actions: Vec<Action> = cells.into_iter().map(read).collect();
        actions.extend(self.scan.clone().map(|(run, prefix)| Action::Scan { run, prefix }));
        actions.extend(self.traces.map(Action::Traces));
        actions.extend(self.looks.clone());
        if actions.is_empty() { Next::Do(vec![Action::Read(account(0))]) } else { Next::Do(actions) }
    }

    fn look_again(&self, rng: &mut Rng) -> Next {
        let mut actions = Vec::new();
        for cell in self.reads.iter().chain(&self.writes) {
            if rng.chance(300) && cell.kind != Kind::Trace {
                actions.push(Action::Read(cell.clone()));
            }
        }
        actions.extend(self.scan.clone().map(|(run, prefix)| Action::Scan { run, prefix }));
        actions.extend(self.traces.map(Action::Traces));
        actions.extend(self.looks.iter().filter(|_| rng.chance(500)).cloned());
        if actions.is_empty() { Next::Commit } else { Next::Do(actions) }
    }

    /// What it changes, if it can; nothing if it only looks.
    fn change(&mut self, view: &View, rng: &mut Rng) -> Option<Vec<Action>> {
        match self.purpose {
            Purpose::Setup => {
                if view.known(&self.reads[0]).is_some() {
                    return Some(Vec::new());
                }
                let accounts: Vec<_> = self.reads.clone();
                let mut actions: Vec<Action> =
                    accounts.into_iter().map(|cell| Action::Put(cell, vec![BALANCE, self.stamp()], None)).collect();
                for at in 0..u64::from(NODES) {
                    let next = i64::try_from((at + 1) % u64::from(NODES)).unwrap();
                    actions.push(Action::Put(node(at), vec![next, self.stamp()], None));
                }
                Some(actions)
            }
            Purpose::Transfer => {
                let balance = |cell: &Cell| view.known(cell).map(|content| content[0]);
                let (from, to) = (balance(&self.reads[0])?, balance(&self.reads[1])?);
                let changed = [from - self.amount, to + self.amount];
                let both = self.reads.clone().into_iter().zip(changed);
                Some(both.map(|(cell, balance)| Action::Put(cell, vec![balance, self.stamp()], None)).collect())
            }
            Purpose::Insert => {
                let found = view.ranges.first().map_or(0, |range| range.found.len());
                if found < BOUND {
                    return Some(self.write(view, rng));
                }
                let gone = view.ranges[0].found.keys().next()?.clone();
                Some(vec![Action::Delete(gone)])
            }
            Purpose::DeleteRun => {
                let run = self.reads[0].run;
                // Whoever deletes a run says so elsewhere, so that the outcome can be found.
                let witness = Cell::kv(0, format!("d{run}"));
                Some(vec![Action::DeleteRun(run), Action::Put(witness, vec![self.stamp()], None)])
            }
            Purpose::Document => {
                let documents = std::mem::take(&mut self.documents);
                let mut actions = document::change(&documents, self.deletes, view, rng, || self.stamp());
                actions.extend(self.write(view, rng));
                Some(actions)
            }
            Purpose::Mixed | Purpose::Mortal | Purpose::Fixed => Some(self.write(view, rng)),
            Purpose::Audit | Purpose::Walk | Purpose::Look | Purpose::Swap => Some(Vec::new()),
        }
    }

    fn write(&mut self, view: &View, rng: &mut Rng) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut pending: std::collections::BTreeMap<Cell, Content> = std::collections::BTreeMap::new();
        for cell in self.writes.clone() {
            let stamp = self.stamp();
            let action = match cell.kind {
                Kind::Log => Action::Append(cell.run, stamp),
                Kind::Trace => Action::Record { run: cell.run, number: rng.below(1 << 20) + 1, stamp },
                Kind::Kv | Kind::State | Kind::Place => {
                    if !cell.is_list() && cell.name.starts_with('r') && rng.chance(self.deletes) {
                        if rng.chance(500) { Action::Delete(cell) } else { Action::Insert(cell, vec![stamp]) }
                    } else {
                        let before = pending.get(&cell).or_else(|| view.known(&cell));
                        let mut content = before.filter(|_| cell.is_list()).cloned().unwrap_or_default();
                        content.push(stamp);
                        pending.insert(cell.clone(), content.clone());
                        let ttl = cell.name.starts_with('t').then_some(self.ttl);
                        Action::Put(cell, content, ttl)
                    }
                }
            };
            actions.push(action);
        }
        actions
    }

    /// Takes two neighbours of the ring and lets them change places.
    fn swap(&mut self, view: &View) -> Next {
        let next_of = |cell: &Cell| view.known(cell).map(|content| u64::try_from(content[0]).unwrap());
        if let 2 | 3 = self.step {
            let Some(next) = next_of(&self.reads[self.step as usize - 2]) else { return Next::Abort };
            self.reads.push(node(next));
        }
        match self.step {
            1..=3 => Next::Do(vec![Action::Read(self.reads[self.step as usize - 1].clone())]),
            4 => {
                let nexts: Option<Vec<u64>> = self.reads.iter().map(next_of).collect();
                let Some(nexts) = nexts else { return Next::Abort };
                let changed = [nexts[1], nexts[2], nexts[0]];
                let all = self.reads.clone().into_iter().zip(changed);
                let put = |(cell, next)| Action::Put(cell, vec![i64::try_from(next).unwrap(), self.stamp()], None);
                Next::Do(all.map(put).collect())
            }
            _ => Next::Commit,
        }
    }

    /// Checks what a transaction that has read everything at once must find.
    pub(super) fn check(&self, view: &View) {
        match self.purpose {
            Purpose::Audit => {
                let all: Vec<i64> = self.reads.iter().filter_map(|cell| Some(view.known(cell)?[0])).collect();
                let is_whole = all.is_empty() || all.len() == self.reads.len();
                assert!(is_whole, "some accounts are there and some are not: {:?}", view.reads);
                let total = i64::from(ACCOUNTS) * BALANCE;
                assert!(all.is_empty() || all.iter().sum::<i64>() == total, "the bank's total: {:?}", view.reads);
            }
            Purpose::Walk if view.known(&self.reads[0]).is_some() => {
                let (mut at, mut length) = (0, 0);
                while length == 0 || at != 0 {
                    let content = view.known(&node(at));
                    let next = content.unwrap_or_else(|| panic!("the ring is broken: {:?}", view.reads))[0];
                    at = u64::try_from(next).unwrap();
                    length += 1;
                    assert!(length <= NODES, "the ring is no cycle: {:?}", view.reads);
                }
                assert_eq!(length, NODES, "the ring has fallen apart: {:?}", view.reads);
            }
            _ => {}
        }
    }
}

/// What recovery must find of the invariants, in a whole state.
pub(super) fn check_state(view: &View) {
    let check = |purpose: Purpose, reads: Vec<Cell>| {
        let swarm = Swarm::plain();
        let mut program = Program::new(purpose, 1, &swarm, &mut Rng::new(0));
        program.reads = reads;
        program.check(view);
    };
    check(Purpose::Audit, (0..ACCOUNTS).map(account).collect());
    check(Purpose::Walk, (0..u64::from(NODES)).map(node).collect());
}

pub(super) fn account(at: u8) -> Cell {
    Cell::kv(at % 4, format!("b{at}"))
}

pub(super) fn node(at: u64) -> Cell {
    let at = u8::try_from(at).unwrap();
    Cell::kv(at % LASTING_RUNS, format!("n{at}"))
}

fn mortal_run(rng: &mut Rng) -> u8 {
    LASTING_RUNS + u8::try_from(rng.below(3)).unwrap()
}

fn mortal_cells(run: u8) -> Vec<Cell> {
    vec![
        Cell::kv(run, "r0"),
        Cell::kv(run, "r1"),
        Cell::kv(run, "r2"),
        Cell::state(run, "s0"),
        Cell::log(run),
        Cell::trace(run, ""),
    ]
}

fn pick(all: &[Cell], rng: &mut Rng, most: u64) -> Vec<Cell> {
    let count = rng.below(most) + 1;
    (0..count).map(|_| rng.pick(all).clone()).collect()
}

/// Any cells of runs that last.
pub(super) fn some_cells(swarm: &Swarm, rng: &mut Rng, most: u64) -> Vec<Cell> {
    let count = rng.below(most) + 1;
    (0..count).map(|_| some_cell(swarm, rng)).collect()
}

/// Any cell of a run that lasts; a trace stands for a new one.
pub(super) fn some_cell(swarm: &Swarm, rng: &mut Rng) -> Cell {
    let at = u8::try_from(rng.below(swarm.width)).unwrap();
    let run = at % LASTING_RUNS;
    match rng.weighted(&swarm.cells) {
        0 => Cell::kv(run, format!("r{at}")),
        1 => Cell::kv(run, format!("l{at}")),
        2 => Cell::log(run),
        3 => Cell::state(run, format!("s{at}")),
        4 => Cell::kv(run, format!("t{at}")),
        5 => Cell::kv(run.min(1), format!("p{at}")),
        _ => Cell::trace(run.min(1), ""),
    }
}
