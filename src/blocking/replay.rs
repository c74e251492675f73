//! Replays: a run rebuilt from its history.

use super::stores::{RunEvents, RunJson, RunKv, RunStates, RunTraces};
use crate::api::diff::RunDiff;
use crate::api::replay;
use crate::api::replay::Step;
use crate::base::error::Result;
use crate::base::run::RunMetadata;
use crate::base::run_id::RunId;
use crate::base::version::Version;

twin! {
    /// A run rebuilt from its history.
    replay::ReplayView {
        gives run() -> RunId;
        gives version() -> Version;
        gives kv() -> RunKv;
        gives events() -> RunEvents;
        gives states() -> RunStates;
        gives traces() -> RunTraces;
        gives json() -> RunJson;
        gives metadata() -> Option<RunMetadata>;
        gives records() -> u64;
        gives bytes() -> u64;
    }
}

impl ReplayView {
    #[doc = see!(replay::ReplayView::steps)]
    #[must_use]
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = Step> + ExactSizeIterator + '_ {
        self.inner.steps()
    }

    #[doc = see!(replay::ReplayView::digest)]
    ///
    /// # Errors
    /// The same.
    pub fn digest(&self) -> Result<[u8; 32]> {
        self.inner.digest()
    }

    #[doc = see!(replay::ReplayView::diff)]
    #[must_use]
    pub fn diff(&self, b: &Self) -> RunDiff {
        self.inner.diff(&b.inner)
    }
}
