//! JSON documents.

use std::borrow::Borrow;

use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde::de::DeserializeOwned;
use serde_json_path::{JsonPath, ParseError};

use super::database::Database;
use super::kv_store::check_count;
use super::op::{Op, read};
use super::scope::Scope;
use crate::base::error::{Error, Result};
use crate::base::json::Json;
use crate::base::json::path::Path;
use crate::base::limits::{check_json_bytes, check_json_query, check_key};
use crate::base::run_id::RunId;
use crate::base::version::Version;
use crate::primitive::command::{Command, JsonCommand, JsonOperation};
use crate::primitive::output::Reply;

/// The JSON documents of every run. Guarantee: of two transactions at the same time, one fails if what they read and write
/// overlaps and one of them writes there: the same place, or one inside the other. Siblings do not overlap.
///
/// # Paths
///
/// The empty path is the whole document. A path that starts with `/` is a JSON Pointer (RFC 6901): `/a/b/2`, with `~1` for
/// a slash in a key and `~0` for a tilde. Any other path is dotted: keys separated by dots, indexes in brackets, `a.b[2]`;
/// a key that is empty or contains a dot or a bracket needs the pointer. Items of arrays are counted from 0.
///
/// # Documents
///
/// The members of objects keep their order. Numbers are 64-bit integers or floats, exactly as `serde_json` reads them.
///
/// ```
/// use in_mem::prelude::*;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let db = Database::open_in_memory().await?;
/// use in_mem::serde_json::json;
///
/// let (documents, run) = (JsonStore::new(&db), db.begin_run().await);
/// documents.create(&run, "plan", json!({ "steps": ["read"], "done": false })).await?;
/// documents.array_push(&run, "plan", "steps", json!("fix")).await?;
/// documents.set(&run, "plan", "/done", json!(true)).await?;
/// assert_eq!(documents.get(&run, "plan", "steps[1]").await?, Some(json!("fix")));
/// assert_eq!(documents.query(&run, "plan", "$.steps[*]").await?, [json!("read"), json!("fix")]);
/// # Ok::<(), Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct JsonStore {
    database: Database,
}

/// The JSON documents of one run; in a transaction, as the transaction sees and changes them. [`JsonStore`] says what paths
/// look like.
#[derive(Clone, Debug)]
pub struct RunJson {
    pub(super) scope: Scope,
}

impl RunJson {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self { scope }
    }

    /// One command of arguments that were checked at the door.
    fn op<A, T: 'static>(
        &self,
        arguments: Result<A>,
        command: impl FnOnce(A) -> JsonCommand,
        read: fn(Reply) -> Result<T>,
    ) -> Op<T> {
        match arguments {
            Ok(arguments) => self.scope.op(Ok(()), Command::Json(command(arguments)), read),
            Err(error) => Op::done(Err(error)),
        }
    }

    fn write<A>(&self, arguments: Result<A>, command: impl FnOnce(A) -> JsonCommand) -> Op<Version> {
        self.op(arguments, command, |reply| Ok(reply.version.unwrap_or_default()))
    }

    /// Makes a document. Returns the version of the commit.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one; those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn create(&self, key: impl AsRef<str>, document: impl Into<serde_json::Value>) -> Op<Version> {
        let arguments = check_key("key", key.as_ref()).and_then(|()| checked(document.into()));
        self.write(arguments, |document| JsonCommand::Create { key: key.as_ref().into(), document })
    }

    /// Reads what is at a path; `None` if there is nothing, or no document.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for the key or the path, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get(&self, key: impl AsRef<str>, path: impl AsRef<str>) -> Op<Option<serde_json::Value>> {
        let arguments = place(key.as_ref(), path.as_ref());
        let read = read!(Json(found) => found.map(|found| found.to_value()));
        self.op(arguments, |path| JsonCommand::Get { key: key.as_ref().into(), path }, read)
    }

    /// Reads what is at a path as a `T`.
    ///
    /// # Errors
    /// `Serialization` if what is there is no `T`; those of [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_as<T: DeserializeOwned + Send + 'static>(
        &self,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
    ) -> Op<Option<T>> {
        self.get(key, path).then(|found| Ok(found.map(serde_json::from_value).transpose()?))
    }

    /// Writes what is at a path: a member of an object, whether or not there is one, an item of an array that is there, or the
    /// whole document, whether or not there is one. Returns the version of the commit; in a transaction it is not known
    /// before the commit, and 0 is returned. A call of its own never conflicts.
    ///
    /// # Errors
    /// `KeyNotFound` if there is nothing that it could be in; `InvalidOperation` for the key, the path or an ended run,
    /// `LimitExceeded`, `Unavailable`, `CommitUnknown`.
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn set(&self, key: impl AsRef<str>, path: impl AsRef<str>, value: impl Into<serde_json::Value>) -> Op<Version> {
        let arguments = place(key.as_ref(), path.as_ref()).and_then(|path| Ok((path, checked(value.into())?)));
        self.write(arguments, |(path, value)| JsonCommand::Set { key: key.as_ref().into(), path, value })
    }

    /// Deletes what is at a path; the items behind that of an array move up. The empty path is the whole document. Returns
    /// whether there was something.
    ///
    /// # Errors
    /// Those of [`set`](Self::set), except `KeyNotFound`.
    ///
    /// # Cancel safety
    /// Deleted or not, never half.
    pub fn delete_at(&self, key: impl AsRef<str>, path: impl AsRef<str>) -> Op<bool> {
        let arguments = place(key.as_ref(), path.as_ref());
        let command = |path| JsonCommand::DeleteAt { key: key.as_ref().into(), path };
        self.op(arguments, command, read!(Flag(deleted) => deleted))
    }

    /// Deletes a document. Returns whether there was one.
    ///
    /// # Errors
    /// Those of [`delete_at`](Self::delete_at).
    ///
    /// # Cancel safety
    /// Deleted or not, never half.
    pub fn delete(&self, key: impl AsRef<str>) -> Op<bool> {
        let key = key.as_ref();
        let command = |()| JsonCommand::Delete { key: key.into() };
        self.op(check_key("key", key), command, read!(Flag(deleted) => deleted))
    }

    /// Whether there is a document.
    ///
    /// # Errors
    /// `InvalidOperation` or `LimitExceeded` for the key, `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn exists(&self, key: impl AsRef<str>) -> Op<bool> {
        let key = key.as_ref();
        let command = |()| JsonCommand::Exists { key: key.into() };
        self.op(check_key("key", key), command, read!(Flag(exists) => exists))
    }

    /// Reads the version of the commit that changed a document last; `None` if there is none. In a transaction, a document
    /// that the transaction wrote itself has the version of its snapshot.
    ///
    /// # Errors
    /// Those of [`exists`](Self::exists).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn version(&self, key: impl AsRef<str>) -> Op<Option<Version>> {
        let key = key.as_ref();
        let command = |()| JsonCommand::Version { key: key.into() };
        self.op(check_key("key", key), command, read!(Version(version) => version))
    }

    /// Writes what is at a path, as [`set`](Self::set) does, if the document has this version. Returns the new version.
    ///
    /// # Errors
    /// `VersionMismatch` if it has another, or there is none; those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn cas(
        &self,
        key: impl AsRef<str>,
        expected: Version,
        path: impl AsRef<str>,
        value: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        let arguments = place(key.as_ref(), path.as_ref()).and_then(|path| Ok((path, checked(value.into())?)));
        let key = key.as_ref();
        self.write(arguments, |(path, value)| JsonCommand::CompareAndSet { key: key.into(), expected, path, value })
    }

    /// Applies a JSON Patch (RFC 6902), all of it or nothing. Returns the version of the commit; 0 if there was nothing to
    /// change.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no document, or nothing where an operation needs something; `InvalidOperation` if a test
    /// fails; those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn patch(&self, key: impl AsRef<str>, patch: Patch) -> Op<Version> {
        let arguments = check_key("key", key.as_ref()).and_then(|()| operations_of(patch));
        self.write(arguments, |operations| JsonCommand::Patch { key: key.as_ref().into(), operations })
    }

    /// Applies a JSON Merge Patch (RFC 7396): members replace or join those that are there, null takes them away. Returns the
    /// version of the commit; 0 if there was nothing to change.
    ///
    /// # Errors
    /// `KeyNotFound` if there is no document; those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn merge(&self, key: impl AsRef<str>, patch: impl Into<serde_json::Value>) -> Op<Version> {
        let arguments = check_key("key", key.as_ref()).and_then(|()| checked(patch.into()));
        self.write(arguments, |patch| JsonCommand::Merge { key: key.as_ref().into(), patch })
    }

    /// Appends an item to the array at a path. Returns the version of the commit.
    ///
    /// # Errors
    /// `InvalidOperation` if there is something else; those of [`set`](Self::set).
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn array_push(
        &self,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
        value: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        let arguments = place(key.as_ref(), path.as_ref()).and_then(|path| Ok((path, checked(value.into())?)));
        self.write(arguments, |(path, value)| JsonCommand::Push { key: key.as_ref().into(), path, value })
    }

    /// Lists the keys of the documents that start with a prefix, in ascending order.
    ///
    /// # Errors
    /// `Unavailable`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list(&self, prefix: Option<&str>) -> Op<Vec<String>> {
        let command = |()| JsonCommand::List { prefix: prefix.map(Into::into) };
        self.op(Ok(()), command, read!(Texts(keys) => keys))
    }

    /// Reads what a `JSONPath` query (RFC 9535) selects of a document, in the order of the query; nothing if there is no
    /// document. In a transaction, it is a read of the whole document.
    ///
    /// # Errors
    /// `InvalidOperation` if it is no query, `LimitExceeded` if it is longer than 64 KiB, or brackets and parentheses are
    /// nested in it more than 10 deep; those of [`exists`](Self::exists).
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query(&self, key: impl AsRef<str>, query: impl AsRef<str>) -> Op<Vec<serde_json::Value>> {
        let (key, query) = (key.as_ref(), query.as_ref());
        let checked = check_key("key", key).and_then(|()| check_json_query(query));
        let arguments = checked.and_then(|()| JsonPath::parse(query).map_err(|error| no_query(query, &error)));
        let (query, checked) = arguments.map_or_else(|error| (None, Err(error)), |query| (Some(query), Ok(())));
        let command = |()| JsonCommand::Get { key: key.into(), path: Path::default() };
        self.op(checked, command, read!(Json(found) => found)).then(move |document| {
            let (Some(document), Some(query)) = (document, query) else { return Ok(Vec::new()) };
            Ok(query.query(&document.to_value()).into_iter().cloned().collect())
        })
    }
}

/// Checks a key, and reads a path.
fn place(key: &str, path: &str) -> Result<Path> {
    check_key("key", key)?;
    Path::parse(path)
}

/// Checks the size and the depth of a value.
fn checked(value: serde_json::Value) -> Result<Json> {
    let json = Json::from_value(value)?;
    check_json_bytes(json.size().text())?;
    Ok(json)
}

fn operations_of(Patch(operations): Patch) -> Result<Vec<JsonOperation>> {
    check_count(operations.len())?;
    operations.into_iter().map(operation_of).collect()
}

fn operation_of(operation: PatchOperation) -> Result<JsonOperation> {
    Ok(match operation {
        PatchOperation::Add(add) => JsonOperation::Add { path: path_of(&add.path)?, value: checked(add.value)? },
        PatchOperation::Remove(remove) => JsonOperation::Remove { path: path_of(&remove.path)? },
        PatchOperation::Replace(replace) => {
            JsonOperation::Replace { path: path_of(&replace.path)?, value: checked(replace.value)? }
        }
        PatchOperation::Move(moved) => JsonOperation::Move { from: path_of(&moved.from)?, path: path_of(&moved.path)? },
        PatchOperation::Copy(copy) => JsonOperation::Copy { from: path_of(&copy.from)?, path: path_of(&copy.path)? },
        PatchOperation::Test(test) => JsonOperation::Test { path: path_of(&test.path)?, value: checked(test.value)? },
    })
}

fn path_of(pointer: &Pointer) -> Result<Path> {
    Path::of(pointer.tokens().map(|token| token.decoded().as_ref().into()))
}

fn no_query(query: &str, error: &ParseError) -> Error {
    Error::InvalidOperation(format!("the JSONPath query cannot be read: query={query:?} reason={error}"))
}

impl JsonStore {
    /// The JSON documents of a database.
    pub fn new(database: impl Into<Database>) -> Self {
        Self { database: database.into() }
    }

    pub(super) fn of(&self, run: impl Borrow<RunId>) -> RunJson {
        RunJson::new(Scope::of_run(self.database.engine(), run))
    }

    /// See [`RunJson::create`].
    ///
    /// # Errors
    /// Those of [`RunJson::create`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn create(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        document: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        self.of(run).create(key, document)
    }

    /// See [`RunJson::get`].
    ///
    /// # Errors
    /// Those of [`RunJson::get`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
    ) -> Op<Option<serde_json::Value>> {
        self.of(run).get(key, path)
    }

    /// See [`RunJson::get_as`].
    ///
    /// # Errors
    /// Those of [`RunJson::get_as`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn get_as<T: DeserializeOwned + Send + 'static>(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
    ) -> Op<Option<T>> {
        self.of(run).get_as(key, path)
    }

    /// See [`RunJson::set`].
    ///
    /// # Errors
    /// Those of [`RunJson::set`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn set(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
        value: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        self.of(run).set(key, path, value)
    }

    /// See [`RunJson::delete_at`].
    ///
    /// # Errors
    /// Those of [`RunJson::delete_at`].
    ///
    /// # Cancel safety
    /// Deleted or not, never half.
    pub fn delete_at(&self, run: impl Borrow<RunId>, key: impl AsRef<str>, path: impl AsRef<str>) -> Op<bool> {
        self.of(run).delete_at(key, path)
    }

    /// See [`RunJson::delete`].
    ///
    /// # Errors
    /// Those of [`RunJson::delete`].
    ///
    /// # Cancel safety
    /// Deleted or not, never half.
    pub fn delete(&self, run: impl Borrow<RunId>, key: impl AsRef<str>) -> Op<bool> {
        self.of(run).delete(key)
    }

    /// See [`RunJson::exists`].
    ///
    /// # Errors
    /// Those of [`RunJson::exists`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn exists(&self, run: impl Borrow<RunId>, key: impl AsRef<str>) -> Op<bool> {
        self.of(run).exists(key)
    }

    /// See [`RunJson::version`].
    ///
    /// # Errors
    /// Those of [`RunJson::version`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn version(&self, run: impl Borrow<RunId>, key: impl AsRef<str>) -> Op<Option<Version>> {
        self.of(run).version(key)
    }

    /// See [`RunJson::cas`].
    ///
    /// # Errors
    /// Those of [`RunJson::cas`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn cas(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        expected: Version,
        path: impl AsRef<str>,
        value: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        self.of(run).cas(key, expected, path, value)
    }

    /// See [`RunJson::patch`].
    ///
    /// # Errors
    /// Those of [`RunJson::patch`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn patch(&self, run: impl Borrow<RunId>, key: impl AsRef<str>, patch: Patch) -> Op<Version> {
        self.of(run).patch(key, patch)
    }

    /// See [`RunJson::merge`].
    ///
    /// # Errors
    /// Those of [`RunJson::merge`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn merge(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        patch: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        self.of(run).merge(key, patch)
    }

    /// See [`RunJson::array_push`].
    ///
    /// # Errors
    /// Those of [`RunJson::array_push`].
    ///
    /// # Cancel safety
    /// Written or not, never half.
    pub fn array_push(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        path: impl AsRef<str>,
        value: impl Into<serde_json::Value>,
    ) -> Op<Version> {
        self.of(run).array_push(key, path, value)
    }

    /// See [`RunJson::list`].
    ///
    /// # Errors
    /// Those of [`RunJson::list`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn list(&self, run: impl Borrow<RunId>, prefix: Option<&str>) -> Op<Vec<String>> {
        self.of(run).list(prefix)
    }

    /// See [`RunJson::query`].
    ///
    /// # Errors
    /// Those of [`RunJson::query`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub fn query(
        &self,
        run: impl Borrow<RunId>,
        key: impl AsRef<str>,
        query: impl AsRef<str>,
    ) -> Op<Vec<serde_json::Value>> {
        self.of(run).query(key, query)
    }
}
