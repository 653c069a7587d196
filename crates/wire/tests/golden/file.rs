//! A file of golden bytes: a line a sample, its name and its bytes. Tests of private types, in this crate
//! and in others, include it by its path, with `codec` beside it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec;

/// Set to anything, it writes the files anew.
const WRITE: &str = "SQUALL_GOLDEN_WRITE";

/// Bytes in hexadecimal by the name of the sample.
pub type Lines = BTreeMap<String, String>;

/// Adds one sample; its bytes must make a value that has the same bytes.
pub fn add<T: Serialize + DeserializeOwned>(lines: &mut Lines, name: &str, sample: &T) {
    let bytes = codec::encode(sample).unwrap();
    let again = codec::encode(&codec::decode::<T>(&bytes).unwrap()).unwrap();
    assert_eq!(again, bytes, "{name}");
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(lines.insert(name.to_owned(), hex).is_none(), "{name} twice");
}

/// Compares all samples of a file with what stands there.
pub fn compare(file: impl AsRef<Path>, now: &Lines) {
    let file = file.as_ref();
    if std::env::var_os(WRITE).is_some() {
        let text: String = now.iter().map(|(name, hex)| format!("{name} {hex}\n")).collect();
        std::fs::write(file, text).unwrap();
    }
    let text = std::fs::read_to_string(file).unwrap();
    let golden: Lines = text
        .lines()
        .filter_map(|l| l.split_once(' '))
        .map(|(name, hex)| (name.to_owned(), hex.to_owned()))
        .collect();
    let changed: Vec<&String> = now
        .iter()
        .filter(|(name, hex)| golden.get(*name) != Some(hex))
        .map(|(name, _)| name)
        .chain(golden.keys().filter(|name| !now.contains_key(*name)))
        .collect();
    assert!(
        changed.is_empty(),
        "these have other bytes than before: {changed:?}. If that is meant: raise WIRE_VERSION in \
         wire's src/codec.rs once a release, and run this test with {WRITE}=1"
    );
}
