//! `events`: the event log of a run, and what is appended to it.

use std::time::Duration;

use clap::Args;
use in_mem::blocking::serde_json::{Value as Json, json};
use in_mem::blocking::{Database, Event, RunId};

use crate::change::shortened;
use crate::failure::Failure;
use crate::output::{Output, hex};
use crate::session::{Place, Session};
use crate::time::{date, time};

const EXAMPLES: &str = "\
Examples:
  in-mem events agents.db nightly
  in-mem events agents.db nightly --from 100 --type tool_called
  in-mem events agents.db nightly --follow | jq .payload";

const INTERVAL: Duration = Duration::from_millis(500);

/// Shows the event log of a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Events {
    #[command(flatten)]
    place: Place,
    /// The run
    run: String,
    /// From this sequence on
    #[arg(long, default_value_t = 0, value_name = "SEQUENCE")]
    from: u64,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Goes on with what another process appends, until it is interrupted: looks every half second
    #[arg(long)]
    follow: bool,
}

impl Events {
    pub(crate) fn run(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        if self.follow && session.is_held() {
            let what =
                "`--follow` ends with the process only, and a shell with it: ask `in-mem events PATH RUN --follow`";
            return Err(Failure::Usage(what.into()));
        }
        let (database, run) = session.open_run(&self.place, &self.run)?;
        let mut next = self.print(&database, run, self.from, false, output)?;
        drop(database);
        if !self.follow {
            return Ok(());
        }
        loop {
            output.finish()?;
            std::thread::sleep(INTERVAL);
            let database = Session::default().open(&self.place)?;
            next = self.print(&database, run, next, true, output)?;
        }
    }

    /// Prints what is there from a sequence on; `is_more`: below what was printed before. Returns the sequence behind the last.
    fn print(
        &self,
        database: &Database,
        run: RunId,
        from: u64,
        is_more: bool,
        output: &mut Output,
    ) -> Result<u64, Failure> {
        let events = database.events().stream(run, from).collect::<Result<Vec<Event>, _>>()?;
        let next = events.last().map_or(from, |event| event.sequence + 1);
        let is_meant = |event: &&Event| self.event_type.as_ref().is_none_or(|meant| *meant == event.event_type);
        let mut meant = events.iter().filter(is_meant);
        if is_more && !output.is_json() {
            meant.try_for_each(|event| {
                let line = format!("{} {} {}", event.sequence, event.event_type, event.payload);
                output.text(&format!(" {}  {}", date(event.timestamp), shortened(&line)))
            })?;
        } else {
            let rows: Vec<_> = meant.map(|event| row(output, event)).collect();
            output.rows(["sequence", "type", "timestamp", "payload", "hash"], rows)?;
        }
        Ok(next)
    }
}

fn row(output: &Output, event: &Event) -> [Json; 5] {
    let mut hash = hex(&event.hash);
    if !output.is_json() {
        hash.truncate(8);
    }
    let at = time(output, event.timestamp);
    [json!(event.sequence), json!(event.event_type), at, event.payload.to_json(), json!(hash)]
}
