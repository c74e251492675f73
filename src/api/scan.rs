//! Scans: key-value pairs in order, page by page.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::pages::Pages;
use crate::base::error::Result;
use crate::base::value::Value;

/// Which pairs a scan gives, and in which order. The default is all of them, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// Only keys that start with this.
    pub prefix: Option<String>,
    /// Only keys at or above this.
    pub start: Option<String>,
    /// Only keys below this.
    pub end: Option<String>,
    /// Descending instead of ascending.
    pub reverse: bool,
    /// At most so many pairs.
    pub limit: Option<usize>,
    /// Go on behind the pair at which another scan stood; see [`Scan::cursor`].
    pub cursor: Option<String>,
}

/// The pairs of a scan, all at one snapshot.
#[derive(Debug)]
#[must_use = "a scan does nothing until it is polled"]
pub struct Scan {
    pages: Pages<(String, Value)>,
    cursor: Option<String>,
    left: usize,
}

impl Scan {
    pub(crate) const fn new(pages: Pages<(String, Value)>, cursor: Option<String>, left: usize) -> Self {
        Self { pages, cursor, left }
    }

    /// Where the scan stands: give it to another scan as [`ScanOptions::cursor`] to go on behind the last pair that was
    /// given out. The other scan reads its own snapshot. `None` before the first pair.
    #[must_use]
    pub fn cursor(&self) -> Option<String> {
        self.cursor.clone()
    }
}

impl Stream for Scan {
    type Item = Result<(String, Value)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let item = futures::ready!(self.pages.poll_next(context));
        if let Some(Ok((key, _))) = &item {
            self.left -= 1;
            self.cursor = Some(key.clone());
        }
        Poll::Ready(item)
    }
}
