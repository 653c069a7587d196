//! Following an experiment to its verdict, and ending one early.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use squall_core::experiment::{ExperimentRecord, Phase};
use squall_core::ids::ExperimentId;
use squall_core::message::{Request, Shown};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::command_id;
use super::operate::{ask_show, ask_status, find, say_unheard};
use crate::cli::Format;
use crate::client::Client;
use crate::exit::{self, Exit, Failure, Outcome};
use crate::output::experiment::ExperimentView;
use crate::output::{self, summary, talk, words};

/// How often the log is read while something is followed.
const POLL: Duration = Duration::from_millis(250);
/// How long no coordinator may answer, or none with a quorum, before following ends.
const SILENCE: Duration = Duration::from_secs(60);
/// How long an election may take before a word is lost over it.
const ELECTION: Duration = Duration::from_secs(4);

/// Ctrl-C and the polite end of a process.
pub struct Interrupts {
    ctrl_c: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// From now on neither ends this process.
    pub fn new() -> Result<Interrupts, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|e| {
                Failure::local(format!("no signal can be heard: {e}"), "check this host's limits")
            })
        };
        Ok(Interrupts {
            ctrl_c: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.ctrl_c.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Tells what is new in an experiment's timeline.
#[derive(Default)]
pub struct Commentary {
    told: usize,
    silent: bool,
    /// Whose steps these are, where several experiments are followed.
    of: String,
}

impl Commentary {
    /// One that tells only what comes after the first reading.
    pub fn skipping() -> Commentary {
        Commentary { told: usize::MAX, ..Commentary::default() }
    }

    /// One of several.
    fn of(record: &ExperimentRecord) -> Commentary {
        let of = format!("{} ({}): ", record.experiment.name, record.id.short());
        Commentary { of, ..Commentary::default() }
    }

    fn tell(&mut self, record: &ExperimentRecord) {
        let told = if self.told == usize::MAX { record.timeline.len() } else { self.told };
        for entry in record.timeline.iter().skip(told) {
            let at = words::moment(entry.at);
            let time = at.get(11..23).unwrap_or(&at);
            talk(format!("{time}  {}{}", self.of, entry.what));
        }
        self.told = record.timeline.len();
    }
}

/// Reads the experiment again and again until `enough`. A lack of answers is waited out: a new
/// leader carries on.
pub async fn follow(
    client: &Client,
    id: ExperimentId,
    commentary: &mut Commentary,
    enough: impl Fn(&ExperimentRecord) -> bool,
) -> Result<Shown, Failure> {
    let mut heard = Instant::now();
    loop {
        match ask_show(client, id).await {
            Ok(shown) => {
                commentary.tell(&shown.record);
                // What is in the log stays there, confirmed or not.
                if enough(&shown.record) {
                    return Ok(shown);
                }
                if shown.confirmed {
                    heard = Instant::now();
                    commentary.silent = false;
                } else if heard.elapsed() >= SILENCE {
                    return Err(Failure::new(
                        Exit::Unreachable,
                        format!("no quorum for {} s", SILENCE.as_secs()),
                        format!("squall show {id} once there is one; squall stop-all needs none"),
                    )
                    .with_hosts("leases run out by themselves; nobody has seen how it ended"));
                } else if heard.elapsed() >= ELECTION && !commentary.silent {
                    commentary.silent = true;
                    talk("no quorum confirms anything; leases run out by themselves; trying again");
                }
            }
            Err(failure) if failure.exit == Exit::Unreachable && heard.elapsed() < SILENCE => {
                if !commentary.silent {
                    commentary.silent = true;
                    talk("no coordinator answers; leases run out by themselves; trying again");
                }
            }
            Err(failure) => {
                let next = format!("{}; then squall show {id}", failure.next);
                return Err(Failure { next, ..failure });
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Over, and nothing can change any more.
pub fn is_settled(record: &ExperimentRecord) -> bool {
    record.phase == Phase::Settled
}

/// Prints the end of an experiment.
pub fn conclude(shown: &Shown, format: Format) -> Outcome {
    let told = output::emit(format, &ExperimentView::new(shown), summary::page);
    ended(&shown.record).after(told)
}

/// How it ended; what may be left is said.
pub fn ended(record: &ExperimentRecord) -> Exit {
    let exit = exit::of_experiment(record);
    if exit == Exit::NotClean {
        talk(not_clean(record));
    }
    exit
}

fn not_clean(record: &ExperimentRecord) -> String {
    use squall_core::experiment::FaultState;
    let mut hosts: BTreeMap<&str, &str> = BTreeMap::new();
    for (id, state) in &record.faults {
        match state {
            FaultState::Stuck(_) => drop(hosts.insert(id.host.as_str(), "something is left")),
            FaultState::Lapsed(_) => {
                hosts.entry(id.host.as_str()).or_insert("lapsed by time, not seen");
            }
            _ => {}
        }
    }
    let hosts: Vec<_> = hosts.into_iter().map(|(h, why)| format!("{h} ({why})")).collect();
    format!("NOT CLEAN: {}\nnext:  on that host: squall lift", hosts.join(", "))
}

/// `squall watch`.
pub async fn watch(client: &Client, id: &str, format: Format) -> Outcome {
    let id = find(client, id).await?;
    let shown = follow(client, id, &mut Commentary::default(), is_settled).await?;
    conclude(&shown, format)
}

/// Asks for the early end of an experiment.
pub async fn order_end(client: &Client, id: ExperimentId) -> Result<(), Failure> {
    let request = Request::StopExperiment { command: command_id(), id };
    client.write(&request).await.map(drop)
}

/// `squall stop`.
pub async fn stop(client: &Client, id: &str, format: Format) -> Outcome {
    let id = find(client, id).await?;
    let mut commentary = Commentary::default();
    let before = ask_show(client, id).await?;
    if is_settled(&before.record) {
        talk("it had ended already");
        return conclude(&before, format).map(cleanliness);
    }
    commentary.told = before.record.timeline.len();
    order_end(client, id).await?;
    let shown = follow(client, id, &mut commentary, is_settled).await?;
    conclude(&shown, format).map(cleanliness)
}

/// A stop that was asked for has done its work where everything is clean.
fn cleanliness(exit: Exit) -> Exit {
    if exit == Exit::NotClean { exit } else { Exit::Held }
}

/// `squall faults clear`: ends every running experiment and waits for each. What a person holds by hand
/// is named and stays.
pub async fn clear(client: &Client, format: Format) -> Outcome {
    let before = ask_status(client).await;
    // Whatever became of the question.
    client.write(&Request::ClearFaults { command: command_id() }).await?;
    let running = before?.experiments.into_iter().filter(ExperimentRecord::is_running);
    let running: Vec<ExperimentRecord> = running.collect();
    let mut worst = Exit::Held;
    for record in &running {
        let shown = follow(client, record.id, &mut Commentary::of(record), is_settled).await?;
        if exit::of_experiment(&shown.record) == Exit::NotClean {
            talk(not_clean(&shown.record));
            worst = Exit::NotClean;
        }
    }
    let status = ask_status(client).await?;
    let faults = output::faults::views(&status);
    say_unheard(&status);
    for (by_hand, words) in [
        (false, "still listed; squall faults again in a moment"),
        (true, "held by a person's squall inject; squall lift there, or squall stop-all"),
    ] {
        let listed = faults.iter().filter(|f| f.experiment.is_none() == by_hand);
        let hosts: BTreeSet<&str> = listed.map(|f| f.host.as_str()).collect();
        if !hosts.is_empty() && (by_hand || worst == Exit::Held) {
            let hosts: Vec<_> = hosts.into_iter().collect();
            talk(format!("{}: {words}", hosts.join(", ")));
            worst = Exit::NotClean;
        }
    }
    talk(format!("{} ended", words::count(running.len(), "experiment")));
    worst.after(output::emit(format, &faults, |f| output::faults::faults_table(f, &status)))
}
