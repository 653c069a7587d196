//! The whole protocol over time, one random history a seed. Prints how many seeds a second; for a
//! broken promise the seed, and how to see its history.

use std::process::ExitCode;
use std::time::Instant;

use squall_tests::simulation::{self, Summary};

/// Seeds without an argument.
const SEEDS: u64 = 10_000;
/// Failures that are shown.
const SHOWN: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match (arguments[..].first(), arguments.get(1).map(|a| a.parse())) {
        (None, _) => many(SEEDS),
        (Some(&"--seed"), Some(Ok(seed))) => one(seed),
        (Some(seeds), None) if seeds.parse::<u64>().is_ok() => many(seeds.parse().unwrap_or(SEEDS)),
        _ => {
            eprintln!("usage: simulate [SEEDS]       so many seeds, from 0 (default {SEEDS})");
            eprintln!("       simulate --seed SEED   one, with its history");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    match simulation::run(seed, true) {
        Ok(summary) => {
            println!("seed {seed} keeps every promise: {summary:?}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            failure.story.iter().for_each(|line| println!("{line}"));
            println!("seed {seed}, step {}: {}", failure.steps, failure.what);
            ExitCode::FAILURE
        }
    }
}

fn many(seeds: u64) -> ExitCode {
    let began = Instant::now();
    let (mut all, mut failures) = (Summary::default(), 0);
    for seed in 0..seeds {
        match simulation::run(seed, false) {
            Ok(summary) => all += summary,
            Err(failure) => {
                failures += 1;
                if failures <= SHOWN {
                    println!("seed {seed}, step {}: {}", failure.steps, failure.what);
                    println!("      its history: scripts/simulate --seed {seed}");
                }
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{seeds} seeds in {took:.1} s, {:.0} a second", seeds as f64 / took);
    println!(
        "{} steps, {} virtual minutes, {} faults in place, {} agents died, {} experiments ({} held), \
         {} stop-alls ({} times called done), {} resumes",
        all.steps,
        all.ms / 60_000,
        all.faults,
        all.crashes,
        all.experiments,
        all.held,
        all.stops,
        all.done,
        all.resumes
    );
    if failures == 0 {
        println!("every promise was kept in every run");
        return ExitCode::SUCCESS;
    }
    println!("a promise was broken in {failures} of {seeds} runs");
    ExitCode::FAILURE
}
