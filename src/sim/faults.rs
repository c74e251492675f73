//! What goes wrong on the fake disk, and when: at the call with a given number or the next of a kind, once or from then
//! on. What has gone wrong is counted by site: which kind of call, and how.

use std::collections::BTreeSet;
use std::io;

use super::rng::Rng;

/// What a system says that has no room: on the disk, or for this user.
const NO_ROOM: [io::ErrorKind; 2] = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
/// What is wrong with a call that fails.
pub(super) const ERRORS: [io::ErrorKind; 4] =
    [io::ErrorKind::Other, io::ErrorKind::StorageFull, io::ErrorKind::Other, io::ErrorKind::QuotaExceeded];

/// What the disk is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    List,
    Fence,
    Open,
    Create,
    Read,
    Write,
    WriteZeros,
    Sync,
    Truncate,
    Rename,
    Remove,
    SyncDirectory,
    /// A write of a log begins.
    Append,
    /// A write of a log has completed.
    Appended,
}

const OPERATIONS: [Operation; 14] = [
    Operation::List,
    Operation::Fence,
    Operation::Open,
    Operation::Create,
    Operation::Read,
    Operation::Write,
    Operation::WriteZeros,
    Operation::Sync,
    Operation::Truncate,
    Operation::Rename,
    Operation::Remove,
    Operation::SyncDirectory,
    Operation::Append,
    Operation::Appended,
];

impl Operation {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        *rng.pick(&OPERATIONS)
    }

    /// Whether it changes nothing: it cannot fail behind what it does.
    const fn only_looks(self) -> bool {
        matches!(self, Self::List | Self::Fence | Self::Open | Self::Read)
    }

    const fn is_of_log(self) -> bool {
        matches!(self, Self::Append | Self::Appended)
    }

    /// Whether it needs room. A log has all it needs before it is written.
    const fn needs_room(self) -> bool {
        !self.only_looks() && !self.is_of_log() && !matches!(self, Self::Remove | Self::Truncate)
    }
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies, before or behind it.
    Die { is_after: bool },
    /// It fails, before or after it has done what it should; of the write of a log, each sector is kept with this chance
    /// in 1000.
    Fail { error: io::ErrorKind, is_after: bool, is_for_ever: bool, keep: u64 },
}

impl Fault {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let is_after = rng.chance(500);
        if rng.chance(400) {
            return Self::Die { is_after };
        }
        let error = *rng.pick(&ERRORS);
        Self::Fail { error, is_after, is_for_ever: rng.chance(400), keep: *rng.pick(&[0, 500, 1_000]) }
    }
}

/// At which call.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// Behind so many.
    Call(u64),
    /// At one of this kind, behind so many of them.
    Operation(Operation, u64),
}

/// How something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    DiesBefore,
    DiesAfter,
    FailsBefore,
    FailsAfter,
    FailsForEver,
    /// There is no room, on the disk or for this user.
    Full,
    /// The device takes less than it was given.
    Short,
    /// It takes seconds.
    Stalls,
    /// Power goes while it is under way.
    Torn,
    /// The process is killed while it is under way, and it lands behind that.
    LandsLate,
}

/// Which kind of call went wrong, and how.
pub(super) type Site = (Operation, How);

/// All sites there are.
pub(super) fn sites() -> BTreeSet<Site> {
    let mut sites = BTreeSet::new();
    for operation in OPERATIONS {
        sites
            .extend([How::DiesBefore, How::DiesAfter, How::FailsBefore, How::FailsForEver].map(|how| (operation, how)));
        if !operation.only_looks() && !operation.is_of_log() {
            sites.insert((operation, How::FailsAfter));
        }
        if operation.needs_room() {
            sites.insert((operation, How::Full));
        }
    }
    sites.extend([How::Short, How::Stalls, How::Torn, How::LandsLate].map(|how| (Operation::Appended, how)));
    sites
}

/// A fault that hits a site, if calls are what goes wrong there.
pub(super) fn fault_at((operation, how): Site) -> Option<(Operation, Fault)> {
    let fails = |error, is_after, is_for_ever| Fault::Fail { error, is_after, is_for_ever, keep: 500 };
    let fault = match how {
        How::DiesBefore => Fault::Die { is_after: false },
        How::DiesAfter => Fault::Die { is_after: true },
        How::FailsBefore => fails(io::ErrorKind::Other, false, false),
        How::FailsAfter => fails(io::ErrorKind::Other, true, false),
        How::FailsForEver => fails(io::ErrorKind::Other, true, true),
        How::Full => fails(io::ErrorKind::StorageFull, false, false),
        How::Short | How::Stalls | How::Torn | How::LandsLate => return None,
    };
    Some((operation, fault))
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Verdict {
    Go,
    Refuse(io::Error),
    RefuseAfter(io::Error),
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    when: When,
    fault: Fault,
    /// Whether it has happened.
    was_reached: bool,
}

impl Armed {
    /// Whether it happens now.
    fn is_due(&mut self, operation: Operation) -> bool {
        let left = match &mut self.when {
            When::Call(left) => left,
            When::Operation(of, left) if *of == operation => left,
            When::Operation(..) => return false,
        };
        let is_due = *left == 0 && !self.was_reached;
        *left = left.saturating_sub(1);
        self.was_reached |= is_due;
        is_due
    }
}

/// The fault that comes, and the calls so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    calls: Vec<Operation>,
    armed: Option<Armed>,
    is_dead: bool,
    hit: BTreeSet<Site>,
}

impl Faults {
    pub(super) fn arm(&mut self, when: When, fault: Fault) {
        self.armed = Some(Armed { when, fault, was_reached: false });
    }

    pub(super) fn disarm(&mut self) -> bool {
        self.armed.take().is_some_and(|armed| armed.was_reached)
    }

    pub(super) const fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    pub(super) fn was_reached(&self) -> bool {
        self.armed.is_some_and(|armed| armed.was_reached)
    }

    /// Whether everything fails from now on.
    pub(super) fn fails_for_ever(&self) -> bool {
        self.armed
            .is_some_and(|armed| armed.was_reached && matches!(armed.fault, Fault::Fail { is_for_ever: true, .. }))
    }

    pub(super) const fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub(super) fn calls(&self) -> &[Operation] {
        &self.calls
    }

    pub(super) fn hit(&mut self, operation: Operation, how: How) {
        self.hit.insert((operation, how));
    }

    pub(super) const fn hits(&self) -> &BTreeSet<Site> {
        &self.hit
    }

    /// There is another process.
    pub(super) fn revive(&mut self) {
        self.is_dead = false;
    }

    /// With which chance a write of a log that fails keeps a sector.
    pub(super) fn keep(&self) -> u64 {
        match self.armed {
            Some(Armed { fault: Fault::Fail { keep, .. }, .. }) => keep,
            _ => 0,
        }
    }

    pub(super) fn verdict(&mut self, operation: Operation) -> Verdict {
        if self.is_dead {
            return Verdict::Refuse(io::Error::other("the process is dead"));
        }
        self.calls.push(operation);
        let fails_on = self.fails_for_ever();
        let Some(armed) = &mut self.armed else { return Verdict::Go };
        if !armed.is_due(operation) && !fails_on {
            return Verdict::Go;
        }
        let (error, is_after, how) = match armed.fault {
            Fault::Die { is_after } => {
                self.is_dead = true;
                let how = if is_after { How::DiesAfter } else { How::DiesBefore };
                (io::Error::other("the process died"), is_after, how)
            }
            Fault::Fail { error, is_after, is_for_ever, .. } => {
                let has_room = !NO_ROOM.contains(&error) || !operation.needs_room();
                let error = if has_room { io::ErrorKind::Other } else { error };
                let is_after = is_after && !operation.only_looks() && !operation.is_of_log();
                let how = match is_after {
                    _ if is_for_ever => How::FailsForEver,
                    _ if !has_room => How::Full,
                    true => How::FailsAfter,
                    false => How::FailsBefore,
                };
                (io::Error::new(error, "simulated"), is_after, how)
            }
        };
        self.hit(operation, how);
        if is_after { Verdict::RefuseAfter(error) } else { Verdict::Refuse(error) }
    }
}
