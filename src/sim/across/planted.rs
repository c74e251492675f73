//! Planted bugs: every rule of the protocol, broken once, must be caught within so many seeds.

use super::super::seeds::number;
use super::super::swarm::Mode;
use super::super::trace::Trace;
use super::{run_seed, scenarios};
use crate::base::planted::{Bug, plant};

/// How many seeds it takes to catch a bug, and what gave it away.
pub(super) fn seeds_to_catch(bug: Bug, mode: Mode, most: u64) -> Option<(u64, String)> {
    plant(Some(bug));
    let caught = (0..most).find_map(|seed| Some((seed, run_seed(seed, mode, Trace::default()).err()?)));
    plant(None);
    caught
}

fn assert_caught(bug: Bug, mode: Mode, most: u64) {
    let Some((seed, what)) = seeds_to_catch(bug, mode, most) else {
        panic!("{bug:?} ({mode:?}) was not caught by {most} seeds")
    };
    let what: String = what.lines().next().unwrap_or_default().chars().take(120).collect();
    println!("{bug:?} ({mode:?}): caught by seed {seed}: {what}");
}

/// A scenario fails with the bug, and is fine without.
fn assert_told(bug: Bug, scenario: fn()) {
    scenario();
    plant(Some(bug));
    let caught = std::panic::catch_unwind(scenario);
    plant(None);
    assert!(caught.is_err(), "{bug:?} is not noticed by its scenario");
    println!("{bug:?}: caught by its scenario");
}

#[test]
fn what_seeds_hardly_find_scenarios_tell() {
    assert_told(Bug::NotLearned, scenarios::no_commit_comes_below_a_timestamp_that_was_learned);
    assert_told(Bug::ExpiryIgnored, scenarios::a_transaction_commits_below_every_expiry_that_it_read_on_any_shard);
    assert_told(Bug::AbortNotAwaited, scenarios::intents_stay_until_the_abort_record_is_durable);
    assert_told(Bug::MarkBelowFloor, scenarios::a_commit_behind_a_mark_is_above_it);
    assert_told(Bug::FloorIgnored, scenarios::a_commit_behind_a_read_is_above_its_snapshot);
    assert_told(Bug::NoReadIntents, scenarios::of_two_that_read_what_the_other_writes_one_loses);
    assert_told(Bug::NoRangeIntents, scenarios::a_write_into_a_range_that_was_scanned_waits);
    assert_told(Bug::SingleWriteIgnoresIntents, scenarios::a_write_into_a_range_that_was_scanned_waits);
    assert_told(Bug::OperationsNotCounted, scenarios::a_part_that_lacks_an_operation_is_not_promised);
    assert_told(Bug::ReadInDoubt, scenarios::what_is_in_doubt_is_waited_for_and_then_seen);
    assert_told(Bug::StepInDoubt, scenarios::what_is_in_doubt_is_waited_for_and_then_seen);
    assert_told(Bug::UndecidedCut, scenarios::the_log_is_needed_from_the_first_part_in_doubt);
    assert_told(Bug::LostTold, scenarios::what_was_acknowledged_is_told_after_a_write_over_it_has_failed);
    assert_told(Bug::KeptMissed, scenarios::what_was_acknowledged_is_told_after_a_write_over_it_has_failed);
    assert_told(Bug::KeptMissed, scenarios::who_waits_on_a_shard_that_has_failed_sees_what_was_committed_meanwhile);
    assert_told(Bug::EditedInDoubt, scenarios::a_document_is_not_edited_before_it_is_known_who_else_has);
    assert_told(Bug::LooksIgnored, scenarios::below_the_marks_whatever_has_changed_a_document_is_a_conflict);
    assert_told(Bug::WakeLost, scenarios::what_is_in_doubt_is_waited_for_and_then_seen);
}

#[test]
fn bugs_of_intents_and_snapshots_are_caught() {
    assert_caught(Bug::RangesNotValidated, Mode::InMemory, 40);
    assert_caught(Bug::ReadsNotValidated, Mode::InMemory, 20);
    assert_caught(Bug::WriteIntentsIgnored, Mode::InMemory, 20);
    assert_caught(Bug::SingleWriteIgnoresIntents, Mode::Buffered, 40);
    assert_caught(Bug::StepInDoubt, Mode::InMemory, 20);
    assert_caught(Bug::OwnWritesNotScanned, Mode::Buffered, 20);
    assert_caught(Bug::PostponedNotSeen, Mode::InMemory, 20);
    assert_caught(Bug::PostponedNotLocked, Mode::InMemory, 20);
    assert_caught(Bug::CollectedEarly, Mode::InMemory, 20);
    assert_caught(Bug::WakeLost, Mode::Strict, 20);
    assert_caught(Bug::NumberReused, Mode::InMemory, 20);
    assert_caught(Bug::OperationsNotCounted, Mode::Strict, 60);
}

#[test]
fn bugs_of_documents_are_caught() {
    assert_caught(Bug::PathsNotNoted, Mode::InMemory, 20);
    assert_caught(Bug::AncestorsNotNoted, Mode::InMemory, 20);
    assert_caught(Bug::DescendantsNotNoted, Mode::InMemory, 200);
    assert_caught(Bug::EditsNotMarked, Mode::InMemory, 400);
    assert_caught(Bug::KeysNotMarked, Mode::InMemory, 400);
}

#[test]
fn bugs_of_subscriptions_are_caught() {
    assert_caught(Bug::ToldInDoubt, Mode::InMemory, 200);
    assert_caught(Bug::ChangeNotDurable, Mode::Strict, 200);
}

#[test]
fn bugs_of_digests_are_caught() {
    assert_caught(Bug::WriteNotDigested, Mode::InMemory, 20);
    assert_caught(Bug::ChainedToFirst, Mode::Strict, 20);
}

#[test]
fn bugs_of_decisions_and_durability_are_caught() {
    assert_caught(Bug::DecisionBeforeVotes, Mode::InMemory, 20);
    assert_caught(Bug::LastTimestamp, Mode::Strict, 20);
    assert_caught(Bug::VersionsShared, Mode::InMemory, 20);
    assert_caught(Bug::OwnTimestamp, Mode::Strict, 20);
    assert_caught(Bug::MissingPartIgnored, Mode::Strict, 20);
    assert_caught(Bug::ReadPartNotLogged, Mode::Strict, 20);
    assert_caught(Bug::VoteNotDurable, Mode::Strict, 20);
    assert_caught(Bug::ReplyNotDurable, Mode::Strict, 20);
    assert_caught(Bug::AbortRecordIgnored, Mode::Strict, 120);
    assert_caught(Bug::LostTold, Mode::Strict, 120);
    assert_caught(Bug::CutIgnored, Mode::Buffered, 200);
    assert_caught(Bug::CutIgnoredAtRecovery, Mode::Buffered, 400);
}

/// An opening that writes its decisions before it serves is safe without the fence: what lands late is behind every
/// sealed end.
#[test]
fn what_is_decided_in_writing_is_safe_without_the_fence() {
    for mode in [Mode::Strict, Mode::Buffered] {
        assert_eq!(seeds_to_catch(Bug::SegmentsNotFenced, mode, 40), None);
    }
}

/// Those that take the most seeds; the scenarios catch them at once.
#[test]
#[ignore = "a minute: cargo test --release --lib rare_bugs -- --ignored"]
fn rare_bugs_are_caught_by_seeds_too() {
    assert_caught(Bug::NoReadIntents, Mode::Strict, 1_000);
    assert_caught(Bug::NoRangeIntents, Mode::Buffered, 1_000);
    assert_caught(Bug::FloorIgnored, Mode::Strict, 1_000);
    assert_caught(Bug::ReadInDoubt, Mode::Buffered, 1_000);
    assert_caught(Bug::MarkBelowFloor, Mode::Buffered, 1_000);
}

/// Looks for all of them, in all modes; slow, and run by hand.
#[test]
#[ignore = "a survey of an hour, not a check: cargo test --release --lib survey -- --ignored --nocapture"]
fn survey() {
    let most = number("SIM_RUNS").unwrap_or(300);
    for bug in ALL {
        for mode in [Mode::InMemory, Mode::Buffered, Mode::Strict] {
            let caught = seeds_to_catch(bug, mode, most);
            let what = caught.map(|(seed, what)| {
                let what: String = what.lines().next().unwrap_or_default().chars().take(100).collect();
                format!("seed {seed}: {what}")
            });
            println!("SURVEY {bug:?} {mode:?} {}", what.unwrap_or_else(|| "no".into()));
        }
    }
}

const ALL: [Bug; 41] = [
    Bug::NoReadIntents,
    Bug::RangesNotValidated,
    Bug::NoRangeIntents,
    Bug::FloorIgnored,
    Bug::DecisionBeforeVotes,
    Bug::ReadInDoubt,
    Bug::StepInDoubt,
    Bug::MarkBelowFloor,
    Bug::NotLearned,
    Bug::MissingPartIgnored,
    Bug::AbortNotAwaited,
    Bug::ReadPartNotLogged,
    Bug::NumberReused,
    Bug::CollectedEarly,
    Bug::OwnWritesNotScanned,
    Bug::PostponedNotSeen,
    Bug::PostponedNotLocked,
    Bug::VoteNotDurable,
    Bug::ReplyNotDurable,
    Bug::WakeLost,
    Bug::ExpiryIgnored,
    Bug::OperationsNotCounted,
    Bug::AbortRecordIgnored,
    Bug::CutIgnored,
    Bug::OwnTimestamp,
    Bug::LastTimestamp,
    Bug::ReadsNotValidated,
    Bug::WriteIntentsIgnored,
    Bug::CutIgnoredAtRecovery,
    Bug::SingleWriteIgnoresIntents,
    Bug::LostTold,
    Bug::KeptMissed,
    Bug::PathsNotNoted,
    Bug::AncestorsNotNoted,
    Bug::DescendantsNotNoted,
    Bug::EditsNotMarked,
    Bug::KeysNotMarked,
    Bug::EditedInDoubt,
    Bug::WriteNotDigested,
    Bug::ChainedToFirst,
    Bug::VersionsShared,
];
