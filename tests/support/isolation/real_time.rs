//! Real time: what completed before something else was invoked must be before it.
//!
//! - Only the edges that do not follow from others are made. The *frontier* is the set of completed transactions of
//!   which none is before another, so it is no larger than the number of processes.
//! - Events at the same time are in no order.

use super::Place;
use super::graph::{Edge, Kind};
use super::history::{Status, Transaction};

/// The edges of real time between some transactions.
pub(super) fn edges(history: &[Transaction], places: impl Iterator<Item = Place>) -> Vec<Edge> {
    let mut events = Vec::new();
    for place in places {
        let transaction = &history[place];
        events.push((transaction.invoked, false, place));
        if transaction.status == Status::Ok {
            assert!(transaction.invoked <= transaction.completed, "completed before it was invoked: place={place}");
            events.push((transaction.completed, true, place));
        }
    }
    events.sort_unstable();
    let mut edges = Vec::new();
    let mut frontier: Vec<Place> = Vec::new();
    let mut before = vec![Vec::new(); history.len()];
    for (_, is_completion, place) in events {
        if is_completion {
            let earlier = std::mem::take(&mut before[place]);
            frontier.retain(|other| !earlier.contains(other));
            frontier.push(place);
        } else {
            let kind = Kind::RealTime;
            edges.extend(frontier.iter().map(|from| Edge { from: *from, to: place, kind, key: 0, value: 0 }));
            before[place].clone_from(&frontier);
        }
    }
    edges
}
