//! Spread: commands on several keys of a run whose keys are on several shards.
//!
//! - Such a command becomes one command for each shard that owns any of the keys, all in one transaction: they read one
//!   snapshot and commit together.
//! - The answers are put together in the order a single shard would have given.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;

use super::transacting::{Bounds, Transacting, until_it_wins};
use crate::base::error::Result;
use crate::base::key::{Name, Space};
use crate::base::options::Partitioning;
use crate::base::run_id::RunId;
use crate::primitive::command::{Command, JsonCommand, KvCommand, StateCommand};
use crate::primitive::output::{Output, Reply};
use crate::runtime::engine::Engine;

/// A command in pieces.
pub(crate) struct Spread {
    pieces: Vec<Piece>,
    merge: Merge,
    is_read: bool,
}

struct Piece {
    shard: usize,
    command: Command,
    /// Which of the keys asked for these are.
    places: Vec<usize>,
}

/// How answers are put together.
#[derive(Clone, Copy)]
enum Merge {
    Unit,
    Sum,
    /// Values in the order of the keys asked for.
    Places,
    Texts,
    Pairs {
        reverse: bool,
        limit: usize,
    },
}

/// The pieces of a command, if it may concern several shards.
pub(crate) fn spread(engine: &Engine, run: RunId, command: &Command) -> Option<Spread> {
    let layout = engine.setup().layout;
    if layout.partitioning == Partitioning::ByRun {
        return None;
    }
    let everywhere = |merge: Merge| {
        let piece = |shard| Piece { shard, command: command.clone(), places: Vec::new() };
        Some(Spread { pieces: (0..layout.shards).map(piece).collect(), merge, is_read: true })
    };
    let shard_of = |key: &Name| layout.shard_of_key(&run, Space::Kv, key.as_bytes());
    match command {
        Command::Kv(KvCommand::GetMany { keys }) => {
            let pieces = by_shard(keys.iter().cloned(), shard_of, |keys| KvCommand::GetMany { keys });
            Some(Spread { pieces, merge: Merge::Places, is_read: true })
        }
        Command::Kv(KvCommand::DeleteMany { keys }) => {
            let pieces = by_shard(keys.iter().cloned(), shard_of, |keys| KvCommand::DeleteMany { keys });
            Some(Spread { pieces, merge: Merge::Sum, is_read: false })
        }
        Command::Kv(KvCommand::PutMany { pairs }) => {
            let of_pair = |(key, _): &(Name, _)| shard_of(key);
            let pieces = by_shard(pairs.iter().cloned(), of_pair, |pairs| KvCommand::PutMany { pairs });
            Some(Spread { pieces, merge: Merge::Unit, is_read: false })
        }
        Command::Kv(KvCommand::List { .. })
        | Command::State(StateCommand::List)
        | Command::Json(JsonCommand::List { .. }) => everywhere(Merge::Texts),
        Command::Kv(KvCommand::ListWithValues { .. }) => everywhere(Merge::Pairs { reverse: false, limit: usize::MAX }),
        Command::Kv(KvCommand::Scan(scan)) => everywhere(Merge::Pairs { reverse: scan.reverse, limit: scan.limit }),
        Command::Kv(KvCommand::Count { .. }) => everywhere(Merge::Sum),
        _ => None,
    }
}

fn by_shard<T>(
    items: impl Iterator<Item = T>,
    shard_of: impl Fn(&T) -> usize,
    command: impl Fn(Vec<T>) -> KvCommand,
) -> Vec<Piece> {
    let mut groups: BTreeMap<usize, (Vec<T>, Vec<usize>)> = BTreeMap::new();
    for (place, item) in items.enumerate() {
        let (group, places) = groups.entry(shard_of(&item)).or_default();
        group.push(item);
        places.push(place);
    }
    let piece = |(shard, (items, places))| Piece { shard, command: Command::Kv(command(items)), places };
    groups.into_iter().map(piece).collect()
}

impl Spread {
    /// Runs the pieces, in a transaction that is under way or in one of their own.
    ///
    /// # Errors
    /// Those of the command; `TransactionConflict` if a transaction of its own lost too often.
    pub(crate) async fn run(self, engine: Arc<Engine>, run: RunId, within: Option<Arc<Transacting>>) -> Result<Reply> {
        if let Some(transacting) = within {
            return self.run_in(&transacting, run).await;
        }
        if self.is_read {
            return self.run_in(&Transacting::new(engine), run).await;
        }
        until_it_wins(engine, Bounds::default(), async |transacting| self.run_in(&transacting, run).await).await
    }

    async fn run_in(&self, transacting: &Transacting, run: RunId) -> Result<Reply> {
        if let Some(first) = self.pieces.first() {
            transacting.begin(first.shard, None).await?;
        }
        let calls = self.pieces.iter().map(|piece| transacting.step_on(piece.shard, run, piece.command.clone()));
        let replies = try_join_all(calls).await?;
        Ok(Reply::read(self.merged(replies.into_iter().map(|reply| reply.output).collect())))
    }

    fn merged(&self, outputs: Vec<Output>) -> Output {
        match self.merge {
            Merge::Unit => Output::Unit,
            Merge::Sum => Output::Count(outputs.into_iter().map(count_of).sum()),
            Merge::Places => {
                let total = self.pieces.iter().map(|piece| piece.places.len()).sum();
                let mut values = vec![None; total];
                for (piece, output) in self.pieces.iter().zip(outputs) {
                    let Output::Values(found) = output else { unreachable!("a shard answered another question") };
                    for (place, value) in piece.places.iter().zip(found) {
                        values[*place] = value;
                    }
                }
                Output::Values(values)
            }
            Merge::Texts => {
                let mut texts: Vec<String> = outputs.into_iter().flat_map(texts_of).collect();
                texts.sort_unstable();
                Output::Texts(texts)
            }
            Merge::Pairs { reverse, limit } => {
                let mut pairs: Vec<_> = outputs.into_iter().flat_map(pairs_of).collect();
                pairs.sort_unstable_by(|(a, _), (b, _)| if reverse { b.cmp(a) } else { a.cmp(b) });
                pairs.truncate(limit);
                Output::Pairs(pairs)
            }
        }
    }
}

fn count_of(output: Output) -> u64 {
    match output {
        Output::Count(count) => count,
        other => unreachable!("the shard answered another question: {other:?}"),
    }
}

fn texts_of(output: Output) -> Vec<String> {
    match output {
        Output::Texts(texts) => texts,
        other => unreachable!("the shard answered another question: {other:?}"),
    }
}

fn pairs_of(output: Output) -> Vec<(String, crate::base::value::Value)> {
    match output {
        Output::Pairs(pairs) => pairs,
        other => unreachable!("the shard answered another question: {other:?}"),
    }
}
