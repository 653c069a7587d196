//! Entries that must come before any thread: a holder sets its death signal for the thread that
//! started it, and the kernel lets only a single-threaded process enter a user or mount namespace.

use std::process::ExitCode;

/// Runs a hidden subcommand where one is named; `None` for everything a person types.
pub fn entry() -> Option<ExitCode> {
    let mut args = std::env::args();
    let name = args.next();
    let args: Vec<String> = args.collect();
    let word = |n: usize| args.get(n).map(String::as_str);
    // By the name it is started under, so that no pattern finds `squall` on its command line.
    if name.as_deref() == Some(squall_cluster::init::COMM) {
        return Some(squall_cluster::init::init_main(word(0).unwrap_or_default()));
    }
    match word(0)? {
        "hold" => Some(squall_faults::holder::hold_main(word(1).unwrap_or_default())),
        "fetch" => Some(crate::commands::demo::fetch::main(word(1).unwrap_or_default())),
        "burn" => Some(squall_faults::burner::burn_main(word(1).unwrap_or_default())),
        _ => None,
    }
}
