//! `shell`: the same questions without the path, one a line.
//!
//! - The database is opened once: answers are fast, and all of one moment, until `reload`.
//! - On a terminal a line can be edited and recalled, and a failure ends nothing. Elsewhere the first failure ends it.

use std::io::{self, BufRead, IsTerminal};

use clap::builder::Resettable;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::Question;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{Place, Session};

const EXAMPLES: &str = "\
Examples:
  in-mem shell agents.db
  echo 'kv nightly get goal' | in-mem shell agents.db";

/// The option that has the path, which nobody is to give: a name that nobody types, or comes near by a slip.
const PATH_OPTION: &str = "\u{2400}";

const COMMANDS: &str = "And: `reload` opens the database again, `exit` or the end of the input leaves.";

/// Asks one question after the other, without the path
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Shell {
    #[command(flatten)]
    place: Place,
}

/// What can be said in a shell.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, after_help = COMMANDS)]
struct Line {
    #[command(subcommand)]
    question: Question,
}

impl Shell {
    pub(crate) fn run(self, output: &mut Output) -> Result<(), Failure> {
        let mut session = Session::hold(&self.place)?;
        if !io::stdin().is_terminal() {
            for line in io::stdin().lock().lines() {
                if self.answer(&line?, &mut session, output)?.is_none() {
                    break;
                }
            }
            return Ok(());
        }
        let cannot = |error: ReadlineError| Failure::Failed(error.to_string());
        let mut editor = DefaultEditor::new().map_err(cannot)?;
        loop {
            match editor.readline("in-mem> ") {
                Ok(line) => {
                    editor.add_history_entry(&line).map_err(cannot)?;
                    match self.answer(&line, &mut session, output) {
                        Ok(Some(())) => {}
                        Ok(None) => return Ok(()),
                        Err(failure) => failure.say(),
                    }
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(cannot(error)),
            }
        }
    }

    /// `None` if it is over.
    fn answer(&self, line: &str, session: &mut Session, output: &mut Output) -> Result<Option<()>, Failure> {
        let words = words(line)?;
        match words.first().map(String::as_str) {
            None => return Ok(Some(())),
            Some("exit" | "quit") => return Ok(None),
            Some("reload") => *session = Session::hold(&self.place)?,
            Some(_) => match self.question(words) {
                Ok(question) => {
                    let answered = question.run(session, output);
                    output.finish()?;
                    answered?;
                }
                Err(error) if error.use_stderr() => return Err(Failure::Usage(error.to_string().trim_end().into())),
                Err(help) => output.text(&help.to_string())?,
            },
        }
        output.finish()?;
        Ok(Some(()))
    }

    /// The path is not asked for: it is an option that is never shown, and has its value. Nor are there examples that give one.
    fn question(&self, words: Vec<String>) -> Result<Question, clap::Error> {
        let path = self.place.path.clone().into_os_string();
        let command = Line::command().mut_subcommands(|command| {
            command.after_help(Resettable::Reset).mut_arg("path", |argument| {
                argument.long(PATH_OPTION).required(false).default_value(path.clone()).hide(true)
            })
        });
        let mut matches = command.try_get_matches_from(words)?;
        Ok(Line::from_arg_matches_mut(&mut matches)?.question)
    }
}

/// The words of a line: apart by blanks, which quotes and backslashes make part of a word.
fn words(line: &str) -> Result<Vec<String>, Failure> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(next) = chars.next() {
        match (quote, next) {
            (None, '\'' | '"') => {
                quote = Some(next);
                word.get_or_insert_default();
            }
            (Some(open), next) if next == open => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, next) => word.get_or_insert_default().push(next),
        }
    }
    if quote.is_some() {
        return Err(Failure::Usage("a quote is not closed".into()));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_apart_by_blanks_that_are_not_quoted() {
        let of = |line: &str| words(line).ok();
        assert_eq!(of("  kv  a list "), Some(["kv", "a", "list"].map(String::from).to_vec()));
        assert_eq!(
            of(r#"a 'b c' "d \" e" f\ g '' "#),
            Some(["a", "b c", "d \" e", "f g", ""].map(String::from).to_vec())
        );
        assert_eq!(of("a 'b"), None);
    }
}
