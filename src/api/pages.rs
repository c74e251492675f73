//! Pages: long results fetched piece by piece at one snapshot.
//!
//! - The pages of one stream are read in one read-only transaction, so that all of them show the same snapshot. It ends
//!   with the stream.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::op::Op;
use super::scope::Scope;
use crate::base::error::Result;

/// How many items a page has.
pub(crate) const PAGE: usize = 256;

/// Fetches the page after the last item of the one before.
type Fetch<T> = Box<dyn FnMut(Option<&T>) -> Op<Vec<T>> + Send + Sync>;

/// The items of a long result, page by page.
pub(crate) struct Pages<T> {
    fetch: Fetch<T>,
    last: Option<T>,
    items: VecDeque<T>,
    under_way: Option<Op<Vec<T>>>,
    finished: bool,
    /// Keeps the snapshot; the fetches hold it too.
    _scope: Scope,
}

impl<T: Clone> Pages<T> {
    pub(crate) fn new(scope: Scope, fetch: impl FnMut(Option<&T>) -> Op<Vec<T>> + Send + Sync + 'static) -> Self {
        Self {
            fetch: Box::new(fetch),
            last: None,
            items: VecDeque::new(),
            under_way: None,
            finished: false,
            _scope: scope,
        }
    }

    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            if self.finished {
                return Poll::Ready(None);
            }
            let page = self.under_way.get_or_insert_with(|| (self.fetch)(self.last.as_ref()));
            let page = futures::ready!(Pin::new(page).poll(context));
            self.under_way = None;
            match page {
                Ok(page) => {
                    self.finished = page.len() < PAGE;
                    self.last = page.last().cloned();
                    self.items = page.into();
                }
                Err(error) => {
                    self.finished = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("finished", &self.finished).finish_non_exhaustive()
    }
}

/// A long result as a stream: it borrows nothing and can be stored and spawned.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct PageStream<T> {
    pages: Pages<T>,
}

impl<T: Clone> PageStream<T> {
    pub(crate) const fn new(pages: Pages<T>) -> Self {
        Self { pages }
    }
}

impl<T> Unpin for PageStream<T> {}

impl<T: Clone> Stream for PageStream<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pages.poll_next(context)
    }
}
