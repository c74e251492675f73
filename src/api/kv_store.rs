//! Key-value pairs.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::database::Database;
use super::op::{Op, read};
use super::pages::{PAGE, Pages};
use super::scan::{Scan, ScanOptions};
use super::scope::Scope;
use super::transaction::Transaction;
use crate::base::error::{Error, Result};
use crate::base::key::Name;
use crate::base::limits::{TRANSACTION_OPERATIONS, check_key, check_value};
use crate::base::run_id::RunId;
use crate::base::value::Value;
use crate::base::version::{Version, Versioned};
use crate::primitive::command::{Command, KvCommand, KvScan};
use crate::primitive::output::Reply;

/// Key-value pairs of every run. Guarantee: a read sees the latest write that was acknowledged before it began.
///
/// ```
/// use in_mem::prelude::*;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let db = Database::open_in_memory().await?;
/// let (kv, run) = (KVStore::new(&db), db.begin_run().await);
/// kv.put(&run, "plan/1", "read the log").await?;
/// kv.put_with_ttl(&run, "token", "secret", std::time::Duration::from_secs(60)).await?;
/// assert_eq!(kv.get(&run, "plan/1").await?, Some("read the log".into()));
/// assert_eq!(kv.list(&run, Some("plan/")).await?, ["plan/1"]);
///
/// // Only if nobody has written since.
/// let found = kv.get_versioned(&run, "plan/1").await?.map(|found| found.version);
/// kv.compare_and_put(&run, "plan/1", found, "fix the bug").await?;
/// assert!(kv.compare_and_put(&run, "plan/1", found, "too late").await.is_err());
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct KVStore {
    database: Database,
}

/// The key-value pairs of one run; in a transaction, as the transaction sees and changes them.
#[derive(Clone, Debug)]
pub struct RunKv {
    pub(super) scope: Scope,
}

/// The key-value pairs of one run within a transaction, as `KVStore::transaction` hands them out.
pub type KVTransaction = RunKv;

impl RunKv {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self { scope }
    }

    fn op<T: 'static>(&self, checked: Result<()>, command: KvCommand, read: fn(Reply) -> Result<T>) -> Op<T> {
        self.scope.op(checked, Command::Kv(command), read)
    }

    /// Reads a key; `None` if it holds nothing or has expired.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for the key, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get(&self, key: impl AsRef<str>) -> Op<Option<Value>> {
        let key = key.as_ref();
        self.op(check_key("key", key), KvCommand::Get { key: key.into() }, read!(Value(value) => value))
    }

    /// Reads a key as a `T`.
    ///
    /// # Errors
    /// `Serialization` if what it holds is no `T`; those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_as<T: DeserializeOwned + Send + 'static>(&self, key: impl AsRef<str>) -> Op<Option<T>> {
        self.get(key).then(|value| value.map(|value| value.decode()).transpose())
    }

    /// Reads a key with the version of the commit that wrote it. In a transaction, what the transaction wrote itself has
    /// the version of its snapshot.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_versioned(&self, key: impl AsRef<str>) -> Op<Option<Versioned<Value>>> {
        let key = key.as_ref();
        let command = KvCommand::GetVersioned { key: key.into() };
        self.op(check_key("key", key), command, read!(Versioned(value) => value.map(|value| *value)))
    }

    /// Reads every version of a key that is kept, oldest first; `None` is a delete or an expiry.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn history(&self, key: impl AsRef<str>) -> Op<Vec<Versioned<Option<Value>>>> {
        let key = key.as_ref();
        self.op(check_key("key", key), KvCommand::History { key: key.into() }, read!(History(history) => history))
    }

    /// Reads several keys at one snapshot, in the order asked for.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), for any of the keys.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_many<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> Op<Vec<Option<Value>>> {
        let (checked, keys) = check_keys(keys);
        self.op(checked, KvCommand::GetMany { keys }, read!(Values(values) => values))
    }

    /// Reads several keys at one snapshot; those that hold nothing are left out.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), for any of the keys.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_many_map<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> Op<HashMap<String, Value>> {
        let (checked, keys) = check_keys(keys);
        let names = keys.clone();
        let values = self.op(checked, KvCommand::GetMany { keys }, read!(Values(values) => values));
        values.then(move |values| {
            let pairs = names.into_iter().zip(values);
            Ok(pairs.filter_map(|(key, value)| Some((key.as_str().to_owned(), value?))).collect())
        })
    }

    /// Whether a key holds something.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn exists(&self, key: impl AsRef<str>) -> Op<bool> {
        let key = key.as_ref();
        self.op(check_key("key", key), KvCommand::Exists { key: key.into() }, read!(Flag(exists) => exists))
    }

    /// Writes a key. Never conflicts.
    ///
    /// # Errors
    /// `InvalidOperation` for an empty key or an ended run, `LimitExceeded`, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn put(&self, key: impl AsRef<str>, value: impl Into<Value>) -> Op<()> {
        self.write(key.as_ref(), value.into(), None)
    }

    /// Writes a key that holds the value for so long and then nothing.
    ///
    /// # Errors
    /// Those of [`put`](Self::put).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn put_with_ttl(&self, key: impl AsRef<str>, value: impl Into<Value>, ttl: Duration) -> Op<()> {
        self.write(key.as_ref(), value.into(), Some(ttl))
    }

    /// Writes a `T` under a key.
    ///
    /// # Errors
    /// `Serialization` if it cannot be encoded; those of [`put`](Self::put).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn put_as<T: Serialize>(&self, key: impl AsRef<str>, value: &T) -> Op<()> {
        match Value::encode(value) {
            Ok(value) => self.write(key.as_ref(), value, None),
            Err(error) => Op::done(Err(error)),
        }
    }

    fn write(&self, key: &str, value: Value, ttl: Option<Duration>) -> Op<()> {
        let checked = check_key("key", key).and_then(|()| check_value(&value));
        self.op(checked, KvCommand::Put { key: key.into(), value, ttl }, read!(Unit => ()))
    }

    /// Writes several keys in one commit.
    ///
    /// # Errors
    /// Those of [`put`](Self::put), for any of the pairs.
    ///
    /// # Cancel safety
    /// All written or none.
    pub fn put_many<K: AsRef<str>, V: Into<Value>>(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Op<()> {
        let mut checked = Ok(());
        let mut all: Vec<(Name, Value)> = Vec::new();
        for (key, value) in pairs {
            let (key, value) = (key.as_ref(), value.into());
            checked = checked.and_then(|()| check_key("key", key)).and_then(|()| check_value(&value));
            all.push((key.into(), value));
        }
        let checked = checked.and_then(|()| check_count(all.len()));
        self.op(checked, KvCommand::PutMany { pairs: all }, read!(Unit => ()))
    }

    /// Deletes a key. Returns whether it held something.
    ///
    /// # Errors
    /// Those of [`put`](Self::put).
    ///
    /// # Cancel safety
    /// Deleted or not, never half.
    pub fn delete(&self, key: impl AsRef<str>) -> Op<bool> {
        let key = key.as_ref();
        self.op(check_key("key", key), KvCommand::Delete { key: key.into() }, read!(Flag(deleted) => deleted))
    }

    /// Deletes several keys in one commit. Returns how many held something.
    ///
    /// # Errors
    /// Those of [`put`](Self::put), for any of the keys.
    ///
    /// # Cancel safety
    /// All deleted or none.
    pub fn delete_many<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> Op<u64> {
        let (checked, keys) = check_keys(keys);
        self.op(checked, KvCommand::DeleteMany { keys }, read!(Count(count) => count))
    }

    /// Writes a key if it holds what was written at this version; with `None`, if it holds nothing. Returns the new
    /// version. In a transaction the version is not known before the commit: 0 is returned.
    ///
    /// # Errors
    /// `VersionMismatch` if it holds something else; those of [`put`](Self::put).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn compare_and_put(
        &self,
        key: impl AsRef<str>,
        expected: Option<Version>,
        value: impl Into<Value>,
    ) -> Op<Version> {
        let (key, value) = (key.as_ref(), value.into());
        let checked = check_key("key", key).and_then(|()| check_value(&value));
        let command = KvCommand::CompareAndPut { key: key.into(), expected, value };
        self.op(checked, command, |reply| Ok(reply.version.unwrap_or_default()))
    }

    /// Lists the keys that start with a prefix, in ascending order.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list(&self, prefix: Option<&str>) -> Op<Vec<String>> {
        self.op(Ok(()), KvCommand::List { prefix: prefix.map(Into::into) }, read!(Texts(keys) => keys))
    }

    /// Lists the pairs whose keys start with a prefix, in ascending order.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list_with_values(&self, prefix: Option<&str>) -> Op<Vec<(String, Value)>> {
        self.op(Ok(()), KvCommand::ListWithValues { prefix: prefix.map(Into::into) }, read!(Pairs(pairs) => pairs))
    }

    /// Counts the keys that start with a prefix.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn count(&self, prefix: Option<&str>) -> Op<u64> {
        self.op(Ok(()), KvCommand::Count { prefix: prefix.map(Into::into) }, read!(Count(count) => count))
    }

    /// Streams pairs in order, all at one snapshot, fetched page by page.
    ///
    /// # Errors
    /// The stream gives an error and ends if the shard becomes unavailable.
    ///
    /// # Cancel safety
    /// Reads only; dropping the stream releases its snapshot.
    pub fn scan(&self, options: ScanOptions) -> Scan {
        let cursor = options.cursor.clone();
        let mut left = options.limit.unwrap_or(usize::MAX);
        let total = left;
        let reader = Self::new(self.scope.at_one_snapshot());
        let kv = reader.clone();
        let pages = Pages::new(reader.scope, move |last: Option<&(String, Value)>| {
            let after = last.map(|(key, _)| key.clone()).or_else(|| options.cursor.clone());
            let limit = left.min(PAGE);
            left -= limit;
            let ScanOptions { prefix, start, end, reverse, .. } = options.clone();
            let command = KvCommand::Scan(Box::new(KvScan { prefix, start, end, after, reverse, limit }));
            kv.op(Ok(()), command, read!(Pairs(pairs) => pairs))
        });
        Scan::new(pages, cursor, total)
    }
}

fn check_keys<K: AsRef<str>>(keys: impl IntoIterator<Item = K>) -> (Result<()>, Vec<Name>) {
    let mut checked = Ok(());
    let mut all = Vec::new();
    for key in keys {
        checked = checked.and_then(|()| check_key("key", key.as_ref()));
        all.push(Name::from(key.as_ref()));
    }
    (checked.and_then(|()| check_count(all.len())), all)
}

/// Checks how much is asked for in one operation.
pub(crate) fn check_count(count: usize) -> Result<()> {
    if count > TRANSACTION_OPERATIONS {
        return Err(Error::limit("items in one operation", TRANSACTION_OPERATIONS, count));
    }
    Ok(())
}

impl KVStore {
    /// The key-value pairs of a database.
    pub fn new(database: impl Into<Database>) -> Self {
        Self { database: database.into() }
    }

    pub(crate) const fn database(&self) -> &Database {
        &self.database
    }

    pub(super) fn of(&self, run: impl Borrow<RunId>) -> RunKv {
        RunKv::new(Scope::of_run(self.database.engine(), run))
    }

    /// See [`RunKv::get`].
    ///
    /// # Errors
    /// Those of [`RunKv::get`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get(&self, run: impl Borrow<RunId>, key: impl AsRef<str>) -> Op<Option<Value>> {
        self.of(run).get(key)
    }

    /// See [`RunKv::get_as`].
    ///
    /// # Errors
    /// Those of [`RunKv::get_as`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_as<T: DeserializeOwned + Send + 'static>(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
    ) -> Op<Option<T>> {
        self.of(run).get_as(key)
    }

    /// See [`RunKv::get_versioned`].
    ///
    /// # Errors
    /// Those of [`RunKv::get_versioned`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_versioned(&self, run: impl Borrow<RunId>, key: impl AsRef<str>) -> Op<Option<Versioned<Value>>> {
        self.of(run).get_versioned(key)
    }

    /// See [`RunKv::history`].
    ///
    /// # Errors
    /// Those of [`RunKv::history`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn history(&self, run: impl Borrow<RunId>, key: impl AsRef<str>) -> Op<Vec<Versioned<Option<Value>>>> {
        self.of(run).history(key)
    }

    /// See [`RunKv::get_many`].
    ///
    /// # Errors
    /// Those of [`RunKv::get_many`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_many<K: AsRef<str>>(
        &self,
        run: impl Borrow<RunId>,
        keys: impl IntoIterator<Item = K>,
    ) -> Op<Vec<Option<Value>>> {
        self.of(run).get_many(keys)
    }

    /// See [`RunKv::get_many_map`].
    ///
    /// # Errors
    /// Those of [`RunKv::get_many_map`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_many_map<K: AsRef<str>>(
        &self,
        run: impl Borrow<RunId>,
        keys: impl IntoIterator<Item = K>,
    ) -> Op<HashMap<String, Value>> {
        self.of(run).get_many_map(keys)
    }

    /// See [`RunKv::exists`].
    ///
    /// # Errors
    /// Those of [`RunKv::exists`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn exists(&self, run: impl Borrow<RunId>, key: impl AsRef<str>) -> Op<bool> {
        self.of(run).exists(key)
    }

    /// See [`RunKv::put`].
    ///
    /// # Errors
    /// Those of [`RunKv::put`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn put(&self, run: impl Borrow<RunId>, key: impl AsRef<str>, value: impl Into<Value>) -> Op<()> {
        self.of(run).put(key, value)
    }

    /// See [`RunKv::put_with_ttl`].
    ///
    /// # Errors
    /// Those of [`RunKv::put_with_ttl`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn put_with_ttl(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        value: impl Into<Value>,
        ttl: Duration,
    ) -> Op<()> {
        self.of(run).put_with_ttl(key, value, ttl)
    }

    /// See [`RunKv::put_as`].
    ///
    /// # Errors
    /// Those of [`RunKv::put_as`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn put_as<T: Serialize>(&self, run: impl Borrow<RunId>, key: impl AsRef<str>, value: &T) -> Op<()> {
        self.of(run).put_as(key, value)
    }

    /// See [`RunKv::put_many`].
    ///
    /// # Errors
    /// Those of [`RunKv::put_many`].
    ///
    /// # Cancel safety
    /// All written or none.
    pub fn put_many<K: AsRef<str>, V: Into<Value>>(
        &self,
        run: impl Borrow<RunId>,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Op<()> {
        self.of(run).put_many(pairs)
    }

    /// See [`RunKv::delete`].
    ///
    /// # Errors
    /// Those of [`RunKv::delete`].
    ///
    /// # Cancel safety
    /// Deleted or not, never half.
    pub fn delete(&self, run: impl Borrow<RunId>, key: impl AsRef<str>) -> Op<bool> {
        self.of(run).delete(key)
    }

    /// See [`RunKv::delete_many`].
    ///
    /// # Errors
    /// Those of [`RunKv::delete_many`].
    ///
    /// # Cancel safety
    /// All deleted or none.
    pub fn delete_many<K: AsRef<str>>(&self, run: impl Borrow<RunId>, keys: impl IntoIterator<Item = K>) -> Op<u64> {
        self.of(run).delete_many(keys)
    }

    /// See [`RunKv::compare_and_put`].
    ///
    /// # Errors
    /// Those of [`RunKv::compare_and_put`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn compare_and_put(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        expected: Option<Version>,
        value: impl Into<Value>,
    ) -> Op<Version> {
        self.of(run).compare_and_put(key, expected, value)
    }

    /// See [`RunKv::list`].
    ///
    /// # Errors
    /// Those of [`RunKv::list`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list(&self, run: impl Borrow<RunId>, prefix: Option<&str>) -> Op<Vec<String>> {
        self.of(run).list(prefix)
    }

    /// See [`RunKv::list_with_values`].
    ///
    /// # Errors
    /// Those of [`RunKv::list_with_values`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list_with_values(&self, run: impl Borrow<RunId>, prefix: Option<&str>) -> Op<Vec<(String, Value)>> {
        self.of(run).list_with_values(prefix)
    }

    /// See [`RunKv::count`].
    ///
    /// # Errors
    /// Those of [`RunKv::count`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn count(&self, run: impl Borrow<RunId>, prefix: Option<&str>) -> Op<u64> {
        self.of(run).count(prefix)
    }

    /// See [`RunKv::scan`].
    ///
    /// # Errors
    /// Those of [`RunKv::scan`].
    ///
    /// # Cancel safety
    /// Reads only; dropping the stream releases its snapshot.
    pub fn scan(&self, run: impl Borrow<RunId>, options: ScanOptions) -> Scan {
        self.of(run).scan(options)
    }

    /// Runs a transaction that uses key-value pairs only. See [`Database::transaction`].
    ///
    /// # Errors
    /// Those of [`Database::transaction`].
    ///
    /// # Cancel safety
    /// Committed or not, never half.
    pub fn transaction<'f, T, F, Fut>(&self, run: impl Borrow<RunId>, mut f: F) -> BoxFuture<'f, Result<T>>
    where
        F: FnMut(KVTransaction) -> Fut + Send + 'f,
        Fut: Future<Output = Result<T>> + Send + 'f,
        T: Send + 'f,
    {
        self.database.transaction(run, move |transaction: Transaction| f(transaction.kv()))
    }
}
