//! Strikes the leading coordinator again and again while experiments hold, and checks everything that
//! clients saw. `failover --help` says how.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use squall_tests::failover::{self, Options, Row, crowd};

const USAGE: &str = "failover [--short | --rounds N]
  kills, freezes and cuts off the leader under load while experiments hold; prints a table
  read ms, write ms: from the blow to the first confirmed read and acknowledged write
  again: repeats of one command whose outcomes were compared
  exits 1 where anything is wrong";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return fail(&format!("this program's path: {error}")),
    };
    let options = match words.as_slice() {
        ["clients", orders] => {
            return match crowd::main(orders) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => fail(&format!("clients: {why}")),
            };
        }
        [] => Options::long(program),
        ["--short"] => Options::short(program),
        ["--rounds", n] => match n.parse() {
            Ok(rounds) => Options { rounds, ..Options::long(program) },
            Err(_) => return usage(),
        },
        ["-h" | "--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => return usage(),
    };
    println!("{}", failover::head());
    let rows = failover::run(&options, |name, row| println!("{}", failover::line(name, row)));
    let wrong: usize = rows.iter().map(|r: &Row| r.wrong.len()).sum();
    println!("{} rows, {wrong} things wrong", rows.len());
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
