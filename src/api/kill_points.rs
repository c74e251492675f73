//! Processes that die at every kill point there is, and die again while they recover: what was acknowledged is there.
//!
//! - A cycle: a process writes and dies at the point; often another one dies in the recovery behind it; then the test
//!   opens the database and holds what it finds against what was acknowledged. `tests/support/steps.rs` says how.
//! - In some cycles it makes a backup meanwhile: that has all that was acknowledged before it began, or does not open.
//! - One number decides a cycle: the mode, how keys are spread, the driver, for the how many-eth time the process comes to the point,
//!   which points come before and behind it.
//! - Every point must be come to. The points are a type, so that one that stands nowhere in the code is a warning.
//! - `KILLS=n` goes through all points n times: `KILLS=14 cargo test --lib kill_points -- --nocapture` are 500 cycles, in
//!   two minutes or three.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use self::steps::{Setting, Steps};
use super::database::Database;
use crate::base::error::Error;
use crate::base::kill_point::{KillPoint, arm};
use crate::base::options::{Driver, DurabilityMode, Partitioning};

#[path = "../../tests/support/steps.rs"]
mod steps;

/// What the process that is to die is told, in this variable.
const ORDERS: &str = "IN_MEM_KILL_ORDERS";
const TEST: &str = "api::kill_points::every_point_is_survived";
/// What such a process says when it begins a backup, and when it has one.
const BACKING_UP: &str = "backing up";
const BACKED_UP: &str = "backed up";
/// How many tests go on at once, each with directories of its own.
const LANES: u64 = 2;
/// After so many cycles a lane begins a new database, so that logs stay short.
const CYCLES_IN_A_DIRECTORY: usize = 20;
/// How many shards there may be.
const SHARDS: [usize; 3] = [1, 2, 3];
/// No process needs longer to come to a point.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a process comes to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// While it opens the database, if the last one did not close it.
    Recovering,
    /// The same, if that one left behind a file that it was making.
    CleaningUp,
    /// While it writes: sooner or later for every time asked for, up to this many.
    Writing(u64),
    /// While it makes a backup, up to so many times.
    BackingUp(u64),
    /// While it takes one snapshot after the other, up to so many times.
    Checkpointing(u64),
    /// While it closes the database.
    Closing,
    /// When writes fail on one shard and not on the other.
    Failing,
}

use Phase::{BackingUp, Checkpointing, CleaningUp, Closing, Failing, Recovering, Writing};

/// When a process comes to a point.
#[expect(clippy::match_same_arms, reason = "one line for each part of the database")]
const fn phase(point: KillPoint) -> Phase {
    use KillPoint as P;
    match point {
        P::SegmentCreated
        | P::SegmentZeroed
        | P::SegmentSynced
        | P::SegmentRenamed
        | P::SegmentNamed
        | P::SegmentListed => Writing(2),
        P::SegmentOpened | P::ReservationDue | P::ReservationSaved => Writing(2),
        P::ManifestWritten | P::ManifestSynced | P::ManifestRenamed | P::ManifestNamed | P::AbortSent => Writing(3),
        P::MarkLogged | P::MarkSent | P::MarkedSent => Writing(6),
        P::BatchBegun | P::BatchWritten | P::BatchTold => Writing(30),
        P::PrepareSent | P::PartLogged | P::VoteSent | P::DecisionSent => Writing(30),
        P::SnapshotCreated | P::SnapshotSynced | P::SnapshotRenamed | P::SnapshotNamed => BackingUp(2),
        P::SnapshotChecked => BackingUp(2),
        P::SnapshotWritten => BackingUp(6),
        P::BackupBegun | P::BackupCopied => BackingUp(1),
        P::RecoverySettled | P::RecoveryJudged | P::RecoveryDecided | P::RecoveryBuilt => Recovering,
        P::RecoverySaved | P::StraysRemoved => Recovering,
        P::StrayRemoved => CleaningUp,
        P::ClosingBegun | P::ClosingFlushed | P::ClosingSealed | P::SegmentTrimmed | P::UnusedRemoved => Closing,
        P::SnapshotInstalled | P::SegmentCut => Checkpointing(3),
        P::AbortLogged => Failing,
    }
}

/// Whether a process comes to a point in `Buffered` mode only, or in `Strict` mode only.
const fn is_buffered_only(point: KillPoint) -> Option<bool> {
    match point {
        KillPoint::MarkLogged | KillPoint::MarkSent | KillPoint::MarkedSent => Some(true),
        KillPoint::AbortLogged => Some(false),
        _ => None,
    }
}

/// What a process does while it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Backup,
    Checkpoints,
}

/// Numbers from a number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

fn setting(is_buffered: bool, is_by_key: bool, is_on_threads: bool, shards: usize) -> Setting {
    let buffered = DurabilityMode::Buffered { flush_interval_ms: 20, max_pending_writes: 64 };
    Setting {
        mode: if is_buffered { buffered } else { DurabilityMode::Strict },
        partitioning: if is_by_key { Partitioning::ByKey } else { Partitioning::ByRun },
        shards,
        driver: if is_on_threads { Driver::Threads } else { Driver::Auto },
    }
}

fn on_tokio<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it ends") })
}

// The process that is to die.

/// How the process goes on, should it come so far.
fn obey(orders: &str, path: &Path) {
    let orders: Vec<&str> = orders.split(' ').collect();
    let [point, times, is_buffered, is_by_key, is_on_threads, shards, meanwhile] = orders[..] else {
        panic!("no orders: {orders:?}")
    };
    let point = KillPoint::ALL.iter().find(|known| format!("{known:?}") == point).unwrap();
    arm(*point, times.parse().unwrap());
    let setting = setting(is_buffered == "true", is_by_key == "true", is_on_threads == "true", shards.parse().unwrap());
    on_tokio(async {
        let database = setting.open(path).await;
        match phase(*point) {
            Writing(_) | BackingUp(_) | Checkpointing(_) => match meanwhile {
                "Backup" => back_up_and_write(&database, path).await,
                "Checkpoints" => checkpoint_and_write(&database).await,
                _ => steps::write(&database, u32::MAX).await,
            },
            Recovering | CleaningUp => steps::write(&database, 3).await,
            Closing => {
                let before = second_segments(path);
                steps::write(&database, 5).await;
                // More than half of the first segment of a shard is used, so that the next is made, and stays unused.
                database.kv().put(steps::RUNS[0], "large", vec![1_u8; 600 << 10]).await.unwrap();
                database.flush().await.unwrap();
                while second_segments(path) == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Failing => fail_on_one_shard(&database).await,
        }
        database.close().await.unwrap();
    });
}

/// Where backups of a database go.
fn backup_of(path: &Path) -> PathBuf {
    path.with_extension("backup")
}

async fn back_up_and_write(database: &Database, path: &Path) {
    steps::write(database, 3).await;
    let back_up = async {
        println!("{BACKING_UP}");
        database.backup(backup_of(path)).await.unwrap();
        println!("{BACKED_UP}");
    };
    futures::future::join(back_up, steps::write(database, u32::MAX)).await;
}

async fn checkpoint_and_write(database: &Database) {
    let checkpoint = async {
        loop {
            database.checkpoint().await.unwrap();
        }
    };
    futures::future::join(checkpoint, steps::write(database, u32::MAX)).await;
}

/// How many shards of this opening and others have more than one segment.
fn second_segments(path: &Path) -> usize {
    let names = fs::read_dir(path.join("log")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with("-000001.log")).count()
}

/// The log of one shard comes to the limit of file sizes, that of the other does not: of a transaction over both, one part
/// is written, and the coordinator does not know about the other.
async fn fail_on_one_shard(database: &Database) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    steps::write(database, 3).await;
    let full = steps::RUNS[0];
    database.kv().put(full, "large", vec![1_u8; 400 << 10]).await.unwrap();
    let limit = Rlimit { current: Some(300 << 10), maximum: getrlimit(Resource::Fsize).maximum };
    setrlimit(Resource::Fsize, limit).unwrap();
    let refused = steps::take_step(database, 0).await.expect_err("a part cannot be written");
    panic!("the abort is logged before anybody hears of it: {refused}");
}

// The test.

/// What a process had done when it ended.
#[derive(Default)]
struct Ended {
    acknowledged: Steps,
    is_killed: bool,
    /// What was acknowledged when it began a backup.
    before_backup: Option<Steps>,
    is_backed_up: bool,
}

/// Lets a process die at a point.
fn run_to(point: KillPoint, times: u64, setting: Setting, meanwhile: Meanwhile, path: &Path) -> Ended {
    let is_buffered = matches!(setting.mode, DurabilityMode::Buffered { .. });
    let is_by_key = setting.partitioning == Partitioning::ByKey;
    let is_on_threads = setting.driver == Driver::Threads;
    let orders =
        format!("{point:?} {times} {is_buffered} {is_by_key} {is_on_threads} {} {meanwhile:?}", setting.shards);
    // A write behind the limit of file sizes is an error, and no signal.
    let child = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(ORDERS, orders)
        .env("IN_MEM_TEST_PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut ended = Ended::default();
    for line in lines {
        // The first stands behind the name of the test.
        let line = line.rsplit("... ").next().unwrap_or_default();
        ended.acknowledged.extend(steps::acknowledged(line));
        ended.is_killed |= line == format!("killed at {point:?}");
        if line == BACKING_UP {
            ended.before_backup = Some(ended.acknowledged.clone());
        }
        ended.is_backed_up |= line == BACKED_UP;
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ends_well = if ended.is_killed { output.status.signal() == Some(9) } else { output.status.success() };
    assert!(ends_well, "{point:?} {times} {setting:?} {}\n{said}", output.status);
    ended
}

/// A backup has everything that was acknowledged before it began, and is consistent, or it does not open.
fn check_backup(point: KillPoint, setting: Setting, ended: &Ended, path: &Path) {
    let Some(before) = &ended.before_backup else { return };
    let path = backup_of(path);
    if !fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
        return assert!(!ended.is_backed_up);
    }
    match on_tokio(async { Database::open(&path).await }) {
        Ok(database) => {
            on_tokio(database.close()).unwrap();
            assert!(!matches!(phase(point), BackingUp(_)), "it is not finished: {point:?}");
            let setting = Setting { mode: DurabilityMode::Strict, ..setting };
            on_tokio(steps::check(&path, setting, before, &Steps::new()));
        }
        Err(Error::Corruption(what)) => assert!(!ended.is_backed_up, "{point:?}: {what}"),
        Err(error) => panic!("{point:?}: {error}"),
    }
}

/// What a lane works on.
struct Lane {
    directory: TempDir,
    cycles: usize,
    /// What was found behind the last cycle.
    found: Steps,
}

impl Lane {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), cycles: 0, found: Steps::new() }
    }

    /// Returns how often a process died.
    fn cycle(&mut self, point: KillPoint, seed: u64) -> u64 {
        if self.cycles == CYCLES_IN_A_DIRECTORY {
            *self = Self::new();
        }
        self.cycles += 1;
        let mut dice = Dice(seed);
        let phase = phase(point);
        let is_buffered = is_buffered_only(point).unwrap_or(dice.below(2) == 0);
        let setting = setting(is_buffered, dice.below(2) == 0, dice.below(2) == 0, 2);
        let meanwhile = match phase {
            BackingUp(_) => Meanwhile::Backup,
            Checkpointing(_) => Meanwhile::Checkpoints,
            Writing(_) => dice.pick(&[Meanwhile::Nothing, Meanwhile::Backup, Meanwhile::Checkpoints]),
            Recovering | CleaningUp | Closing | Failing => Meanwhile::Nothing,
        };
        let path = self.directory.path().join("database");
        let (mut told, mut kills) = (Steps::new(), 0);
        let mut run = |point, times, meanwhile, shards| {
            let setting = Setting { shards, ..setting };
            let ended = run_to(point, times, setting, meanwhile, &path);
            check_backup(point, setting, &ended, &path);
            told.extend(&ended.acknowledged);
            kills += u64::from(ended.is_killed);
            ended.is_killed
        };
        let makes_a_segment = [KillPoint::SegmentCreated, KillPoint::SegmentZeroed, KillPoint::SegmentSynced];
        let writes = [KillPoint::BatchBegun, KillPoint::BatchTold, KillPoint::VoteSent, KillPoint::ReservationDue];
        match phase {
            CleaningUp => assert!(run(dice.pick(&makes_a_segment), 1, Meanwhile::Nothing, 2)),
            Recovering => assert!(run(dice.pick(&writes), 1 + dice.below(20), Meanwhile::Nothing, 2)),
            Writing(_) | BackingUp(_) | Checkpointing(_) | Closing | Failing => {}
        }
        let times =
            if let Writing(most) | BackingUp(most) | Checkpointing(most) = phase { 1 + dice.below(most) } else { 1 };
        // What happens in a commit over several shards, or to one of two, happens with two.
        let shards = match phase {
            Recovering | CleaningUp | Checkpointing(_) => dice.pick(&SHARDS),
            Writing(_) | BackingUp(_) | Closing | Failing => 2,
        };
        assert!(
            run(point, times, meanwhile, shards),
            "nobody comes to it: {point:?} times={times} {shards} {setting:?}"
        );
        // After a close in good order there may be nothing to judge: then that process ends by itself.
        let recovers = [
            KillPoint::RecoverySettled,
            KillPoint::RecoveryJudged,
            KillPoint::RecoveryBuilt,
            KillPoint::ManifestSynced,
            KillPoint::ManifestRenamed,
            KillPoint::RecoverySaved,
            KillPoint::StrayRemoved,
        ];
        for _ in 0..dice.below(3) {
            run(dice.pick(&recovers), 1, Meanwhile::Nothing, dice.pick(&SHARDS));
        }
        let setting = Setting { shards: dice.pick(&SHARDS), ..setting };
        self.found = on_tokio(steps::check(&path, setting, &told, &self.found));
        if meanwhile == Meanwhile::Backup {
            let _ = fs::remove_dir_all(backup_of(&path));
        }
        kills
    }
}

#[test]
fn every_point_is_survived() {
    if let Ok(orders) = std::env::var(ORDERS) {
        return obey(&orders, Path::new(&std::env::var_os("IN_MEM_TEST_PATH").unwrap()));
    }
    let rounds: u64 = std::env::var("KILLS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let points = KillPoint::ALL;
    let lane = |number: u64| {
        let (mut lane, mut kills) = (Lane::new(), BTreeMap::new());
        for cycle in (number..rounds * points.len() as u64).step_by(usize::try_from(LANES).unwrap()) {
            let point = points[usize::try_from(cycle).unwrap() % points.len()];
            *kills.entry(point).or_insert(0) += lane.cycle(point, cycle);
        }
        kills
    };
    let lanes: Vec<BTreeMap<KillPoint, u64>> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|number| scope.spawn(move || lane(number))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("the lane ends well")).collect()
    });
    let kills: u64 = lanes.iter().flat_map(BTreeMap::values).sum();
    println!("{} points, {} cycles, {kills} kills", points.len(), rounds * points.len() as u64);
    assert!(points.iter().all(|point| lanes.iter().any(|lane| lane.contains_key(point))), "every point has its turn");
}
