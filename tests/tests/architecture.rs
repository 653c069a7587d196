//! The house keeps its shape: who may use whom, who owns which heavy dependency, how long a file is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Production lines that a file may have: comments, blank lines and unit tests are not counted.
const MAX_LINES: usize = 500;
/// Lines of a script.
const MAX_SCRIPT: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root").to_owned()
}

/// Each package's folder and what of ours it may use.
const ARROWS: [(&str, &[&str]); 9] = [
    ("crates/core", &[]),
    ("crates/journal", &[]),
    ("crates/wire", &["core"]),
    ("crates/faults", &["core"]),
    ("crates/agent", &["core", "wire", "faults", "journal"]),
    ("crates/coordinator", &["core", "wire", "journal"]),
    ("cluster", &["core", "wire", "faults"]),
    ("crates/squall", &["core", "wire", "faults", "agent", "coordinator", "journal", "cluster"]),
    ("tests", &["core", "wire", "faults", "agent", "coordinator", "journal", "cluster"]),
];

/// Each heavy dependency and the only packages that may name it.
const OWNERS: [(&str, &[&str]); 14] = [
    ("bincode", &["crates/wire"]),
    ("quinn", &["crates/wire"]),
    ("rustls", &["crates/wire"]),
    // The bench sets TLS over TCP beside what wire does.
    ("tokio-rustls", &["tests"]),
    ("rcgen", &["crates/wire"]),
    ("x509-parser", &["crates/wire"]),
    ("ring", &["crates/wire"]),
    ("openraft", &["crates/coordinator"]),
    ("redb", &["crates/coordinator"]),
    ("foca", &["crates/agent"]),
    ("libc", &["crates/faults"]),
    // Wire marks its sockets with it.
    ("nix", &["crates/faults", "crates/wire"]),
    ("clap", &["crates/squall"]),
    ("serde-saphyr", &["crates/squall", "crates/core"]),
];

/// What a pure package may depend on at run time.
const PURE: [&str; 6] = ["ipnet", "schemars", "serde", "serde_json", "thiserror", "uuid"];

type Table = toml::Table;

fn manifest(folder: &str) -> Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The packages that a manifest depends on, on whichever target and under whichever name. `all` is
/// the workspace's manifest, which may rename too.
fn packages(manifest: &Table, all: &Table) -> BTreeSet<String> {
    let table = |of: &Table, name: &str| of.get(name).and_then(|v| v.as_table()).cloned();
    let shared = table(all, "workspace").and_then(|w| table(&w, "dependencies"));
    let shared = shared.unwrap_or_default();
    let targets = table(manifest, "target").unwrap_or_default();
    let sections = targets.values().filter_map(|target| target.as_table()).chain([manifest]);
    let renamed = |entry: Option<&toml::Value>| {
        entry.and_then(|e| e.get("package")).and_then(|p| p.as_str()).map(str::to_owned)
    };
    let package = |(name, entry): (String, toml::Value)| {
        renamed(Some(&entry)).or_else(|| renamed(shared.get(&name))).unwrap_or(name)
    };
    sections.filter_map(|s| table(s, "dependencies")).flatten().map(package).collect()
}

fn dependencies(folder: &str) -> BTreeSet<String> {
    packages(&manifest(folder), &manifest(""))
}

#[test]
fn a_dependency_is_seen_under_another_name_and_for_one_target_alone() {
    let all = "workspace.dependencies = { b = { version = '1', package = 'two' }, c = '1' }";
    let one = "dependencies = { a = { version = '1', package = 'one' }, b.workspace = true }
        target.'cfg(unix)'.dependencies = { c.workspace = true, d = { package = 'four' } }
        dev-dependencies.e = '1'";
    let found = packages(&one.parse().unwrap(), &all.parse().unwrap());
    assert_eq!(found, BTreeSet::from(["one", "two", "c", "four"].map(str::to_owned)));
}

#[test]
fn every_package_of_the_workspace_stands_in_the_table() {
    let mut found: BTreeSet<String> = BTreeSet::from(["cluster".into(), "tests".into()]);
    for entry in std::fs::read_dir(root().join("crates")).unwrap().flatten() {
        if entry.path().join("Cargo.toml").is_file() {
            found.insert(format!("crates/{}", entry.file_name().to_string_lossy()));
        }
    }
    let known: BTreeSet<String> = ARROWS.iter().map(|(folder, _)| (*folder).to_owned()).collect();
    assert_eq!(found, known, "a new crate needs a reason that DESIGN's table cannot give");
}

#[test]
fn arrows_point_downwards() {
    let mut wrong = Vec::new();
    for (folder, allowed) in ARROWS {
        for name in dependencies(folder) {
            if let Some(ours) = name.strip_prefix("squall-")
                && !allowed.contains(&ours)
            {
                wrong.push(format!("{folder} uses {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn virtual_hosts_use_only_the_sys_of_faults() {
    let is_sys = |rest: &str| {
        let after = rest.strip_prefix("::sys");
        after.is_some_and(|after| !after.starts_with(is_of_a_word))
    };
    let mut wrong = Vec::new();
    for file in sources(&root().join("cluster/src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            if line.split("squall_faults").skip(1).any(|rest| !is_sys(rest)) {
                wrong.push(format!("{}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn heavy_dependencies_have_one_owner() {
    let mut wrong = Vec::new();
    for (folder, _) in ARROWS {
        let all = dependencies(folder);
        for (name, owners) in OWNERS {
            if all.contains(name) && !owners.contains(&folder) {
                wrong.push(format!("{folder} names {name}, which belongs to {owners:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What core may use of the standard library: no clock, no files, no sockets, no threads.
const PURE_STD: [&str; 15] = [
    "borrow::Cow",
    "cmp::",
    "collections::",
    "error::Error",
    "fmt",
    "iter::",
    "marker::PhantomData",
    "mem::",
    "net::IpAddr",
    "net::SocketAddr",
    "net::{IpAddr, SocketAddr}",
    "ops::",
    "slice::",
    "str::",
    "sync::Arc",
];

#[test]
fn core_is_pure() {
    let allowed: BTreeSet<String> = PURE.iter().map(|n| (*n).to_owned()).collect();
    let found = dependencies("crates/core");
    let foreign: Vec<_> = found.difference(&allowed).collect();
    assert!(foreign.is_empty(), "core may not depend on {foreign:?}");
    let is_test = |file: &Path| {
        file.components().any(|c| c.as_os_str() == "tests") || file.ends_with("tests.rs")
    };
    for file in sources(&root().join("crates/core/src")).iter().filter(|f| !is_test(f)) {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("async fn"), "{} says async fn", file.display());
        for path in text.split("std::").skip(1) {
            let pure = PURE_STD.iter().any(|pure| path.starts_with(pure));
            let path = path.split_whitespace().next().unwrap_or_default();
            assert!(pure, "{} says std::{path}", file.display());
        }
    }
}

#[test]
fn unsafe_code_stays_in_sys() {
    let mut wrong = Vec::new();
    for (folder, _) in ARROWS {
        let folder_path = root().join(folder);
        for file in sources(&folder_path) {
            let text = std::fs::read_to_string(&file).unwrap();
            let inside = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            if inside.starts_with("crates/faults/src/sys") {
                continue;
            }
            // Before a block, `fn`, `impl`, `extern`, a trait or an attribute alike.
            let keyword = ["un", "safe"].concat();
            let says = |line: &&str| {
                let code = line.split("//").next().unwrap_or_default();
                code.split(|c| !is_of_a_word(c)).any(|word| word == keyword)
            };
            wrong.extend(text.lines().filter(says).map(|l| format!("{inside}: {}", l.trim())));
        }
        let lib = ["src/lib.rs", "src/main.rs"].map(|f| folder_path.join(f));
        let main =
            lib.iter().find(|f| f.is_file()).unwrap_or_else(|| panic!("{folder} has no root"));
        let text = std::fs::read_to_string(main).unwrap();
        if folder != "crates/faults" && !text.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{} does not forbid it", main.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_short_enough_to_read() {
    let mut long = BTreeMap::new();
    for (folder, _) in ARROWS {
        for file in sources(&root().join(folder)) {
            let inside = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let is_test = inside.contains("/tests/") || inside.ends_with("tests.rs");
            let lines = production_lines(&std::fs::read_to_string(&file).unwrap());
            if !is_test && lines > MAX_LINES {
                long.insert(inside, lines);
            }
        }
    }
    assert!(long.is_empty(), "over {MAX_LINES} production lines: {long:#?}");
}

#[test]
fn scripts_do_one_job_each_and_say_which() {
    for entry in std::fs::read_dir(root().join("scripts")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(text.lines().count() <= MAX_SCRIPT, "scripts/{name} is too long");
        assert!(text.contains("--help"), "scripts/{name} knows no --help");
    }
}

/// Lines of code above the unit tests.
fn production_lines(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")).count()
}

#[test]
fn only_code_is_counted() {
    assert_eq!(
        production_lines("//! Doc.\n\nfn a() {}\n// why\n#[cfg(test)]\nmod tests {\nfn b() {}\n}"),
        1
    );
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty() || !folder.exists(), "{} holds no source", folder.display());
    files
}
