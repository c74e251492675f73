//! Stories: what transactions do, step by step, and what each step must come to.
//!
//! - A transaction begins with its first step. That is where its snapshot is fixed, if the step reads.
//! - Steps are taken one after the other, by hand; only a race commits two transactions at the same time.
//! - What a step must come to is the same wherever the keys are.

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Actor(u8);

pub(crate) const T1: Actor = Actor(1);
pub(crate) const T2: Actor = Actor(2);
pub(crate) const T3: Actor = Actor(3);
pub(crate) const T4: Actor = Actor(4);

/// Keys and what they hold, in the order of the keys.
pub(crate) type Pairs = &'static [(&'static str, i64)];

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Reads(Actor, &'static str, Option<i64>),
    /// `None` deletes.
    Writes(Actor, &'static str, Option<i64>),
    /// Looks at all pairs.
    Finds(Actor, Pairs),
    Commits(Actor),
    /// Tries to commit, and cannot.
    Loses(Actor),
    Aborts(Actor),
    /// Two commit at the same time; both must not win.
    Race(Actor, Actor),
    /// What is there for everybody who comes now.
    Leaves(Pairs),
}

impl Actor {
    /// Who looks at what is there.
    pub(crate) const fn of_the_audience() -> Self {
        Self(0)
    }

    pub(crate) const fn reads(self, key: &'static str, value: i64) -> Step {
        Step::Reads(self, key, Some(value))
    }

    pub(crate) const fn misses(self, key: &'static str) -> Step {
        Step::Reads(self, key, None)
    }

    pub(crate) const fn writes(self, key: &'static str, value: i64) -> Step {
        Step::Writes(self, key, Some(value))
    }

    pub(crate) const fn deletes(self, key: &'static str) -> Step {
        Step::Writes(self, key, None)
    }

    pub(crate) const fn finds(self, pairs: Pairs) -> Step {
        Step::Finds(self, pairs)
    }

    pub(crate) const fn commits(self) -> Step {
        Step::Commits(self)
    }

    pub(crate) const fn loses(self) -> Step {
        Step::Loses(self)
    }

    pub(crate) const fn aborts(self) -> Step {
        Step::Aborts(self)
    }

    pub(crate) const fn races(self, other: Self) -> Step {
        Step::Race(self, other)
    }
}

/// What is there for everybody who comes now.
pub(crate) const fn leaves(pairs: Pairs) -> Step {
    Step::Leaves(pairs)
}
