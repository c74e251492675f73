//! Planted bugs: every rule of the protocol, broken once, must be caught within so many seeds.

use super::run_seed;
use super::swarm::Mode;
use crate::base::planted::{Bug, plant};

/// How many seeds it takes to catch a bug, and what gave it away.
pub(super) fn seeds_to_catch(bug: Bug, mode: Mode, most: u64) -> Option<(u64, String)> {
    plant(Some(bug));
    let caught = (0..most).find_map(|seed| Some((seed, run_seed(seed, mode, false).err()?)));
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

/// Looks for all of them, in all modes; slow, and run by hand.
#[test]
#[ignore = "a survey of an hour, not a check"]
fn survey() {
    let most = super::number("SIM_RUNS").unwrap_or(300);
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

const ALL: [Bug; 28] = [
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
];
