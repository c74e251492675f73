//! States: the contents of state cells.

use serde::{Deserialize, Serialize};

use super::value::Value;

/// The content of a state cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The value.
    pub value: Value,
    /// How often the cell was written: 1, 2, 3 ... A cell that was deleted and made again goes on counting.
    pub version: u64,
    /// When it was last written, in microseconds since the Unix epoch.
    pub updated_at: i64,
}
