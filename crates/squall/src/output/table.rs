//! Plain tables: columns, two spaces, no frame; easy for an eye and for `awk`.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with a heading line. Without rows there is nothing to show.
#[must_use]
pub fn table<const N: usize>(heading: [&str; N], rows: Vec<[String; N]>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading);
    for row in rows {
        // A cell is one line, whoever wrote it.
        table.add_row(
            row.map(|cell| super::escaped(&cell, char::is_control, super::rust_like).into_owned()),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// What stands in a cell where there is nothing.
pub const NONE: &str = "-";

/// The text, or [`NONE`] for an empty one.
#[must_use]
pub fn or_none(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { text.to_owned() }
}

/// Blocks of text with an empty line between them; empty blocks leave none.
#[must_use]
pub fn blocks(blocks: impl IntoIterator<Item = String>) -> String {
    let full: Vec<String> =
        blocks.into_iter().map(|b| b.trim_end().to_owned()).filter(|b| !b.is_empty()).collect();
    full.join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let text = table(
            ["NAME", "STATE"],
            vec![["h1".into(), "armed".into()], ["h10".into(), String::new()]],
        );
        assert_eq!(text, "NAME  STATE\nh1    armed\nh10\n");
        assert_eq!(table(["A"], vec![]), "");
    }

    #[test]
    fn empty_blocks_leave_no_gap() {
        assert_eq!(blocks(["a\n".into(), String::new(), "b".into()]), "a\n\nb\n");
    }
}
