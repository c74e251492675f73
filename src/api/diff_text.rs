//! Diff text: the difference between two runs, to be read.
//!
//! - One line for each entry, or for each place at which the two forms of it differ, if they are maps or lists.
//! - `+` only run `b` has it, `-` only run `a`, `~` both.

use std::fmt;

use serde_json::Value as Json;

use super::diff::{Deed, Divergence, RunDiff};
use crate::base::value::Value;
use crate::primitive::diff::DiffEntry;
use crate::primitive::path_diff::path_diff;

/// How many characters of a value `{}` shows; `{:#}` shows all of them.
const SHOWN: usize = 100;
/// How many characters that two long values have in common are shown before the first that differs.
const IN_COMMON: usize = 20;

impl fmt::Display for RunDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("both runs did the same");
        }
        let Self { added, removed, modified, divergence, .. } = self;
        write!(f, "{} added, {} removed, {} modified", added.len(), removed.len(), modified.len())?;
        for entry in added.iter().chain(removed).chain(modified) {
            write_entry(f, entry)?;
        }
        divergence.as_ref().map_or(Ok(()), |divergence| write!(f, "\n{divergence}"))
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "first divergence: step {}", self.index)?;
        for (name, deeds) in ["a", "b"].iter().zip(&self.did) {
            match deeds {
                Some(deeds) => deeds.iter().try_for_each(|deed| write_deed(f, name, deed))?,
                None => write!(f, "\n  {name}: no step any more")?,
            }
        }
        Ok(())
    }
}

fn write_entry(f: &mut fmt::Formatter<'_>, entry: &DiffEntry) -> fmt::Result {
    let (a, b) = (entry.a.as_ref().map(Value::to_json), entry.b.as_ref().map(Value::to_json));
    write!(f, "\n{} {} {}", sign(a.as_ref(), b.as_ref()), entry.primitive, entry.key.escape_debug())?;
    if let Some(path) = &entry.path {
        write!(f, " {}", path.escape_debug())?;
    }
    let places = match (&a, &b) {
        (Some(a), Some(b)) => path_diff(a, b),
        _ => Vec::new(),
    };
    if places.iter().all(|place| place.path.is_empty()) {
        return write_sides(f, a.as_ref(), b.as_ref());
    }
    for place in &places {
        let (a, b) = (place.a.as_ref(), place.b.as_ref());
        write!(f, "\n    {} {}", sign(a, b), place.path.escape_debug())?;
        write_sides(f, a, b)?;
    }
    Ok(())
}

fn write_deed(f: &mut fmt::Formatter<'_>, name: &str, deed: &Deed) -> fmt::Result {
    write!(f, "\n  {name}: {} {}", deed.primitive, deed.key.escape_debug())?;
    match &deed.value {
        Some(value) => write_sides(f, Some(&value.to_json()), None),
        None => f.write_str(" deleted"),
    }
}

const fn sign(a: Option<&Json>, b: Option<&Json>) -> char {
    match (a, b) {
        (None, _) => '+',
        (_, None) => '-',
        _ => '~',
    }
}

fn write_sides(f: &mut fmt::Formatter<'_>, a: Option<&Json>, b: Option<&Json>) -> fmt::Result {
    let texts: Vec<String> = a.into_iter().chain(b).map(Json::to_string).collect();
    let from = match &texts[..] {
        [a, b] if !f.alternate() => first_shown(a, b),
        _ => 0,
    };
    let shown: Vec<_> =
        texts.iter().map(|text| if f.alternate() { text.clone() } else { excerpt(text, from) }).collect();
    write!(f, ": {}", shown.join(" -> "))
}

/// From which character on two texts are shown, so that one sees where they differ.
fn first_shown(a: &str, b: &str) -> usize {
    let in_common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    if in_common < SHOWN / 2 { 0 } else { in_common - IN_COMMON }
}

fn excerpt(text: &str, from: usize) -> String {
    let before = if from > 0 { "…" } else { "" };
    let mut rest = text.chars().skip(from);
    let shown: String = rest.by_ref().take(SHOWN).collect();
    let after = if rest.next().is_some() { "…" } else { "" };
    format!("{before}{shown}{after}")
}
