//! Every fault × every event, on real hosts: the table on stderr, the cells as JSON on stdout.

use std::process::ExitCode;

use squall_core::fault::Kind;
use squall_tests::torture::{Event, Plan, json, run_all, table};

const HELP: &str = "\
torture: every fault, ended in every way, on virtual hosts; needs root
  --short        all six faults at once, once an event (else also each alone, and rounds)
  --rounds N     so many times (default 3)
  --jobs N       labs at a time (default 3)
  --lease-ms N   the lease (default 5000)
  --slack-ms N   added to every limit, on a busy machine (default 0)
  --fault NAME   only these; may be repeated
  --event NAME   only these; may be repeated
  --ipv6-only    labs without IPv4
exit 0: every cell bit, lifted in time and left nothing; 1: one did not; 2: usage";

struct Options {
    short: bool,
    rounds: u32,
    jobs: usize,
    lease_ms: u64,
    slack_ms: u64,
    faults: Vec<Kind>,
    events: Vec<Event>,
    ipv6_only: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("error: {what}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let cells = run_all(&plans(&options), options.jobs, |plan, cells| {
        let good = cells.iter().filter(|c| c.is_good()).count();
        let faults: Vec<&str> = plan.faults.iter().map(|k| k.name()).collect();
        let (event, round) = (plan.event.name(), plan.round);
        let count = cells.len();
        eprintln!("{good} of {count} good: {} × {event}, round {round}", faults.join("+"));
    });
    println!("{:#}", json(&cells));
    eprintln!("{}", table(&cells));
    if cells.iter().all(squall_tests::torture::Cell::is_good) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn plans(options: &Options) -> Vec<Plan> {
    let alone = options.faults.iter().map(|kind| vec![*kind]);
    let mut sets = vec![options.faults.clone()];
    if !options.short && options.faults.len() > 1 {
        sets.extend(alone);
    }
    let mut plans = Vec::new();
    for round in 1..=options.rounds {
        for event in &options.events {
            plans.extend(sets.iter().map(|faults| Plan {
                faults: faults.clone(),
                event: *event,
                round,
                lease_ms: options.lease_ms,
                slack_ms: options.slack_ms,
                ipv6_only: options.ipv6_only,
            }));
        }
    }
    plans
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        short: false,
        rounds: 0,
        jobs: 3,
        lease_ms: 5_000,
        slack_ms: 0,
        faults: Vec::new(),
        events: Vec::new(),
        ipv6_only: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("{arg} {text}: {e}"));
        let small = |n: u64| u32::try_from(n).map_err(|e| format!("{arg} {n}: {e}"));
        match arg.as_str() {
            "-h" | "--help" => return Ok(None),
            "--short" => options.short = true,
            "--ipv6-only" => options.ipv6_only = true,
            "--rounds" => options.rounds = small(number(value()?)?)?,
            "--jobs" => options.jobs = small(number(value()?)?)? as usize,
            "--lease-ms" => options.lease_ms = number(value()?)?,
            "--slack-ms" => options.slack_ms = number(value()?)?,
            "--fault" => options.faults.push(named(&value()?, &Kind::ALL, Kind::name)?),
            "--event" => options.events.push(named(&value()?, &Event::ALL, Event::name)?),
            other => return Err(format!("`{other}` is no option")),
        }
    }
    if options.rounds == 0 {
        options.rounds = if options.short { 1 } else { 3 };
    }
    if options.faults.is_empty() {
        options.faults = Kind::ALL.to_vec();
    }
    if options.events.is_empty() {
        options.events = Event::ALL.to_vec();
    }
    Ok(Some(options))
}

fn named<T: Copy>(name: &str, all: &[T], of: fn(T) -> &'static str) -> Result<T, String> {
    let names: Vec<&str> = all.iter().map(|t| of(*t)).collect();
    let found = all.iter().find(|t| of(**t) == name).copied();
    found.ok_or_else(|| format!("`{name}` is none of {}", names.join(", ")))
}
