//! What is wrong with a file, and where.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// Where: `faults[0].partition.peers[1]`.
    pub path: String,
    /// What is wrong, naming the value.
    pub what: String,
    /// What to do; empty where `what` says it.
    pub remedy: String,
    /// The file may stay as it is: the fleet is what does not suit it now.
    pub passing: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl std::error::Error for Problem {}

/// Every problem found so far, each once.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(
        &mut self,
        path: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.note(path.into(), what.into(), remedy.into(), false);
    }

    /// One that is the fleet's and not the file's.
    pub(super) fn add_passing(
        &mut self,
        path: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.note(path.into(), what.into(), remedy.into(), true);
    }

    fn note(&mut self, path: String, what: String, remedy: String, passing: bool) {
        let problem = Problem { path, what, remedy, passing };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Where nothing was found, whatever stands in its place is whole.
    pub(super) fn into_result<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(self.0),
        }
    }
}

/// Names shown as known, at most.
const SHOWN: usize = 8;
/// Characters of a name that another may be near to, at least: of h1 every other host's is.
const NEAR: usize = 4;

/// Says which of the `known` names was probably meant by `name`, or which are known at all.
#[must_use]
pub fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let lower = name.to_lowercase();
    let long = lower.chars().count() >= NEAR;
    let far = |k: &str| if long { 1 + k.len() / 4 } else { 0 };
    let mut near: Vec<(usize, &str)> = known
        .iter()
        .map(|k| (distance(&lower, &k.to_lowercase()), *k))
        .filter(|(d, k)| *d <= far(k) || (!lower.is_empty() && k.starts_with(&lower)))
        .collect();
    near.sort_unstable();
    if !near.is_empty() {
        let near: Vec<String> = near.iter().take(3).map(|(_, k)| format!("`{k}`")).collect();
        return format!("did you mean {}?", near.join(" or "));
    }
    match known.len() {
        0 => "none is known".to_owned(),
        n if n <= SHOWN => format!("known: {}", known.join(", ")),
        n => format!("known: {} and {} more", known[..SHOWN].join(", "), n - SHOWN),
    }
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_otherwise_the_known_ones() {
        assert_eq!(distance("kitten", "sitting"), 3);
        let known = ["h1", "h2", "web-1", "web-2", "database"];
        let say = |name| suggest(name, known.into_iter());
        assert_eq!(say("databse"), "did you mean `database`?");
        assert_eq!(say("H1"), "did you mean `h1`?");
        assert_eq!(say("c1"), "known: database, h1, h2, web-1, web-2");
        assert_eq!(say("web"), "did you mean `web-1` or `web-2`?");
        assert_eq!(say("zookeeper"), "known: database, h1, h2, web-1, web-2");
        assert_eq!(suggest("x", std::iter::empty()), "none is known");
    }
}
