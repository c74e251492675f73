//! Layer 0: ids, keys, values, versions, limits, errors.
//!
//! - Nothing here imports another layer.
//! - Everything is plain data: no clock, no file, no thread, no random source (except `RunId::new`, which callers
//!   use before an operation reaches a shard).

pub(crate) mod commit_digest;
pub(crate) mod cursor;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod json;
pub(crate) mod key;
pub(crate) mod kill_point;
pub(crate) mod limits;
pub(crate) mod lineage;
pub(crate) mod metrics;
pub(crate) mod name;
pub(crate) mod options;
pub(crate) mod packed;
pub(crate) mod planted;
pub(crate) mod primitive;
pub(crate) mod run;
pub(crate) mod run_id;
pub(crate) mod state;
pub(crate) mod stored;
pub(crate) mod trace;
pub(crate) mod value;
pub(crate) mod version;
