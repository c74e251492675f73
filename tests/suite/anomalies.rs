//! The named anomalies, as stories that must end otherwise: every one on one shard and on two, in every mode.
//!
//! - The ten of Hermitage (Kleppmann, 2014; the names are Adya's, 1999) with their values, and those that only
//!   databases of several shards have.
//! - Strict serializability, found out at the commit: what would be an anomaly elsewhere is a lost commit here, and
//!   never a wrong read. Who only reads never loses.

mod stage;
mod story;

use stage::play;
use story::{T1, T2, T3, T4, leaves};

// The ten of Hermitage.

#[test]
fn g0_write_cycles() {
    play(&[
        T1.writes("x", 11),
        T2.writes("x", 12),
        T1.writes("y", 21),
        T1.commits(),
        leaves(&[("x", 11), ("y", 21)]),
        T2.writes("y", 22),
        T2.commits(),
        leaves(&[("x", 12), ("y", 22)]),
    ]);
    play(&[
        T1.writes("x", 11),
        T2.writes("y", 22),
        T2.writes("x", 12),
        T1.writes("y", 21),
        T2.commits(),
        T1.commits(),
        leaves(&[("x", 11), ("y", 21)]),
    ]);
}

#[test]
fn g1a_aborted_reads() {
    play(&[
        T1.writes("x", 101),
        T1.writes("y", 201),
        T2.reads("x", 10),
        T1.aborts(),
        T2.reads("x", 10),
        T2.finds(&[("x", 10), ("y", 20)]),
        T2.commits(),
        leaves(&[("x", 10), ("y", 20)]),
    ]);
}

#[test]
fn g1b_intermediate_reads() {
    play(&[
        T1.writes("x", 101),
        T1.writes("y", 201),
        T2.reads("x", 10),
        T1.writes("x", 11),
        T1.writes("y", 21),
        T1.commits(),
        T2.reads("x", 10),
        T2.reads("y", 20),
        T2.commits(),
        leaves(&[("x", 11), ("y", 21)]),
    ]);
}

#[test]
fn g1c_circular_information_flow() {
    play(&[
        T1.writes("x", 11),
        T2.writes("y", 22),
        T1.reads("y", 20),
        T2.reads("x", 10),
        T1.commits(),
        T2.loses(),
        leaves(&[("x", 11), ("y", 20)]),
    ]);
    for _ in 0..5 {
        play(&[T1.writes("x", 11), T2.writes("y", 22), T1.reads("y", 20), T2.reads("x", 10), T1.races(T2)]);
    }
}

#[test]
fn otv_observed_transaction_vanishes() {
    play(&[
        T1.writes("x", 11),
        T1.writes("y", 19),
        T2.writes("x", 12),
        T1.commits(),
        T3.reads("x", 11),
        T2.writes("y", 18),
        T3.reads("y", 19),
        T2.commits(),
        T3.reads("y", 19),
        T3.reads("x", 11),
        T3.commits(),
        leaves(&[("x", 12), ("y", 18)]),
    ]);
}

#[test]
fn pmp_predicate_many_preceders() {
    play(&[
        T1.finds(&[("x", 10), ("y", 20)]),
        T2.writes("z", 30),
        T2.writes("w", 40),
        T2.commits(),
        T1.finds(&[("x", 10), ("y", 20)]),
        T1.misses("z"),
        T1.commits(),
        leaves(&[("w", 40), ("x", 10), ("y", 20), ("z", 30)]),
    ]);
}

#[test]
fn pmp_predicate_many_preceders_of_a_write() {
    play(&[
        T1.finds(&[("x", 10), ("y", 20)]),
        T1.writes("x", 20),
        T1.writes("y", 30),
        T2.finds(&[("x", 10), ("y", 20)]),
        T2.deletes("y"),
        T1.commits(),
        T2.finds(&[("x", 10)]),
        T2.loses(),
        leaves(&[("x", 20), ("y", 30)]),
    ]);
}

#[test]
fn p4_lost_update() {
    play(&[
        T1.reads("x", 10),
        T2.reads("x", 10),
        T1.writes("x", 11),
        T2.writes("x", 12),
        T1.commits(),
        T2.loses(),
        leaves(&[("x", 11), ("y", 20)]),
    ]);
    play(&[
        T1.reads("x", 10),
        T1.reads("y", 20),
        T2.reads("y", 20),
        T2.reads("x", 10),
        T1.writes("x", 11),
        T1.writes("y", 21),
        T2.writes("y", 22),
        T2.writes("x", 12),
        T1.races(T2),
    ]);
}

#[test]
fn g_single_read_skew() {
    play(&[
        T1.reads("x", 10),
        T2.reads("x", 10),
        T2.reads("y", 20),
        T2.writes("x", 12),
        T2.writes("y", 18),
        T2.commits(),
        T1.reads("y", 20),
        T1.commits(),
        leaves(&[("x", 12), ("y", 18)]),
    ]);
}

#[test]
fn g_single_read_skew_over_predicates() {
    play(&[
        T1.finds(&[("x", 10), ("y", 20)]),
        T2.finds(&[("x", 10), ("y", 20)]),
        T2.writes("x", 12),
        T2.writes("z", 3),
        T2.commits(),
        T1.finds(&[("x", 10), ("y", 20)]),
        T1.commits(),
        leaves(&[("x", 12), ("y", 20), ("z", 3)]),
    ]);
}

#[test]
fn g_single_read_skew_before_a_write() {
    play(&[
        T1.reads("x", 10),
        T2.finds(&[("x", 10), ("y", 20)]),
        T2.writes("x", 12),
        T2.writes("y", 18),
        T2.commits(),
        T1.deletes("y"),
        T1.finds(&[("x", 10)]),
        T1.loses(),
        leaves(&[("x", 12), ("y", 18)]),
    ]);
}

#[test]
fn g2_item_write_skew() {
    play(&[
        T1.reads("x", 10),
        T1.reads("y", 20),
        T2.reads("x", 10),
        T2.reads("y", 20),
        T1.writes("x", 11),
        T2.writes("y", 21),
        T1.commits(),
        T2.loses(),
        leaves(&[("x", 11), ("y", 20)]),
    ]);
    for _ in 0..5 {
        play(&[
            T1.reads("x", 10),
            T1.reads("y", 20),
            T2.reads("x", 10),
            T2.reads("y", 20),
            T1.writes("x", 11),
            T2.writes("y", 21),
            T1.races(T2),
        ]);
    }
}

#[test]
fn g2_write_skew_over_predicates() {
    play(&[
        T1.finds(&[("x", 10), ("y", 20)]),
        T2.finds(&[("x", 10), ("y", 20)]),
        T1.writes("z", 30),
        T2.writes("w", 42),
        T1.commits(),
        T2.finds(&[("w", 42), ("x", 10), ("y", 20)]),
        T2.loses(),
        leaves(&[("x", 10), ("y", 20), ("z", 30)]),
    ]);
    for _ in 0..5 {
        play(&[
            T1.finds(&[("x", 10), ("y", 20)]),
            T2.finds(&[("x", 10), ("y", 20)]),
            T1.writes("z", 30),
            T2.writes("w", 42),
            T1.races(T2),
        ]);
    }
}

#[test]
fn g2_write_skew_over_keys_that_are_not_there() {
    play(&[
        T1.misses("z"),
        T2.misses("w"),
        T1.writes("w", 42),
        T2.writes("z", 30),
        T2.commits(),
        T1.loses(),
        leaves(&[("x", 10), ("y", 20), ("z", 30)]),
    ]);
}

// Those of several shards.

/// Fekete, O'Neil and O'Neil (2004): who only reads sees the batch closed, and the late deposit is not in it.
#[test]
fn a_read_only_transaction_makes_no_anomaly() {
    play(&[
        T1.finds(&[("x", 10), ("y", 20)]),
        T2.reads("y", 20),
        T2.writes("y", 25),
        T2.commits(),
        T3.finds(&[("x", 10), ("y", 25)]),
        T3.commits(),
        T1.writes("x", 0),
        T1.loses(),
        leaves(&[("x", 10), ("y", 25)]),
    ]);
}

#[test]
fn no_long_fork() {
    play(&[
        T1.writes("x", 11),
        T2.writes("y", 21),
        T3.reads("y", 20),
        T1.commits(),
        T4.reads("x", 11),
        T2.commits(),
        T4.reads("y", 20),
        T3.reads("x", 10),
        T3.commits(),
        T4.commits(),
        leaves(&[("x", 11), ("y", 21)]),
    ]);
}

#[test]
fn no_fractured_reads() {
    play(&[
        T2.reads("x", 10),
        T3.reads("y", 20),
        T1.writes("x", 11),
        T1.writes("y", 21),
        T1.writes("z", 31),
        T1.commits(),
        T4.reads("y", 21),
        T2.reads("y", 20),
        T2.misses("z"),
        T3.finds(&[("x", 10), ("y", 20)]),
        T4.finds(&[("x", 11), ("y", 21), ("z", 31)]),
        T2.commits(),
        T3.commits(),
        T4.commits(),
    ]);
}

/// What was written later in real time is never seen without what was written before it, by whoever.
#[test]
fn no_causal_reverse() {
    play(&[
        T3.reads("x", 10),
        T1.writes("x", 11),
        T1.commits(),
        T2.writes("y", 21),
        T2.commits(),
        T4.reads("y", 21),
        T4.reads("x", 11),
        T3.reads("y", 20),
        T3.commits(),
        T4.commits(),
    ]);
}

#[test]
fn what_is_committed_is_seen_by_all_who_come_later() {
    play(&[
        T1.writes("x", 11),
        T1.commits(),
        T1.reads("x", 11),
        T1.writes("y", 21),
        T1.commits(),
        T2.reads("y", 21),
        T2.reads("x", 11),
        T2.deletes("x"),
        T2.commits(),
        T3.misses("x"),
        T3.finds(&[("y", 21)]),
        T3.commits(),
    ]);
}

#[test]
fn own_writes_are_seen_by_their_transaction_alone() {
    play(&[
        T1.writes("x", 11),
        T1.writes("z", 30),
        T1.reads("x", 11),
        T1.finds(&[("x", 11), ("y", 20), ("z", 30)]),
        T2.finds(&[("x", 10), ("y", 20)]),
        T1.deletes("y"),
        T1.misses("y"),
        T1.writes("w", 40),
        T1.writes("z", 31),
        T1.finds(&[("w", 40), ("x", 11), ("z", 31)]),
        T1.commits(),
        T2.finds(&[("x", 10), ("y", 20)]),
        T2.commits(),
        leaves(&[("w", 40), ("x", 11), ("z", 31)]),
    ]);
}

#[test]
fn blind_writes_and_reads_alone_never_lose() {
    play(&[
        T1.finds(&[("x", 10), ("y", 20)]),
        T2.writes("x", 12),
        T2.writes("y", 22),
        T3.writes("y", 23),
        T3.writes("x", 13),
        T4.writes("x", 14),
        T3.commits(),
        T4.commits(),
        T2.commits(),
        T1.finds(&[("x", 10), ("y", 20)]),
        T1.commits(),
        leaves(&[("x", 12), ("y", 22)]),
    ]);
}
