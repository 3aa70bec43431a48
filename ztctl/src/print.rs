//! Output. A reader that goes away (`| head`) is no error.

use std::io::Write;

use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// One JSON document on one line.
pub(crate) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => eprintln!("ztctl: cannot write JSON: {error}"),
    }
}

/// One JSON document for people.
pub(crate) fn pretty_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => eprintln!("ztctl: cannot write JSON: {error}"),
    }
}

/// One line, at once.
pub(crate) fn line(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Bytes as they are, at once.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(bytes).and_then(|()| output.flush());
}

/// A table in the manner of kubectl: no lines, two spaces between columns.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(header.to_vec())
        .add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for row in table.lines() {
        line(row.trim_end());
    }
}
