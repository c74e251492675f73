//! What goes wrong on the fake disk, and when: at the call with a given number, once or from then on.

use std::io;

/// What the disk is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    List,
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

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies, before or behind it.
    Die { is_after: bool },
    /// It fails, before or after it has done what it should; of the write of a log, each sector is kept with this chance
    /// in 1000.
    Fail { error: io::ErrorKind, is_after: bool, is_for_ever: bool, keep: u64 },
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Verdict {
    Go,
    Refuse(io::Error),
    RefuseAfter(io::Error),
}

/// The fault that comes, and the calls so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    calls: Vec<Operation>,
    armed: Option<(usize, Fault)>,
    is_dead: bool,
}

impl Faults {
    pub(super) fn arm(&mut self, after: u64, fault: Fault) {
        self.armed = Some((self.calls.len() + usize::try_from(after).unwrap(), fault));
    }

    pub(super) fn disarm(&mut self) -> bool {
        let was_reached = self.was_reached();
        self.armed = None;
        was_reached
    }

    pub(super) fn was_reached(&self) -> bool {
        self.armed.is_some_and(|(at, _)| at < self.calls.len())
    }

    pub(super) const fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.len() as u64
    }

    pub(super) fn log(&self) -> &[Operation] {
        &self.calls
    }

    /// There is another process.
    pub(super) fn revive(&mut self) {
        self.is_dead = false;
    }

    /// With which chance a write of a log that fails keeps a sector.
    pub(super) fn keep(&self) -> u64 {
        match self.armed {
            Some((_, Fault::Fail { keep, .. })) => keep,
            _ => 0,
        }
    }

    pub(super) fn verdict(&mut self, operation: Operation) -> Verdict {
        if self.is_dead {
            return Verdict::Refuse(io::Error::other("the process is dead"));
        }
        let number = self.calls.len();
        self.calls.push(operation);
        let Some((at, fault)) = self.armed.filter(|(at, _)| *at <= number) else { return Verdict::Go };
        let (error, is_after) = match fault {
            Fault::Die { .. } | Fault::Fail { is_for_ever: false, .. } if at < number => return Verdict::Go,
            Fault::Die { is_after } => {
                self.is_dead = true;
                (io::Error::other("the process died"), is_after)
            }
            Fault::Fail { error, is_after, .. } => {
                let is_of_log = matches!(operation, Operation::Append | Operation::Appended);
                (io::Error::new(error, "simulated"), is_after && !is_of_log)
            }
        };
        if is_after { Verdict::RefuseAfter(error) } else { Verdict::Refuse(error) }
    }
}
