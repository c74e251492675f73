//! A document whose tables are rewritten, and whose prose is left alone.

use std::path::Path;

use crate::Result;

const END: &str = "<!-- end -->";

pub(crate) struct Document {
    path: &'static Path,
    text: String,
}

impl Document {
    /// The document that has a place for a table.
    pub(crate) fn holding(name: &str) -> Result<Self> {
        for path in ["docs/PERFORMANCE.md", "README.md"].map(Path::new) {
            let text = std::fs::read_to_string(path)?;
            if text.contains(&start(name)) {
                return Ok(Self { path, text });
            }
        }
        Err(format!("no document has a place for the table {name}").into())
    }

    pub(crate) fn replace(self, name: &str, block: &str) -> Result<()> {
        Ok(std::fs::write(self.path, replaced(&self.text, name, block).ok_or("a table has no end")?)?)
    }
}

fn start(name: &str) -> String {
    format!("<!-- table: {name} -->\n")
}

/// The text with another block between the marks.
fn replaced(text: &str, name: &str, block: &str) -> Option<String> {
    let start = start(name);
    let (before, rest) = text.split_once(&start)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{start}\n{block}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_of_a_table_is_replaced() {
        let text = "a\n<!-- table: x -->\nold\n<!-- end -->\nb\n<!-- table: y -->\nold\n<!-- end -->\nc";
        let new = replaced(text, "y", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- table: x -->\nold\n<!-- end -->\nb\n<!-- table: y -->\n\nnew\n<!-- end -->\nc");
        assert_eq!(replaced(&new, "y", "new\n").unwrap(), new);
        assert_eq!(replaced(text, "z", ""), None);
    }
}
