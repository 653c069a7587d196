//! Where in a file something stands that is known by its path, as `targets.hosts[0]`: who resolves a file
//! against the fleet has no text of it any more.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::exit::{Exit, Failure};

/// Every value of a file, with its place.
pub struct Places {
    file: PathBuf,
    root: Spanned<Node>,
}

enum Node {
    Map(Vec<(String, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Leaf,
}

impl Places {
    /// Those of a YAML or JSON text; `None` where it is neither.
    pub fn new(file: &Path, text: &str) -> Option<Places> {
        let root = serde_saphyr::from_str(text).ok()?;
        Some(Places { file: file.to_owned(), root })
    }

    /// A refusal of the file, each line of it behind the place that it is about.
    pub fn point(&self, failure: Failure) -> Failure {
        if failure.exit != Exit::Usage {
            return failure;
        }
        let lines: Vec<String> = failure.what.lines().map(|line| self.pointed(line)).collect();
        Failure { what: lines.join("\n"), ..failure }
    }

    fn pointed(&self, line: &str) -> String {
        let place = line.split_once(": ").and_then(|(path, _)| self.find(path));
        match place {
            Some((row, column)) => format!("{}:{row}:{column}: {line}", self.file.display()),
            None => line.to_owned(),
        }
    }

    /// Line and column of what `path` leads to, or of the nearest that is there around it.
    fn find(&self, path: &str) -> Option<(u64, u64)> {
        let (mut at, mut rest) = (&self.root, path);
        while !rest.is_empty() {
            let Some((next, left)) = at.value.step(rest) else { break };
            (at, rest) = (next, left);
        }
        let place = at.referenced;
        (rest.len() < path.len()).then(|| (place.line(), place.column()))
    }
}

impl Node {
    /// The child that `path` begins with, and what is left of it.
    fn step<'n, 'p>(&'n self, path: &'p str) -> Option<(&'n Spanned<Node>, &'p str)> {
        match self {
            Node::Map(entries) => {
                let left = |key: &str| {
                    let rest = path.strip_prefix(key)?;
                    let ends = rest.is_empty() || rest.starts_with(['.', '[']);
                    ends.then(|| rest.strip_prefix('.').unwrap_or(rest))
                };
                // A label may have dots in its name.
                let found = entries.iter().filter_map(|(k, v)| Some((v, left(k)?)));
                found.min_by_key(|(_, rest)| rest.len())
            }
            Node::List(items) => {
                let (number, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(number.parse::<usize>().ok()?)?;
                Some((item, rest.strip_prefix('.').unwrap_or(rest)))
            }
            Node::Leaf => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name: x\n\
                        targets:\n  hosts: [h1, h9]\n  labels: { a.b: c }\n\
                        faults:\n  - cpu: {}\n  - partition:\n      peers:\n        - h2\n        - h8\n";

    #[test]
    fn a_problem_stands_behind_its_place() {
        let places = Places::new(Path::new("f.yaml"), TEXT).expect("it is YAML");
        for (line, place) in [
            ("targets.hosts[1]: no host `h9`; did you mean h1", "f.yaml:3:15: "),
            ("targets.labels.a.b: nobody has it", "f.yaml:4:18: "),
            ("faults[1].partition.peers[1]: no host `h8`", "f.yaml:10:11: "),
            ("faults[0].cpu: odd", "f.yaml:6:10: "),
            // What is missing is missed where it belongs.
            ("targets.count: there is none", "f.yaml:3:3: "),
            ("duration: 25h is too long", ""),
            ("no problem of a place", ""),
        ] {
            assert_eq!(places.pointed(line), format!("{place}{line}"));
        }
    }

    #[test]
    fn json_has_places_too_and_only_refusals_of_the_file_are_pointed_at() {
        let places = Places::new(Path::new("-"), "{\"targets\": {\"count\": 0}}").expect("JSON");
        let failure = |exit| Failure::new(exit, "targets.count: nobody\nx: y", "next");
        assert_eq!(places.point(failure(Exit::Usage)).what, "-:1:23: targets.count: nobody\nx: y");
        assert_eq!(places.point(failure(Exit::Refused)).what, "targets.count: nobody\nx: y");
        assert!(Places::new(Path::new("-"), "a: [").is_none());
    }
}
