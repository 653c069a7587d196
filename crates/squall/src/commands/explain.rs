//! What the words mean, and what a file may say.

use crate::cli::Format;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::glossary::{WORDS, find};
use crate::output::{self, data};

/// `squall schema`.
pub fn schema() -> Outcome {
    let schema = serde_json::to_string_pretty(&squall_core::spec::schema())
        .map_err(|e| Failure::local(e.to_string(), "report this"))?;
    data(&format!("{schema}\n")).map(|()| Exit::Held)
}

/// `squall explain`.
pub fn explain(word: Option<&str>, format: Format) -> Outcome {
    let Some(text) = word else {
        let table = |words: &&[output::glossary::Word]| {
            let line = |w: &output::glossary::Word| {
                let first = w.meaning.split_inclusive(". ").next().unwrap_or_default();
                let first = first.lines().next().unwrap_or_default().trim_end();
                format!("{:<14} {first}\n", w.word)
            };
            words.iter().map(line).collect()
        };
        return super::show(format, &WORDS, table);
    };
    let Some(word) = find(text) else {
        return Err(Failure::usage(
            format!("`{text}` is not explained"),
            "squall explain lists what is",
        ));
    };
    super::show(format, &word, |w| format!("{}\n{}\n", w.word, w.meaning))
}
