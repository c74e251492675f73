//! What was measured on, in a line.

use std::fs::read_to_string;
use std::process::Command;

use crate::Result;

/// Cores, processor, kernel, file system and commit.
pub(crate) fn describe() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let processors = read_to_string("/proc/cpuinfo")?;
    let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = processor.map_or("processor", |(_, name)| name);
    let kernel = read_to_string("/proc/sys/kernel/osrelease")?;
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = if git(&["status", "--porcelain", "--", "src", "benches"])?.is_empty() { "" } else { " and changes" };
    let (kernel, file_system) = (kernel.trim(), file_system()?);
    Ok(format!("*{cores} cores ({processor}), Linux {kernel}, {file_system}, commit {commit}{changed}*"))
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").args(arguments).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The type of the file system of this directory: that of the longest mount point above it.
fn file_system() -> Result<String> {
    let (here, mounts) = (std::env::current_dir()?, read_to_string("/proc/self/mounts")?);
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| here.starts_with(fields[1]));
    let mount = above.max_by_key(|fields| fields[1].len()).ok_or("this directory is on no file system")?;
    Ok(mount[2].to_owned())
}
