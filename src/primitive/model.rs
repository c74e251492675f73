//! A model of key-value pairs and state cells, and random commands that both must answer alike.
//!
//! - Commands come in groups: each a transaction of its own, or one transaction that commits or is dropped.
//! - The model is the simplest thing that could be right: maps, copied for every transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::command::{Command, KvCommand, KvScan, StateCommand};
use super::harness::Harness;
use super::output::Output;
use crate::base::state::State;
use crate::base::value::Value;
use crate::base::version::{Version, Versioned};

/// A pair: its value, when it was committed (nothing for a transaction's own), when it expires.
#[derive(Clone, Debug)]
struct Pair {
    value: Value,
    version: Option<u64>,
    expires: u64,
}

#[derive(Clone, Debug, Default)]
struct Model {
    pairs: BTreeMap<String, Pair>,
    cells: BTreeMap<String, (Option<Arc<State>>, u64)>,
}

/// What a command may see and when it runs.
#[derive(Clone, Copy, Debug)]
struct Moment {
    snapshot: u64,
    now: u64,
}

impl Model {
    /// The answer, or how the error reads.
    fn run(&mut self, command: &Command, moment: Moment) -> Result<Output, &'static str> {
        match command {
            Command::Kv(command) => self.kv(command, moment),
            Command::State(command) => self.state(command, moment),
            other => panic!("the model knows nothing of {other:?}"),
        }
    }

    fn pair(&self, key: &str, moment: Moment) -> Option<&Pair> {
        self.pairs.get(key).filter(|pair| moment.snapshot < pair.expires)
    }

    fn live(&self, moment: Moment) -> Vec<(String, Value)> {
        let live = self.pairs.iter().filter(|(_, pair)| moment.snapshot < pair.expires);
        live.map(|(key, pair)| (key.clone(), pair.value.clone())).collect()
    }

    fn kv(&mut self, command: &KvCommand, moment: Moment) -> Result<Output, &'static str> {
        let version = |pair: &Pair| Version::from(pair.version.unwrap_or(moment.snapshot));
        Ok(match command {
            KvCommand::Get { key } => Output::Value(self.pair(key.as_str(), moment).map(|pair| pair.value.clone())),
            KvCommand::GetVersioned { key } => Output::Versioned(
                self.pair(key.as_str(), moment)
                    .map(|pair| Box::new(Versioned { value: pair.value.clone(), version: version(pair) })),
            ),
            KvCommand::Put { key, value, ttl } => {
                let expires = ttl.map_or(u64::MAX, |ttl| Version::from(moment.now).after(ttl).get());
                self.pairs.insert(key.as_str().into(), Pair { value: value.clone(), version: None, expires });
                Output::Unit
            }
            KvCommand::Delete { key } => {
                let found = self.pair(key.as_str(), moment).is_some();
                self.pairs.remove(key.as_str());
                Output::Flag(found)
            }
            KvCommand::CompareAndPut { key, expected, value } => {
                if self.pair(key.as_str(), moment).map(version) != *expected {
                    return Err("version mismatch");
                }
                let pair = Pair { value: value.clone(), version: None, expires: u64::MAX };
                self.pairs.insert(key.as_str().into(), pair);
                Output::Unit
            }
            KvCommand::Scan(scan) => {
                let KvScan { prefix, start, end, after, reverse, limit } = &**scan;
                let mut found = self.live(moment);
                found.retain(|(key, _)| {
                    prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
                        && start.as_ref().is_none_or(|start| key >= start)
                        && end.as_ref().is_none_or(|end| key < end)
                        && after.as_ref().is_none_or(|after| if *reverse { key < after } else { key > after })
                });
                if *reverse {
                    found.reverse();
                }
                found.truncate(*limit);
                Output::Pairs(found)
            }
            other => panic!("the model knows nothing of {other:?}"),
        })
    }

    fn state(&mut self, command: &StateCommand, moment: Moment) -> Result<Output, &'static str> {
        let name = match command {
            StateCommand::List => {
                let live = self.cells.iter().filter(|(_, (state, _))| state.is_some());
                return Ok(Output::Texts(live.map(|(name, _)| name.clone()).collect()));
            }
            StateCommand::Init { name, .. }
            | StateCommand::Read { name }
            | StateCommand::Set { name, .. }
            | StateCommand::CompareAndSwap { name, .. }
            | StateCommand::Increment { name, .. }
            | StateCommand::Delete { name }
            | StateCommand::Exists { name } => name,
        };
        let (state, version) = self.cells.get(name.as_str()).cloned().unwrap_or_default();
        let mut write = |value: &Value| {
            let updated_at = Version::from(moment.now).as_micros();
            let state = Arc::new(State { value: value.clone(), version: version + 1, updated_at });
            self.cells.insert(name.as_str().into(), (Some(state), version + 1));
            Output::Count(version + 1)
        };
        match command {
            StateCommand::Read { .. } => Ok(Output::State(state)),
            StateCommand::Init { .. } if state.is_some() => Err("already exists"),
            StateCommand::Init { value, .. } | StateCommand::Set { value, .. } => Ok(write(value)),
            StateCommand::CompareAndSwap { expected, value, .. } => {
                let actual = state.map_or(0, |state| state.version);
                if actual == *expected { Ok(write(value)) } else { Err("version mismatch") }
            }
            StateCommand::Increment { by, .. } => {
                let before = state.map_or(Some(0), |state| state.value.as_i64()).ok_or("invalid operation")?;
                let after = before.checked_add(*by).ok_or("invalid operation")?;
                write(&after.into());
                Ok(Output::Number(after))
            }
            StateCommand::Delete { .. } => {
                self.cells.insert(name.as_str().into(), (None, version));
                Ok(Output::Flag(state.is_some()))
            }
            StateCommand::Exists { .. } => Ok(Output::Flag(state.is_some())),
            StateCommand::List => unreachable!("answered above"),
        }
    }

    /// What the transaction wrote was committed at this version.
    fn commit(&mut self, version: u64) {
        for pair in self.pairs.values_mut() {
            pair.version = pair.version.or(Some(version));
        }
    }
}

/// A command; what it needs to know of the versions there are comes when it runs.
fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![any_kv().prop_map(Command::Kv), any_state().prop_map(Command::State)]
}

fn any_kv() -> impl Strategy<Value = KvCommand> {
    let key = || prop::sample::select(vec!["a", "aa", "ab", "b", "ba"]);
    let bound = || prop::option::of(prop::sample::select(vec!["", "a", "ab", "b", "c"]).prop_map(String::from));
    let ttl = prop::option::of((0..20_000_u64).prop_map(Duration::from_nanos));
    prop_oneof![
        key().prop_map(|key| KvCommand::Get { key: key.into() }),
        key().prop_map(|key| KvCommand::GetVersioned { key: key.into() }),
        (key(), any::<i64>(), ttl).prop_map(|(key, value, ttl)| KvCommand::Put {
            key: key.into(),
            value: value.into(),
            ttl
        }),
        key().prop_map(|key| KvCommand::Delete { key: key.into() }),
        (key(), prop::option::of(Just(Version::ZERO)), any::<i64>()).prop_map(|(key, expected, value)| {
            KvCommand::CompareAndPut { key: key.into(), expected, value: value.into() }
        }),
        (bound(), bound(), bound(), bound(), any::<bool>(), 0..7_usize).prop_map(
            |(prefix, start, end, after, reverse, limit)| {
                KvCommand::Scan(Box::new(KvScan { prefix, start, end, after, reverse, limit }))
            }
        ),
    ]
}

fn any_state() -> impl Strategy<Value = StateCommand> {
    let name = || prop::sample::select(vec!["x", "y"]);
    let value = || prop_oneof![any::<i64>().prop_map(Value::from), Just(Value::from("text"))];
    prop_oneof![
        (name(), value()).prop_map(|(name, value)| StateCommand::Init { name: name.into(), value }),
        name().prop_map(|name| StateCommand::Read { name: name.into() }),
        (name(), value()).prop_map(|(name, value)| StateCommand::Set { name: name.into(), value }),
        (name(), 0..5_u64, value()).prop_map(|(name, expected, value)| StateCommand::CompareAndSwap {
            name: name.into(),
            expected,
            value
        }),
        (name(), any::<i64>()).prop_map(|(name, by)| StateCommand::Increment { name: name.into(), by }),
        name().prop_map(|name| StateCommand::Delete { name: name.into() }),
        name().prop_map(|name| StateCommand::Exists { name: name.into() }),
        Just(StateCommand::List),
    ]
}

/// How a group of commands runs.
#[derive(Clone, Copy, Debug)]
enum Group {
    Apart,
    Committed,
    Dropped,
}

/// A compare-and-put that expects something expects the version there is.
fn expecting_what_is_there(mut command: Command, model: &Model, moment: Moment) -> Command {
    if let Command::Kv(KvCommand::CompareAndPut { key, expected: Some(expected), .. }) = &mut command
        && let Some(pair) = model.pair(key.as_str(), moment)
    {
        *expected = Version::from(pair.version.unwrap_or(moment.snapshot));
    }
    command
}

#[track_caller]
fn assert_alike(command: &Command, real: crate::base::error::Result<Output>, model: Result<Output, &str>) {
    match (real, model) {
        (Ok(real), Ok(model)) => assert_eq!(real, model, "{command:?}"),
        (Err(real), Err(model)) => assert!(real.to_string().starts_with(model), "{command:?}: {real} {model}"),
        (real, model) => panic!("{command:?}: {real:?} {model:?}"),
    }
}

fn run_apart(harness: &mut Harness, model: &mut Model, commands: Vec<Command>) {
    for command in commands {
        let now = harness.now + 1_000;
        let moment = Moment { snapshot: now, now };
        let command = expecting_what_is_there(command, model, moment);
        let expected = model.run(&command, moment);
        model.commit(now);
        assert_alike(&command, harness.run(command.clone()), expected);
    }
}

fn run_together(harness: &mut Harness, model: &mut Model, commands: Vec<Command>, commits: bool) {
    let mut own = model.clone();
    let mut part = harness.begin();
    for command in commands {
        let moment = Moment { snapshot: part.snapshot.get(), now: harness.now + 1_000 };
        let command = expecting_what_is_there(command, &own, moment);
        let expected = own.run(&command, moment);
        assert_alike(&command, harness.step(&mut part, command.clone()), expected);
    }
    if !commits {
        return;
    }
    match harness.commit(part) {
        Ok(()) => {
            own.commit(harness.now);
            *model = own;
        }
        // Nobody else writes: all that can have changed is that time went on.
        Err(conflict) => assert!(conflict.key.contains("expired"), "{conflict}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn pairs_and_cells_answer_as_the_model_does(
        groups in prop::collection::vec(
            (
                prop::sample::select(vec![Group::Apart, Group::Committed, Group::Dropped]),
                prop::collection::vec(any_command(), 0..10),
            ),
            0..12,
        )
    ) {
        let mut harness = Harness::new();
        let mut model = Model::default();
        for (group, commands) in groups {
            match group {
                Group::Apart => run_apart(&mut harness, &mut model, commands),
                Group::Committed => run_together(&mut harness, &mut model, commands, true),
                Group::Dropped => run_together(&mut harness, &mut model, commands, false),
            }
        }
        let now = harness.version();
        prop_assert_eq!(harness.recovered().dump(now), harness.memory.dump(now));
    }
}
