//! How fast a stop-all is: 1,000 simulated agents against raw UDP and TLS in one run.
//!
//! Five subjects take turns in each round, each with a server in a process of its own and all its
//! clients in this one: raw UDP echo, TLS over TCP, our wire without anything behind it, a real
//! coordinator, and a real coordinator that has lost its quorum. Each is timed from the word "go" of whoever asks to the last answer that he
//! hears of. `scripts/bench stop --help` says how to run it.
#![forbid(unsafe_code)]

mod agents;
mod child;
mod cluster;
mod operator;
mod report;
mod serve;
mod stop;
mod tls;
mod udp;
mod wire;

use std::process::ExitCode;

/// Why a benchmark came to nothing.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

/// Bytes of what is pushed to each client, over UDP, TLS and the wire alone: as much as a stop with its signed
/// record takes in Squall.
const PUSH: usize = 512;
/// Bytes of each answer there: as much as a report and a receipt.
const ANSWER: usize = 128;
/// Connections made at once, at most.
const AT_ONCE: usize = 32;
/// Certificates hold for so many days.
const DAYS: u32 = 1;

const HELP: &str = "\
Measures how fast a stop-all is, against raw UDP and TLS in one run.
  scripts/bench stop [--short] [--agents N] [--rounds N]
A table on stderr, JSON on stdout. --short: 50 agents, 3 rounds; else 1000 agents, 21 rounds.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["stop", options @ ..] => match stop::Options::parse(options) {
            Ok(options) => stop::run(options).map(|report| report.print()),
            Err(wrong) => {
                eprintln!("error: {wrong}\n{HELP}");
                return ExitCode::from(2);
            }
        },
        // What `stop` starts.
        ["serve", "udp"] => udp::serve(),
        ["serve", "tls", dir] => tls::serve(dir.as_ref()),
        ["serve", "wire", dir] => wire::serve(dir.as_ref()),
        ["tied", program, arguments @ ..] => child::become_tied(program, arguments),
        ["-h" | "--help"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
