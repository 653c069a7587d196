//! Every history of a small world, breadth-first: two hosts, two coordinators, and everything that
//! can happen to them. Prints how many states there are; for a broken invariant the shortest history.

use std::process::ExitCode;

use squall_tests::explore::{self, Explored};
use squall_tests::model::Small;

/// What is asked without an argument.
const DEPTH: usize = 8;
/// Agents.
const HOSTS: usize = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let depth = match (arguments.next().map(|a| a.parse()), arguments.next()) {
        (None, _) => DEPTH,
        (Some(Ok(depth)), None) => depth,
        (Some(_), _) => {
            eprintln!(
                "usage: model [DEPTH]   every history of up to DEPTH events (default {DEPTH})"
            );
            return ExitCode::from(2);
        }
    };
    let explored = explore::explore(Small::new(HOSTS), depth, |so_far| {
        let depth = so_far.levels.len() - 1;
        println!("depth {depth}: {}", words(so_far));
    });
    match &explored.found {
        None => {
            println!("every invariant holds in all {} states", explored.states());
            ExitCode::SUCCESS
        }
        Some((violation, events)) => {
            println!("broken after {} events: {violation}", events.len());
            for (number, line) in (1..).zip(explore::tell(Small::new(HOSTS), events)) {
                println!("{number:>4}. {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn words(explored: &Explored) -> String {
    let (states, steps) = (explored.states(), explored.transitions);
    format!("{states} states, {steps} transitions, {:.1} s", explored.took.as_secs_f64())
}
