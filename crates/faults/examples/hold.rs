//! A holder, and an agent of a few lines: what the tests of this crate start, for they have no
//! `squall` to start.
//!
//! `hold PARENT TAG@HOST` is the holder, `hold burn PARENT TAG@HOST` its child. `hold agent`
//! reads one task from stdin, starts a holder for it, says its number and each of its reports on
//! stdout, and waits to be killed. `hold doctor` says what this host can hold.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use squall_core::hold::Hold;
use squall_faults::burner::burn_main;
use squall_faults::holder::{HolderEvent, Spawner, hold_main};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("agent") => agent(),
        Some("doctor") => doctor(),
        Some("burn") => burn_main(args.get(2).map_or("", String::as_str)),
        Some(parent) => hold_main(parent),
        None => ExitCode::from(2),
    }
}

fn agent() -> ExitCode {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("a task on stdin");
    let task: Hold = serde_json::from_str(&line).expect("a task");
    let program = std::env::current_exe().expect("our own path");
    let spawner = Spawner::start(program, vec![]).expect("a thread");
    let say = |event| {
        if let HolderEvent::Report(report) = event {
            let line = serde_json::to_string(&report).expect("reports are plain data");
            let mut stdout = std::io::stdout().lock();
            let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        }
    };
    let holder = spawner.spawn(&task.id, say).expect("a holder");
    holder.begin(&task).expect("it takes its task");
    println!("{}", holder.pid());
    loop {
        std::thread::park();
    }
}

fn doctor() -> ExitCode {
    let rows = squall_faults::doctor::doctor();
    println!("{}", serde_json::to_string_pretty(&rows).expect("rows are plain data"));
    ExitCode::SUCCESS
}
