//! Files that people write: read whole, within bounds, refused with file, line and column.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::Error;
use squall_core::spec::{Filled, suggest};

use crate::exit::Failure;

/// The longest file that is read, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

/// The text of a file; `-` is standard input.
///
/// # Errors
/// It cannot be read, is longer than [`MAX_FILE`], or is not UTF-8.
pub fn read(path: &Path) -> Result<String, Failure> {
    let bad = |what: String| Failure::usage(what, "check the path and the file");
    let name = path.display();
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        if std::io::stdin().is_terminal() {
            crate::output::talk("reading the experiment from the terminal; end with Ctrl-D");
        }
        std::io::stdin().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|f| f.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(|e| bad(format!("{name}: {e}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad(format!("{name}: longer than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| {
        bad(format!("{name}: not UTF-8, from byte {} on", e.utf8_error().valid_up_to()))
    })
}

/// A TOML file; unknown keys are refused where the type refuses them.
///
/// # Errors
/// Where it is wrong, with the line.
pub fn toml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Failure> {
    toml::from_str(text).map_err(|e| {
        let at = e.span().map_or_else(String::new, |span| position(text, span.start));
        let what = format!("{}{at}: {}", path.display(), e.to_string().trim_end());
        Failure::usage(what, "mend the file; squall explain config lists the keys")
    })
}

/// `:line:column` of a byte.
fn position(text: &str, byte: usize) -> String {
    let before = &text[..text.floor_char_boundary(byte)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    format!(":{line}:{column}")
}

/// How the parser begins the line that says where the lines are from that it shows.
const SHOWN: &str = "--> <input>:";

/// A YAML (or JSON) document; keys with nothing behind them are refused, unknown ones where the type
/// refuses them; anchors and depth are bounded.
///
/// # Errors
/// Where it is wrong, with line and column and the lines around.
pub fn yaml<T: DeserializeOwned>(path: &Path, text: &str, next: &str) -> Result<T, Failure> {
    let name = path.display();
    if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
        return Err(Failure::usage(format!("{name}:1:1: the file is empty"), next));
    }
    // No type says here that `1e999` may be a text: it must not be refused as a number too large.
    let texts = serde_saphyr::options! {
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString
    };
    let filled = serde_saphyr::from_str_with_options::<Filled>(text, texts);
    filled.and_then(|Filled| serde_saphyr::from_str(text)).map_err(|e| {
        if let Some(what) = missing_above(&e, text) {
            return Failure::usage(format!("{name}: {what}"), next);
        }
        let Some(l) = e.location() else {
            return Failure::usage(format!("{name}: {}", e.render().trim_end()), next);
        };
        let (place, what) = told(&e, (l.line(), l.column()));
        Failure::usage(format!("{name}:{place}: {what}"), next)
    })
}

/// Keys that must be there, as they may be written.
const MUST: [(&str, &str); 8] = [
    ("name", "name: cut-a-member"),
    ("targets", "targets: {hosts: [h1]}"),
    ("faults", "faults: [{cpu: {}}]"),
    ("duration", "duration: 30s"),
    ("peers", "peers: [h2]"),
    ("percent", "percent: 5"),
    ("url", "url: \"http://h2:2379/health\""),
    ("address", "address: \"h2:2379\""),
];

/// The key that the whole file lacks, if that is what is wrong: none of its lines is to blame.
fn missing_above(error: &Error, text: &str) -> Option<String> {
    let Error::SerdeMissingField { field, .. } = error.without_snippet() else { return None };
    let keys: BTreeMap<String, IgnoredAny> = serde_saphyr::from_str(text).ok()?;
    // Those that only a part of it must have are not looked for above.
    let (_, written) = MUST[..4].iter().find(|(key, _)| key == field)?;
    (!keys.contains_key(*field)).then(|| format!("the file has no `{field}`: write {written}"))
}

/// Where, as `line:column`, and what, with the lines around.
fn told(error: &Error, (line, column): (u64, u64)) -> (String, String) {
    let rendered = error.render();
    // The place is said once, and nothing of the parser's own settings.
    let said = rendered.trim_start_matches(&format!("error: line {line} column {column}: "));
    let (first, around) = said.split_once('\n').unwrap_or((said, ""));
    // Where lines are shown as a whole, they know the place best: at an alias, say.
    let shown = |line: &&str| line.trim_start().starts_with(SHOWN);
    let whole = !around.contains("| …");
    let place = around.lines().find(shown).map(|line| line.trim_start()[SHOWN.len()..].trim());
    let place = place.filter(|_| whole).map(str::to_owned);
    let place = place.unwrap_or_else(|| format!("{line}:{column}"));
    // Below the line that is meant the parser says all of it again.
    let again = format!("^ {first}");
    let around = around.lines().filter(|line| !shown(line));
    let around = around.map(|line| match line.strip_suffix(&again) {
        Some(indent) => format!("\n{indent}^"),
        None => format!("\n{line}"),
    });
    let around: String = around.collect();
    (place, format!("{}{}", meant(error, first), around.trim_end()))
}

/// A person's words for the parser's.
fn meant(error: &Error, said: &str) -> String {
    match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => {
            let near = suggest(field, expected.iter().copied());
            let label = expected.contains(&"labels") && near.starts_with("known");
            let label = if label {
                format!("; a label is written labels: {{{field}: …}}")
            } else {
                String::new()
            };
            format!("unknown field `{field}`; {near}{label}")
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("`{variant}` is not known here; {}", suggest(variant, expected.iter().copied()))
        }
        Error::SerdeMissingField { field, .. } => {
            let written = MUST.iter().find(|(key, _)| key == field);
            let written = written.map(|(_, written)| format!(": write {written}"));
            format!("`{field}` is missing here{}", written.unwrap_or_default())
        }
        _ => {
            let words = [
                (", set DuplicateKeyPolicy in Options if acceptable", ""),
                (
                    "multiple YAML documents detected; use from_str_multiple or from_str_multiple_with_options",
                    "a second document begins here; write one file for each",
                ),
                (
                    "expected mapping start",
                    "keys belong here: write {key: value}, or key: value below it",
                ),
                ("expected sequence start", "a list belongs here: write [a, b], or - a below it"),
                ("expected string scalar", "a single value belongs here, without brackets or keys"),
                ("invalid u16", "a whole number from 0 to 65535 belongs here"),
                ("invalid u32", "a whole number from 0 to 4294967295 belongs here"),
                ("rejected by the configured policy", "is refused: write a number"),
            ];
            words.iter().fold(said.to_owned(), |said, (from, to)| said.replace(from, to))
        }
    }
}

/// Writes a file whole or not at all, and durably; its directory is made where missing.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| {
        Failure::local(format!("{}: {e}", path.display()), "check the directory")
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    squall_journal::replace(path, text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use squall_core::spec::File;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code, reason = "parsed only")]
        name: String,
        #[allow(dead_code, reason = "parsed only")]
        list: Vec<u8>,
    }

    fn refused(text: &str) -> String {
        yaml::<Sample>(Path::new("x.yaml"), text, "mend it").expect_err(text).what
    }

    #[test]
    fn mistakes_in_yaml_are_shown_where_they_are() {
        assert!(refused("name: a\nlist: [1]\nextra: 1\n").starts_with("x.yaml:3:1: "));
        assert!(refused("name: a\nlist: [1, x]\n").starts_with("x.yaml:2:11: "));
        assert!(refused("name: [\n").contains("x.yaml:"));
        let two = refused("name: a\nlist: []\n---\nname: b\n");
        assert!(
            two.contains("a second document begins here") && !two.contains("from_str"),
            "{two}"
        );
        let twice = refused("name: a\nname: b\nlist: []\n");
        assert!(twice.starts_with("x.yaml:2:1: duplicate mapping key: name\n"), "{twice}");
    }

    fn experiment(lines: &str) -> Result<File, Failure> {
        let text = format!("name: x\nduration: 1s\n{lines}\n");
        yaml(Path::new("x.yaml"), &text, "mend it")
    }

    #[test]
    fn a_key_with_nothing_behind_it_is_refused_where_it_stands() {
        let targets = "targets: {hosts: h1}";
        let cpu = "faults: [{cpu: {}}]";
        for (lines, place) in [
            ("targets: {group: , count: 1}\nfaults: [{cpu: {}}]", "3:16"),
            ("targets:\n  hosts:\n  count: 1\nfaults: [{cpu: {}}]", "4:8"),
            ("targets: {labels: {zone: ~}}\nfaults: [{cpu: {}}]", "3:26"),
            ("targets: {hosts: [h1, null]}\nfaults: [{cpu: {}}]", "3:23"),
            (&format!("{targets}\nfaults:\n  - partition:\n      peers: h2\n      ports:"), "7:12"),
            (&format!("{targets}\nfaults: [{{loss: {{percent: 5, peers: h2, ports: }}}}]"), "4:46"),
            (&format!("{targets}\nfaults: [{{kill: {{cmdline: java, cgroup: }}}}]"), "4:39"),
            (&format!("{targets}\nfaults: [{{pause: {{name: x, port: }}}}]"), "4:32"),
            (&format!("{targets}\nfaults:\n  - cpu:"), "5:8"),
            (&format!("{targets}\n{cpu}\nsafety: {{max-blast-radius: }}"), "5:26"),
            (&format!("{targets}\n{cpu}\nsafety:"), "5:7"),
            (&format!("{targets}\n{cpu}\nbaseline:"), "5:9"),
            (&probe("error-rate: "), "5:56"),
            (&probe("p99: "), "5:49"),
        ] {
            let what = experiment(lines).expect_err(lines).what;
            let wanted = format!("x.yaml:{place}: nothing stands here: write a value, or leave");
            assert!(what.starts_with(&wanted), "{lines}: {what}");
        }
    }

    fn probe(bound: &str) -> String {
        format!(
            "targets: {{hosts: h1}}\nfaults: [{{cpu: {{}}}}]\n\
             steady-state: [{{name: a, exec: [x], expect: {{{bound}}}}}]"
        )
    }

    fn refused_once(text: &str, said: &str) {
        let refused = yaml::<File>(Path::new("f"), text, "next").expect_err("it is wrong");
        assert!(refused.what.starts_with(said), "{refused}");
        assert!(!refused.what.contains("<input>"), "{refused}");
        let first = refused.what.lines().next().and_then(|line| line.split(": ").nth(1));
        let told = first.map(|first| refused.what.matches(first).count());
        assert_eq!(told, Some(1), "{refused}");
    }

    #[test]
    fn what_is_wrong_is_said_once_with_its_place_and_a_remedy() {
        for (text, said) in [
            (
                "name: x\ntargets: {count: -1}",
                "f:2:18: a whole number from 0 to 4294967295 belongs here",
            ),
            (
                "name: x\ntargets: [h1]",
                "f:2:10: keys belong here: hosts, group, labels, count, percent, all\n",
            ),
            (
                "faults: [{pause: nginx}]",
                "f:1:18: keys belong here: name, cmdline, pid, port, cgroup, exclude\n",
            ),
            ("- a", "f:1:1: keys belong here: write {key: value}"),
            ("", "f:1:1: the file is empty"),
            ("\n  # nothing yet\n", "f:1:1: the file is empty"),
            (
                "targets: {group: [etcd]}",
                "f:1:18: a single value belongs here, without brackets or keys\n",
            ),
            ("steady-state: [{expect: {status: [200]}}]", "f:1:34: a single value belongs here"),
            (
                "safety: {max-blast-radius: .nan}",
                "f:1:28: non-finite float `.nan` is refused: write a number",
            ),
            ("faults: {cpu: {}}", "f:1:9: a list belongs here: write [a, b]"),
            ("{\"name\": \"x\", \"duration\": \"0s\"}", "f:1:27: `0s` is zero"),
            (
                // Of a line so long only a part is shown.
                "steady-state:\n  - { name: health, http: { url: \"http://h2:2379/health\" }, every: 200ms, \
                 expect: { status: 200, error-rate: \"< 1\", p99: \"< 250ms\" } }",
                "f:2:110: `< 1` is not an upper bound",
            ),
        ] {
            refused_once(text, said);
        }
    }

    #[test]
    fn of_keys_that_are_wrong_or_missing_it_is_said_which_are_meant() {
        for (text, said) in [
            (
                "name: x\ntargets: {host: h1}",
                "f:2:11: unknown field `host`; did you mean `hosts`?\n",
            ),
            (
                "steady_state: []",
                "f:1:1: unknown field `steady_state`; did you mean `steady-state`?\n",
            ),
            ("target: {}", "f:1:1: unknown field `target`; did you mean `targets`?\n"),
            (
                "faults: [{partition: {peer: h2}}]",
                "f:1:23: unknown field `peer`; did you mean `peers`?\n",
            ),
            (
                "faults: [{loss: {port: 80}}]",
                "f:1:18: unknown field `port`; did you mean `ports`?\n",
            ),
            (
                "steady-state: [{expect: {error_rate: 1%}}]",
                "f:1:26: unknown field `error_rate`; did you mean `error-rate`?\n",
            ),
            (
                "targets: {zone: a}",
                "f:1:11: unknown field `zone`; known: all, count, group, hosts, labels, percent; a label is written labels: {zone: …}\n",
            ),
            (
                "name: x\ntargets: {all: true}\nfaults: [{cpu: {}}]",
                "f: the file has no `duration`: write duration: 30s",
            ),
            (
                "faults: [{loss: {percent: 5}}]",
                "f:1:18: `peers` is missing here: write peers: [h2]\n",
            ),
            (
                "name: x\nsteady-state: [{exec: [x]}]",
                "f:2:17: `name` is missing here: write name: cut-a-member\n",
            ),
            ("safety: {of: groups}", "f:1:14: `groups` is not known here; did you mean `group`?\n"),
        ] {
            refused_once(text, said);
        }
    }

    #[test]
    fn what_is_left_out_and_what_only_looks_empty_is_read() {
        for lines in [
            "targets: {hosts: h1}\nfaults: [{partition: {peers: h2}}]",
            "targets: {hosts: h1}\nfaults: [{loss: {percent: 5, peers: h2}}]",
            "targets: {group: 'null'}\nobjective: ''\nfaults: [{cpu: {}}]",
            "targets: {labels: {commit: 1e999}}\nfaults: [{kill: {name: x, exclude: []}}]",
        ] {
            assert!(experiment(lines).is_ok(), "{lines}: {:?}", experiment(lines));
        }
    }

    #[test]
    fn hostile_yaml_ends_in_bounded_time() {
        let deep = "[".repeat(200_000);
        assert!(refused(&format!("name: a\nlist: {deep}")).contains("x.yaml"));
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (one, two) in "abcdefghijk".chars().zip("bcdefghijkl".chars()) {
            bomb.push_str(&format!("{two}: &{two} [{}]\n", vec![format!("*{one}"); 9].join(",")));
        }
        assert!(refused(&bomb).contains("x.yaml"));
    }

    #[test]
    fn mistakes_in_toml_are_shown_where_they_are() {
        let error = toml::<Sample>(Path::new("c.toml"), "name = 'a'\nlist = ['b']\n");
        let what = error.expect_err("a text is no number").what;
        assert!(what.starts_with("c.toml:2:9"), "{what}");
    }
}
