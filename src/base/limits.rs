//! Every limit in one place, with the relations between them checked at compile time.

use std::time::Duration;

use super::error::{Error, Result};
use super::value::Value;

/// The longest key or name, in bytes.
pub(crate) const KEY_BYTES: usize = 64 << 10;
/// The largest value, in bytes.
pub(crate) const VALUE_BYTES: usize = 16 << 20;
/// The deepest nesting of arrays and maps in a value.
pub(crate) const VALUE_DEPTH: usize = 100;
/// The largest JSON document, in bytes of its compact text.
pub(crate) const JSON_BYTES: usize = 16 << 20;
/// The deepest nesting of arrays and objects in a JSON document.
pub(crate) const JSON_DEPTH: usize = 100;
/// The most segments of a path into a JSON document.
pub(crate) const JSON_SEGMENTS: usize = 256;
/// The longest `JSONPath` query, in bytes.
pub(crate) const JSON_QUERY_BYTES: usize = 64 << 10;
/// The deepest nesting of brackets and parentheses in a `JSONPath` query: filters in filters take exponential time to read.
pub(crate) const JSON_QUERY_DEPTH: usize = 10;
/// The most items of an array in a JSON document.
pub(crate) const JSON_ITEMS: usize = 1_000_000;
/// The largest transaction, in bytes of what it writes.
pub(crate) const TRANSACTION_BYTES: usize = 64 << 20;
/// The most operations in a transaction.
pub(crate) const TRANSACTION_OPERATIONS: usize = 100_000;
/// How much is kept of what a commit read.
pub(crate) const LINEAGE_READS: usize = 1_000;
/// The same in bytes.
pub(crate) const LINEAGE_BYTES: usize = 128 << 10;
/// How deep a lineage goes at most.
pub(crate) const LINEAGE_DEPTH: usize = 256;
/// The most tags on a run or a trace.
pub(crate) const TAGS: usize = 256;
/// The longest tag, in bytes.
pub(crate) const TAG_BYTES: usize = 256;
/// The most shards.
pub(crate) const SHARDS: usize = 1024;
/// Hash slots the keyspace is divided into. A disk format: never changes.
pub(crate) const SLOTS: u64 = 4096;
/// The most requests waiting in the channel of a shard's mailbox; a caller beyond that waits.
pub(crate) const MAILBOX_REQUESTS: usize = 4096;
/// The most requests waiting in the queue before that.
pub(crate) const MAILBOX_QUICK: usize = 256;
/// The most messages a shard takes from its mailbox before it looks at its log and its timers.
pub(crate) const BATCH_REQUESTS: usize = 256;

/// A write of the log that takes longer is warned of.
pub(crate) const SLOW_WRITE: Duration = Duration::from_millis(250);
/// So many conflicts within a second are warned of.
pub(crate) const CONFLICT_STORM: u64 = 1_000;
/// A transaction that runs again so often is warned of.
pub(crate) const MANY_RETRIES: u32 = 16;

/// How many changes wait for a subscriber before it has to catch up from history.
pub(crate) const SUBSCRIPTION_CHANGES: usize = 1024;
/// How many bytes of changes wait for a subscriber, or go to it at once; a single change may be larger.
pub(crate) const SUBSCRIPTION_BYTES: usize = 1 << 20;

const _: () = assert!(VALUE_DEPTH <= super::value::MAX_DEPTH, "what is accepted can be read back");
const _: () = assert!(VALUE_BYTES < TRANSACTION_BYTES, "a transaction holds several of the largest values");
const _: () = assert!(JSON_BYTES < TRANSACTION_BYTES, "a transaction holds several of the largest documents");
const _: () = assert!(SHARDS as u64 <= SLOTS, "every shard owns a slot");
const _: () = assert!(BATCH_REQUESTS <= MAILBOX_REQUESTS, "a batch fits the mailbox");

/// Checks a key, a name or an event type: 1 byte to 64 KiB.
pub(crate) fn check_key(what: &str, key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::InvalidOperation(format!("{what} is empty, it needs at least one byte")));
    }
    if key.len() > KEY_BYTES {
        return Err(Error::limit(what, KEY_BYTES, key.len()));
    }
    Ok(())
}

/// Checks the size and the depth of a value.
pub(crate) fn check_value(value: &Value) -> Result<()> {
    let depth = value.depth();
    if depth > VALUE_DEPTH {
        return Err(Error::limit("value depth", VALUE_DEPTH, depth));
    }
    let weight = value.weight();
    if weight > VALUE_BYTES {
        return Err(Error::limit("value bytes", VALUE_BYTES, weight));
    }
    Ok(())
}

/// Checks the size of a JSON document.
pub(crate) fn check_json_bytes(bytes: usize) -> Result<()> {
    if bytes > JSON_BYTES { Err(Error::limit("JSON bytes", JSON_BYTES, bytes)) } else { Ok(()) }
}

/// Checks how deep arrays and objects are nested in a JSON document.
pub(crate) fn check_json_depth(depth: usize) -> Result<()> {
    if depth > JSON_DEPTH { Err(Error::limit("JSON depth", JSON_DEPTH, depth)) } else { Ok(()) }
}

/// Checks the length of an array in a JSON document.
pub(crate) fn check_json_items(items: usize) -> Result<()> {
    if items > JSON_ITEMS { Err(Error::limit("JSON array items", JSON_ITEMS, items)) } else { Ok(()) }
}

/// Checks the length of a `JSONPath` query and how deep its brackets and parentheses are nested.
pub(crate) fn check_json_query(query: &str) -> Result<()> {
    if query.len() > JSON_QUERY_BYTES {
        return Err(Error::limit("JSONPath query bytes", JSON_QUERY_BYTES, query.len()));
    }
    let (mut depth, mut quote, mut is_escaped) = (0_usize, None, false);
    for byte in query.bytes() {
        match (byte, quote) {
            (_, Some(_)) if is_escaped => is_escaped = false,
            (b'\\', Some(_)) => is_escaped = true,
            (_, Some(end)) if byte == end => quote = None,
            (b'\'' | b'"', None) => quote = Some(byte),
            (b'[' | b'(', None) => depth += 1,
            (b']' | b')', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_QUERY_DEPTH {
            return Err(Error::limit("JSONPath query depth", JSON_QUERY_DEPTH, depth));
        }
    }
    Ok(())
}

/// Checks a list of tags.
pub(crate) fn check_tags(tags: &[String]) -> Result<()> {
    if tags.len() > TAGS {
        return Err(Error::limit("tags", TAGS, tags.len()));
    }
    for tag in tags {
        if tag.is_empty() {
            return Err(Error::InvalidOperation("tag is empty, it needs at least one byte".into()));
        }
        if tag.len() > TAG_BYTES {
            return Err(Error::limit("tag bytes", TAG_BYTES, tag.len()));
        }
    }
    Ok(())
}
