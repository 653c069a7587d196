//! What is seen. Each answer is one serialisable value ("view"); the table is made from the same
//! value as JSON and YAML, so that the three never disagree.
//!
//! Data goes to stdout, talk to stderr. Fields of a view may be added, not renamed: others build on
//! them.

pub mod doctor;
pub mod experiment;
pub mod faults;
pub mod glossary;
pub mod judgement;
pub mod plan;
pub mod status;
pub mod stop;
pub mod summary;
pub mod table;
pub mod words;

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;

use crate::cli::Format;
use crate::exit::Failure;

/// Prints one answer in the wanted form.
///
/// # Errors
/// Stdout cannot be written. A reader who has gone away is no error.
pub fn emit<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    data(&render(format, value, table)?)
}

/// The text that [`emit`] prints, ending in a newline.
///
/// # Errors
/// The value cannot be put into that form.
pub fn render<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<String, Failure> {
    let bad = |e: String| Failure::local(format!("output: {e}"), "try another -o");
    let mut text = match format {
        Format::Table => visible(&table(value)).into_owned(),
        Format::Json => {
            let json = serde_json::to_string_pretty(value).map_err(|e| bad(e.to_string()))?;
            as_json(&json)
        }
        Format::Yaml => serde_saphyr::to_string(value).map_err(|e| bad(e.to_string()))?,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Prints text as data.
///
/// # Errors
/// Stdout cannot be written. A reader who has gone away is no error.
pub fn data(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::local(format!("stdout: {e}"), "check where the output goes"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints talk.
pub fn talk(text: impl AsRef<str>) {
    // Nobody is left to tell where stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{}", visible(text.as_ref()));
}

/// What others wrote (names, labels, errors) as text that moves no cursor and paints nothing.
fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() && !matches!(c, '\n' | '\t'), rust_like)
}

/// JSON leaves some controls of terminals as they are.
fn as_json(json: &str) -> String {
    let escape = |c| format!("\\u{:04x}", u32::from(c));
    escaped(json, |c| matches!(c, '\u{7f}'..='\u{9f}'), escape).into_owned()
}

/// As `\u{1b}`.
fn rust_like(c: char) -> String {
    c.escape_default().collect()
}

/// `text` with its hidden characters escaped.
fn escaped(text: &str, is_hidden: fn(char) -> bool, escape: fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for c in text.chars() {
        if is_hidden(c) { out.push_str(&escape(c)) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_reaches_the_terminal_as_an_order() {
        assert_eq!(visible("a\u{1b}[31mb\u{9b}2J\r\nc\td"), "a\\u{1b}[31mb\\u{9b}2J\\r\nc\td");
        assert_eq!(as_json("{\"a\": \"ä\u{9b}2J\"}"), "{\"a\": \"ä\\u009b2J\"}");
        let rows = vec![["h1\nh2  armed".to_owned(), "x".to_owned()]];
        let table = table::table(["HOST", "STATE"], rows);
        assert_eq!(table.lines().count(), 2, "{table}");
    }
}
