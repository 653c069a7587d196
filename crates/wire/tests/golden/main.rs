//! The bytes of every message, as they are on the wire, of the log's entries and of a host's journal: two
//! versions of Squall that both say `WIRE_VERSION` understand each other, and the files that the other
//! left, only while these stay the same.
#![allow(clippy::unwrap_used, reason = "a test, outside of cfg(test)")]
#![allow(clippy::too_many_lines, reason = "lists of all there is")]

mod file;
mod samples;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use squall_core::host::Record;
use squall_core::message::{FromAgent, FromCoordinator, Request, Response, ToAgent, ToCoordinator};
use squall_core::registry::Command;
use squall_wire::codec;

use file::Lines;

/// Adds each sample under the name of its variant; each must come back as it was.
fn encode<T>(kind: &str, samples: Vec<T>, lines: &mut Lines)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    for sample in samples {
        let debug = format!("{sample:?}");
        let variant = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        file::add(lines, &format!("{kind}::{variant}"), &sample);
        let bytes = codec::encode(&sample).unwrap();
        assert_eq!(codec::decode::<T>(&bytes).unwrap(), sample);
    }
}

#[test]
fn every_message_has_the_bytes_that_it_had() {
    let mut lines = Lines::new();
    encode::<FromAgent>("FromAgent", samples::from_agent(), &mut lines);
    encode::<ToAgent>("ToAgent", samples::to_agent(), &mut lines);
    encode::<FromCoordinator>("FromCoordinator", samples::from_coordinator(), &mut lines);
    encode::<ToCoordinator>("ToCoordinator", samples::to_coordinator(), &mut lines);
    encode::<Request>("Request", samples::requests(), &mut lines);
    encode::<Response>("Response", samples::responses(), &mut lines);
    encode::<Command>("Command", samples::commands(), &mut lines);
    encode::<Record>("Record", samples::records(), &mut lines);
    file::compare(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bytes.txt"), &lines);
}

#[test]
fn every_variant_has_a_sample() {
    // No wildcard: a new variant does not compile until it stands here, and then needs a sample.
    let agent = |m: &FromAgent| match m {
        FromAgent::Hello(_) => 0,
        FromAgent::Report(_) => 1,
        FromAgent::Stops(_) => 2,
        FromAgent::Receipt(_) => 3,
        FromAgent::Addresses(_) => 4,
    };
    covered(5, samples::from_agent().iter().map(agent));
    let to_agent = |m: &ToAgent| match m {
        ToAgent::Stop { .. } => 0,
        ToAgent::Stops(_) => 1,
        ToAgent::Sync(_) => 2,
        ToAgent::Orders(_) => 3,
        ToAgent::Peers(_) => 4,
    };
    covered(5, samples::to_agent().iter().map(to_agent));
    let from_coordinator = |m: &FromCoordinator| match m {
        FromCoordinator::Raft(_) => 0,
        FromCoordinator::Stops(_) => 1,
        FromCoordinator::View => 2,
    };
    covered(3, samples::from_coordinator().iter().map(from_coordinator));
    let to_coordinator = |m: &ToCoordinator| match m {
        ToCoordinator::Raft(_) => 0,
        ToCoordinator::Taken => 1,
        ToCoordinator::View(_) => 2,
        ToCoordinator::Failed(_) => 3,
    };
    covered(4, samples::to_coordinator().iter().map(to_coordinator));
    let request = |m: &Request| match m {
        Request::Status => 0,
        Request::Views => 1,
        Request::Plan(_) => 2,
        Request::Submit { .. } => 3,
        Request::Show(_) => 4,
        Request::List => 5,
        Request::StopExperiment { .. } => 6,
        Request::ClearFaults { .. } => 7,
        Request::StopAll(_) => 8,
        Request::Resume { .. } => 9,
        Request::Drain { .. } => 10,
        Request::Forget { .. } => 11,
        Request::CreateToken { .. } => 12,
    };
    covered(13, samples::requests().iter().map(request));
    let response = |m: &Response| match m {
        Response::Status(_) => 0,
        Response::Views(_) => 1,
        Response::Plan(_) => 2,
        Response::Outcome(_) => 3,
        Response::Experiment(_) => 4,
        Response::Experiments { .. } => 5,
        Response::Stop(_) => 6,
        Response::NotLeader(_) => 7,
        Response::NoQuorum(_) => 8,
        Response::Refused(_) => 9,
        Response::TooLarge => 10,
    };
    covered(11, samples::responses().iter().map(response));
    let command = |c: &Command| match c {
        Command::Register(_) => 0,
        Command::Drain { .. } => 1,
        Command::CreateToken { .. } => 2,
        Command::UseToken { .. } => 3,
        Command::Submit { .. } => 4,
        Command::Advance { .. } => 5,
        Command::End { .. } => 6,
        Command::Observe { .. } => 7,
        Command::Report { .. } => 8,
        Command::Settle { .. } => 9,
        Command::Stop(_) => 10,
        Command::Resume { .. } => 11,
        Command::Barrier => 12,
        Command::EndAll { .. } => 13,
        Command::Forget(_) => 14,
    };
    covered(15, samples::commands().iter().map(command));
    let record = |r: &Record| match r {
        Record::Stop(_) => 0,
        Record::Resume(_) => 1,
        Record::Intent(..) => 2,
        Record::Ended(..) => 3,
        Record::Acknowledged(_) => 4,
        Record::Floor(_) => 5,
        Record::Cluster(_) => 6,
    };
    covered(7, samples::records().iter().map(record));
}

fn covered(variants: usize, found: impl Iterator<Item = usize>) {
    let found: std::collections::BTreeSet<usize> = found.collect();
    assert_eq!(found, (0..variants).collect());
}
