//! Output: tables for people, JSON lines for programs.
//!
//! - A result is rows under names. As JSON each row is one line, an object of all its names; as a table, one line each.
//! - Written as it comes, so that a long result begins at once; a table is printed when it is whole.

use std::io::{self, BufWriter, IsTerminal, Write};

use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, Table, presets};
use in_mem::blocking::serde_json::{self, Map, Value as Json};

use crate::change::{shortened, visible};
use crate::failure::Failure;

/// A terminal that says it is narrower is taken for this wide.
const NARROWEST: u16 = 40;
/// A terminal that does not say how wide it is is taken for this wide.
const USUAL: u16 = 80;
/// What somebody copies from a table to ask on with, and cannot if it is folded; and what is a day in a narrow table.
const WHOLE: [&str; 5] = ["run", "version", "id", "parent", "created_at"];

/// Where results go.
pub(crate) struct Output {
    out: Box<dyn Write>,
    is_json: bool,
    is_styled: bool,
}

impl Output {
    /// `json`: JSON lines even on a terminal.
    pub(crate) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_styled = is_terminal && !no_color;
        Self { out: Box::new(BufWriter::new(stdout)), is_json: json || !is_terminal, is_styled }
    }

    /// Whether results are JSON lines.
    pub(crate) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// Rows under these names.
    pub(crate) fn rows<const N: usize>(
        &mut self,
        names: [&str; N],
        rows: impl IntoIterator<Item = [Json; N]>,
    ) -> Result<(), Failure> {
        if self.is_json {
            for row in rows {
                let object: Map<String, Json> = names.iter().map(|name| (*name).to_owned()).zip(row).collect();
                self.line(&Json::Object(object))?;
            }
            return Ok(());
        }
        let mut table = Self::table();
        table.set_header(names.map(|name| self.heading(name)));
        for row in rows {
            table.add_row(row.map(|cell| shortened(&text(&cell))));
        }
        keep_whole(&mut table, &names);
        writeln!(self.out, "{table}")?;
        Ok(())
    }

    /// One thing with named properties: a line of JSON, or a table of one property a line.
    pub(crate) fn record<'a>(&mut self, fields: impl IntoIterator<Item = (&'a str, Json)>) -> Result<(), Failure> {
        if self.is_json {
            let object: Map<String, Json> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            return self.line(&Json::Object(object));
        }
        let mut table = Self::table();
        for (name, value) in fields {
            table.add_row([self.heading(name), Cell::new(visible(&text(&value)))]);
        }
        writeln!(self.out, "{table}")?;
        Ok(())
    }

    /// A value as a line of JSON.
    pub(crate) fn line(&mut self, value: &Json) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// For what is neither: bytes as they are.
    pub(crate) fn raw(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.out, "{text}")?;
        Ok(())
    }

    /// Nothing is held back any more.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// How many columns of text the terminal has.
    pub(crate) fn width() -> u16 {
        Self::table().width().unwrap_or(USUAL)
    }

    fn table() -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        match table.width() {
            None | Some(0) => _ = table.set_width(USUAL),
            Some(width) => _ = table.set_width(width.max(NARROWEST)),
        }
        table
    }

    fn heading(&self, name: &str) -> Cell {
        let cell = Cell::new(name);
        if self.is_styled { cell.add_attribute(Attribute::Bold) } else { cell }
    }
}

/// Folds nothing in the columns that are to be whole, as long as those take no more than two thirds of the width.
fn keep_whole(table: &mut Table, names: &[&str]) {
    let mut left = table.width().unwrap_or(USUAL) / 3 * 2;
    let widths = table.column_max_content_widths();
    for ((name, column), width) in names.iter().zip(table.column_iter_mut()).zip(widths) {
        let width = width.saturating_add(column.padding_width());
        if WHOLE.contains(name) && width <= left {
            left -= width;
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
}

/// A value in a cell: texts without quotes, nothing for null.
fn text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(items) if items.iter().all(Json::is_string) => {
            items.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Rc<RefCell<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(is_json: bool, print: impl FnOnce(&mut Output) -> Result<(), Failure>) -> String {
        let page = Page::default();
        print(&mut Output { out: Box::new(page.clone()), is_json, is_styled: false }).expect("it is printed");
        String::from_utf8(page.0.take()).expect("it is text")
    }

    #[test]
    fn rows_are_lines_of_json_or_of_a_table() {
        let rows = || [["a".into(), 1.into()], [vec!["b", "c"].into(), Json::Null]];
        let json = printed(true, |output| output.rows(["name", "count"], rows()));
        assert_eq!(json, "{\"name\":\"a\",\"count\":1}\n{\"name\":[\"b\",\"c\"],\"count\":null}\n");
        let table = printed(false, |output| output.rows(["name", "count"], rows()));
        let lines: Vec<&str> = table.lines().map(str::trim).collect();
        assert_eq!(lines, ["name  count", "a     1", "b, c"], "{table}");
    }

    #[test]
    fn a_record_is_one_line_of_json_or_a_table_of_its_fields() {
        let fields = || [("name", "a".into()), ("count", 1.into())];
        assert_eq!(printed(true, |output| output.record(fields())), "{\"name\":\"a\",\"count\":1}\n");
        let escape = printed(false, |output| output.record([("name", "\u{1b}[2J".into())]));
        assert!(escape.contains("\\u{1b}[2J"), "{escape}");
        let table = printed(false, |output| output.record(fields()));
        assert_eq!(table.lines().map(str::trim).collect::<Vec<_>>(), ["name   a", "count  1"], "{table}");
    }

    #[test]
    fn what_names_something_is_not_folded() {
        let (version, id) = ("1795456019157891355", "18eabdbc98a3a378");
        let row = || [[version.into(), id.into(), id.into(), "word ".repeat(40).into()]];
        let table = printed(false, |output| output.rows(["version", "id", "time", "what"], row()));
        let first = table.lines().nth(1).expect("it has a row");
        assert!(first.contains(version) && first.contains(id), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn a_narrow_table_folds_what_it_must() {
        let long = "x".repeat(60);
        let table = printed(false, |output| output.rows(["id", "run"], [[long.clone().into(), long.clone().into()]]));
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn what_somebody_stored_turns_no_text_around() {
        let table = printed(false, |output| output.rows(["key"], [["a\u{202e}b\u{2066}".into()]]));
        assert!(table.contains(r"a\u{202e}b\u{2066}"), "{table}");
    }
}
