//! The stage: where the keys of a story are, and transactions over them that are driven by hand.
//!
//! - On two shards, `x` and `z` are on one, `y` and `w` on the other.
//! - A transaction in one run is an `OpenTransaction`. One across runs is a closure that gives its handle away, waits,
//!   and is not called a second time.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::channel::oneshot;
use in_mem::Partitioning;
use in_mem::prelude::*;
use tokio::task::JoinHandle;

use super::story::{Actor, Pairs, Step};
use crate::support::placement::{key_on, run_on};
use crate::support::{MODES, directory, on_tokio};

const SHARDS: usize = 2;
/// The keys of stories, and which of the two shards they are on if they are not all on one.
const KEYS: [(&str, usize); 4] = [("w", 1), ("x", 0), ("y", 1), ("z", 0)];
/// What every story begins with.
const BEFORE: Pairs = &[("x", 10), ("y", 20)];

/// Where the keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In one run.
    OneRun,
    /// In two runs on one shard.
    RunsOnOneShard,
    /// In two runs on two shards.
    RunsOnTwoShards,
    /// In one run whose keys are spread over two shards.
    KeysOnTwoShards,
}

impl Place {
    const fn partitioning(self) -> Partitioning {
        match self {
            Self::OneRun | Self::RunsOnOneShard | Self::RunsOnTwoShards => Partitioning::ByRun,
            Self::KeysOnTwoShards => Partitioning::ByKey,
        }
    }
}

/// Plays a story everywhere: on one shard and on two, in every mode.
pub(crate) fn play(story: &[Step]) {
    on_tokio(async {
        for mode in MODES {
            for places in
                [&[Place::OneRun, Place::RunsOnOneShard, Place::RunsOnTwoShards][..], &[Place::KeysOnTwoShards]]
            {
                let directory = directory();
                let builder = Database::builder().path(directory.path()).durability(mode).shards(SHARDS);
                let database = builder.partitioning(places[0].partitioning()).open().await.unwrap();
                for &place in places {
                    let mut stage = Stage::new(&database, place).await;
                    for (number, &step) in story.iter().enumerate() {
                        let at = format!("mode={mode:?} place={place:?} step={number} {step:?}");
                        stage.take(step, &at).await;
                    }
                }
                database.close().await.unwrap();
            }
        }
    });
}

struct Stage {
    database: Database,
    runs: Vec<RunId>,
    /// The run and the name of each key.
    keys: BTreeMap<&'static str, (RunId, String)>,
    sessions: BTreeMap<Actor, Session>,
}

impl Stage {
    async fn new(database: &Database, place: Place) -> Self {
        let homes = if place == Place::RunsOnTwoShards { [0, 1] } else { [0, 0] };
        let mut runs: Vec<RunId> = homes.into_iter().map(|home| run_on(home, SHARDS)).collect();
        if matches!(place, Place::OneRun | Place::KeysOnTwoShards) {
            runs.truncate(1);
        }
        let locate = |(key, shard): (&'static str, usize)| match place {
            Place::OneRun => (key, (runs[0], key.to_owned())),
            Place::RunsOnOneShard | Place::RunsOnTwoShards => (key, (runs[shard], key.to_owned())),
            Place::KeysOnTwoShards => (key, (runs[0], key_on(runs[0], key, shard, SHARDS))),
        };
        let keys = KEYS.into_iter().map(locate).collect();
        let stage = Self { database: database.clone(), runs, keys, sessions: BTreeMap::new() };
        for (key, value) in BEFORE {
            let (run, name) = &stage.keys[key];
            database.kv().put(run, name, *value).await.unwrap();
        }
        stage
    }

    async fn take(&mut self, step: Step, at: &str) {
        match step {
            Step::Reads(actor, key, value) => {
                let (run, name) = self.keys[key].clone();
                let found = self.session(actor).await.kv(run).get(name).await.unwrap();
                assert_eq!(found, value.map(Value::from), "{at}");
            }
            Step::Writes(actor, key, value) => {
                let (run, name) = self.keys[key].clone();
                let kv = self.session(actor).await.kv(run);
                match value {
                    Some(value) => kv.put(name, value).await.unwrap(),
                    None => assert!(kv.delete(name).await.unwrap(), "{at}"),
                }
            }
            Step::Finds(actor, pairs) => self.find(actor, pairs, at).await,
            Step::Commits(actor) => assert!(self.end(actor).await.commit().await, "{at}"),
            Step::Loses(actor) => assert!(!self.end(actor).await.commit().await, "{at}"),
            Step::Aborts(actor) => self.end(actor).await.abort().await,
            Step::Race(one, other) => {
                let (one, other) = (self.end(one).await, self.end(other).await);
                let (one, other) = tokio::join!(tokio::spawn(one.commit()), tokio::spawn(other.commit()));
                assert!(!(one.unwrap() && other.unwrap()), "both won: {at}");
            }
            Step::Leaves(pairs) => {
                let everybody = Actor::of_the_audience();
                self.find(everybody, pairs, at).await;
                assert!(self.end(everybody).await.commit().await, "{at}");
            }
        }
    }

    /// Scans, lists and counts all pairs.
    async fn find(&mut self, actor: Actor, pairs: Pairs, at: &str) {
        let (mut scanned, mut listed, mut counted) = (Vec::new(), Vec::new(), 0);
        for run in self.runs.clone() {
            let kv = self.session(actor).await.kv(run);
            scanned.extend(kv.scan(ScanOptions::default()).map(Result::unwrap).collect::<Vec<_>>().await);
            listed.extend(kv.list_with_values(None).await.unwrap());
            counted += kv.count(None).await.unwrap();
        }
        scanned.sort_by(|(a, _), (b, _)| a.cmp(b));
        listed.sort_by(|(a, _), (b, _)| a.cmp(b));
        let pair = |(key, value): &(&'static str, i64)| (self.keys[key].1.clone(), Value::from(*value));
        let expected: Vec<_> = pairs.iter().map(pair).collect();
        assert_eq!(scanned, expected, "{at}");
        assert_eq!((listed, counted), (expected, pairs.len() as u64), "{at}");
    }

    /// The transaction of an actor, begun if it has none.
    async fn session(&mut self, actor: Actor) -> &Session {
        if !self.sessions.contains_key(&actor) {
            let session = match self.runs[..] {
                [run] => Session::Open(self.database.begin_transaction(run).await.unwrap()),
                _ => Session::across(&self.database, self.runs.clone()).await,
            };
            self.sessions.insert(actor, session);
        }
        &self.sessions[&actor]
    }

    /// The transaction of an actor, to be ended.
    async fn end(&mut self, actor: Actor) -> Session {
        self.session(actor).await;
        self.sessions.remove(&actor).unwrap()
    }
}

/// A transaction that is driven by hand.
enum Session {
    Open(OpenTransaction),
    Across { transaction: MultiTransaction, end: oneshot::Sender<()>, ended: JoinHandle<Result<()>> },
}

impl Session {
    async fn across(database: &Database, runs: Vec<RunId>) -> Self {
        let (give, given) = oneshot::channel();
        let (end, wait) = oneshot::channel();
        let mut once = Some((give, wait));
        let options = TransactionOptions { max_retries: 0, ..TransactionOptions::default() };
        let ended = database.transaction_across_with(runs, options, move |transaction| {
            let (give, wait) = once.take().expect("it is not tried again");
            async move {
                let _ = give.send(transaction);
                wait.await.map_err(Error::other)
            }
        });
        let ended = tokio::spawn(ended);
        Self::Across { transaction: given.await.unwrap(), end, ended }
    }

    fn kv(&self, run: RunId) -> RunKv {
        match self {
            Self::Open(transaction) => transaction.kv(),
            Self::Across { transaction, .. } => transaction.run(run).kv(),
        }
    }

    /// Whether it is committed.
    async fn commit(self) -> bool {
        match self {
            Self::Open(transaction) => match transaction.commit().await.unwrap() {
                CommitOutcome::Committed(_) => true,
                CommitOutcome::Conflicted(_) => false,
                other => panic!("another outcome: {other:?}"),
            },
            Self::Across { end, ended, .. } => {
                end.send(()).unwrap();
                match ended.await.unwrap() {
                    Ok(()) => true,
                    Err(Error::TransactionConflict(_)) => false,
                    Err(other) => panic!("another outcome: {other:?}"),
                }
            }
        }
    }

    async fn abort(self) {
        match self {
            Self::Open(transaction) => transaction.abort(),
            Self::Across { end, ended, .. } => {
                drop(end);
                assert!(matches!(ended.await.unwrap(), Err(Error::Other(_))));
            }
        }
    }
}
