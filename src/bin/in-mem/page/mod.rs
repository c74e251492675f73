//! Page: a run, or two of them side by side, as one HTML file that needs nothing else.
//!
//! - What the runs hold is data of the page, never part of its markup: nothing in it can become an element or a script.

mod comparison;
mod edit;
mod story;

use in_mem::blocking::{Database, Result, RunId, serde_json};
use serde::Serialize;

use self::comparison::Comparison;
use self::story::Story;

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(
    include_str!("values.js"),
    include_str!("run.js"),
    include_str!("list.js"),
    include_str!("page.js"),
    include_str!("difference.js")
);

/// What the page shows.
#[derive(Serialize)]
struct Content {
    runs: Vec<Story>,
    comparison: Option<Comparison>,
}

/// The page of a run, and of another one beside it.
pub(crate) fn page(db: &Database, run: RunId, other: Option<RunId>) -> Result<String> {
    let mut runs = vec![Story::of(db, run)?];
    let mut comparison = None;
    if let Some(other) = other {
        runs.push(Story::of(db, other)?);
        comparison = Some(Comparison::of(&db.diff_runs(run, other)?, &runs[0], &runs[1]));
    }
    let content = serde_json::to_string(&Content { runs, comparison })?;
    let before_data = HTML.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT);
    Ok(before_data.replace("{{content}}", &escaped(&content)))
}

/// JSON text that is safe inside a script element: `<` is in strings only, and nothing ends the element without it.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c")
}
