//! The peers, each as its own documentation recommends, with one table and no tuning but of durability.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use heed::types::{Bytes, Str};
use redb::ReadableDatabase;
use rusqlite::OptionalExtension;

use crate::peer::{Durability, Entrant, Opened, Peer, Result};

pub(crate) const ALL: &[Entrant] = &[
    Entrant { name: "BTreeMap behind a lock", open: map },
    Entrant { name: "redb", open: redb },
    Entrant { name: "fjall", open: fjall },
    Entrant { name: "SQLite (WAL)", open: sqlite },
    Entrant { name: "LMDB (heed)", open: lmdb },
    Entrant { name: "sled", open: sled },
    #[cfg(feature = "rocksdb")]
    Entrant { name: "RocksDB", open: rocks },
];

struct Map(Mutex<BTreeMap<String, Box<[u8]>>>);

fn map(_: &Path, durability: Durability) -> Result<Opened> {
    let map: Box<dyn Peer> = Box::new(Map(Mutex::default()));
    Ok((durability == Durability::None).then_some(map))
}

impl Peer for Map {
    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.into(), value.into());
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(|value| value.len()))
    }
}

const TABLE: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("pairs");

struct Redb {
    database: redb::Database,
    durability: redb::Durability,
}

fn redb(path: &Path, durability: Durability) -> Result<Opened> {
    let durability = match durability {
        Durability::None => redb::Durability::None,
        Durability::Process => return Ok(None),
        Durability::Machine => redb::Durability::Immediate,
    };
    let database = redb::Database::create(path.join("redb"))?;
    let begun = database.begin_write()?;
    begun.open_table(TABLE)?;
    begun.commit()?;
    Ok(Some(Box::new(Redb { database, durability })))
}

impl Peer for Redb {
    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        transaction.open_table(TABLE)?.insert(key, value)?;
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &str) -> Result<Option<usize>> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|value| value.value().len()))
    }
}

struct Fjall {
    database: fjall::Database,
    pairs: fjall::Keyspace,
    is_synced: bool,
}

fn fjall(path: &Path, durability: Durability) -> Result<Opened> {
    if durability == Durability::None {
        return Ok(None);
    }
    let database = fjall::Database::builder(path.join("fjall")).open()?;
    let pairs = database.keyspace("pairs", fjall::KeyspaceCreateOptions::default)?;
    Ok(Some(Box::new(Fjall { database, pairs, is_synced: durability == Durability::Machine })))
}

impl Peer for Fjall {
    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        self.pairs.insert(key, value)?;
        if self.is_synced {
            self.database.persist(fjall::PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.pairs.get(key)?.map(|value| value.len()))
    }
}

/// One connection: writers take turns, as they do within the library.
struct Sqlite(Mutex<rusqlite::Connection>);

fn sqlite(path: &Path, durability: Durability) -> Result<Opened> {
    let connection = rusqlite::Connection::open(path.join("sqlite"))?;
    let synchronous = match durability {
        Durability::None => "OFF",
        Durability::Process => "NORMAL",
        Durability::Machine => "FULL",
    };
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute("CREATE TABLE pairs (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID", ())?;
    Ok(Some(Box::new(Sqlite(Mutex::new(connection)))))
}

impl Sqlite {
    fn connection(&self) -> MutexGuard<'_, rusqlite::Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer for Sqlite {
    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let connection = self.connection();
        connection.prepare_cached("INSERT OR REPLACE INTO pairs VALUES (?1, ?2)")?.execute((key, value))?;
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<usize>> {
        let connection = self.connection();
        let mut select = connection.prepare_cached("SELECT value FROM pairs WHERE key = ?1")?;
        Ok(select.query_row([key], |row| Ok(row.get_ref(0)?.as_blob()?.len())).optional()?)
    }
}

struct Lmdb {
    environment: heed::Env,
    pairs: heed::Database<Str, Bytes>,
}

fn lmdb(path: &Path, durability: Durability) -> Result<Opened> {
    const ROOM: usize = 4 << 30;
    let path = path.join("lmdb");
    std::fs::create_dir(&path)?;
    let mut options = heed::EnvOpenOptions::new();
    options.map_size(ROOM);
    match durability {
        Durability::None => return Ok(None),
        // SAFETY: what may be lost when the machine stops is thrown away here.
        Durability::Process => unsafe { options.flags(heed::EnvFlags::NO_SYNC) },
        Durability::Machine => &mut options,
    };
    // SAFETY: nobody else changes the file, and it is opened once.
    let environment = unsafe { options.open(path) }?;
    let mut transaction = environment.write_txn()?;
    let pairs = environment.create_database(&mut transaction, None)?;
    transaction.commit()?;
    Ok(Some(Box::new(Lmdb { environment, pairs })))
}

impl Peer for Lmdb {
    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut transaction = self.environment.write_txn()?;
        self.pairs.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &str) -> Result<Option<usize>> {
        let transaction = self.environment.read_txn()?;
        Ok(self.pairs.get(&transaction, key)?.map(<[u8]>::len))
    }
}

struct Sled {
    database: sled::Db,
    is_synced: bool,
}

fn sled(path: &Path, durability: Durability) -> Result<Opened> {
    if durability == Durability::None {
        return Ok(None);
    }
    let database = sled::open(path.join("sled"))?;
    Ok(Some(Box::new(Sled { database, is_synced: durability == Durability::Machine })))
}

impl Peer for Sled {
    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        self.database.insert(key, value)?;
        if self.is_synced {
            self.database.flush()?;
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.database.get(key)?.map(|value| value.len()))
    }
}

#[cfg(feature = "rocksdb")]
struct Rocks {
    database: rocksdb::DB,
    options: rocksdb::WriteOptions,
}

#[cfg(feature = "rocksdb")]
fn rocks(path: &Path, durability: Durability) -> Result<Opened> {
    let mut options = rocksdb::WriteOptions::default();
    match durability {
        Durability::None => options.disable_wal(true),
        Durability::Process => {}
        Durability::Machine => options.set_sync(true),
    }
    Ok(Some(Box::new(Rocks { database: rocksdb::DB::open_default(path.join("rocksdb"))?, options })))
}

#[cfg(feature = "rocksdb")]
impl Peer for Rocks {
    fn put(&self, key: &str, value: &[u8]) -> Result<()> {
        Ok(self.database.put_opt(key, value, &self.options)?)
    }

    fn get(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.database.get_pinned(key)?.map(|value| value.len()))
    }
}
