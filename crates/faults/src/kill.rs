//! The fault `kill`: processes get a signal, once or again and again. What it did cannot be taken
//! back; restarting is its victims' business.

use squall_core::fault::{Amount, Kill};
use squall_core::hold::{Achieved, Failure, Hold};
use squall_core::ids::FaultId;
use squall_core::seed::Dice;
use squall_core::time::Time;

use crate::clock;
use crate::held::HeldFault;
use crate::holder::Lease;
use crate::processes::{self, LetAlone, Target};
use crate::sys::pidfd::Process;

const SIGKILL: u8 = libc::SIGKILL as u8;
const SIGTERM: u8 = libc::SIGTERM as u8;
/// How long the first victims may take to die, in milliseconds.
const PATIENCE_MS: u64 = 1_000;
/// Between two looks, in milliseconds, where nobody dies.
const LOOK_MS: u64 = 50;
/// How long the last ones may take at the end, in milliseconds.
const LAST_MS: u64 = 200;
/// Victims whose death is watched for at the same time; each takes a descriptor.
const MAX_WATCHED: usize = 512;

pub(crate) fn apply(
    hold: &Hold,
    lease: &Lease,
    kill: &Kill,
) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    let mut killing = Killing::new(hold, kill);
    killing.round()?;
    let left = clock::now().until(lease.until());
    let until = clock::now().plus(PATIENCE_MS.min(left / 2));
    while killing.is_meant_to_end() && killing.living() > 0 && clock::now() < until {
        killing.look(clock::now().until(until).min(LOOK_MS));
    }
    let achieved = killing.achieved();
    if kill.signal == SIGKILL && killing.dead == 0 {
        return Err(Failure::NoBite(achieved.measured));
    }
    killing.told = (killing.signalled, killing.dead);
    killing.next = kill.interval_ms.map(|ms| clock::now().plus(u64::from(ms)));
    Ok((Box::new(killing), achieved))
}

struct Killing {
    kill: Kill,
    hold: Hold,
    dice: Dice,
    next: Option<Time>,
    /// Signalled, and not seen dead yet.
    watched: Vec<(Target, Process)>,
    rounds: u64,
    signalled: u64,
    dead: u64,
    /// The same, without a descriptor.
    beyond: Vec<Target>,
    /// Picked, and could not be signalled, with the first reason.
    spared: Option<(u64, String)>,
    let_alone: LetAlone,
    /// Signalled and dead, as last told.
    told: (u64, u64),
}

impl Killing {
    fn new(hold: &Hold, kill: &Kill) -> Killing {
        Killing {
            kill: kill.clone(),
            hold: hold.clone(),
            dice: Dice::new(seed(&hold.id)),
            next: None,
            watched: Vec::new(),
            rounds: 0,
            signalled: 0,
            dead: 0,
            beyond: Vec::new(),
            spared: None,
            let_alone: LetAlone::default(),
            told: (0, 0),
        }
    }

    /// Signalled, and not seen dead yet.
    fn living(&self) -> usize {
        self.watched.len() + self.beyond.len()
    }

    /// Signals whose receivers are expected to die of them.
    fn is_meant_to_end(&self) -> bool {
        matches!(self.kill.signal, SIGKILL | SIGTERM)
    }

    /// Picks and signals once.
    fn round(&mut self) -> Result<(), Failure> {
        let system = |e: std::io::Error| Failure::System(format!("looking for processes: {e}"));
        let wanted = &self.kill.processes;
        let picked = processes::pick(wanted, &self.hold.protect).map_err(system)?;
        if picked.targets.is_empty() {
            return Err(picked.nothing(wanted));
        }
        self.let_alone.see(&picked);
        self.rounds += 1;
        let count = self.kill.amount.of(picked.targets.len());
        let mut refused = None;
        let before = self.signalled;
        for target in self.dice.pick(&picked.targets, count) {
            let Err(error) = self.signal(&target) else {
                self.signalled += 1;
                continue;
            };
            let why = format!("{} ({}): {error}", target.pid, target.comm);
            if target.is_same() {
                self.spared.get_or_insert((0, why.clone())).0 += 1;
            }
            refused = Some(why);
        }
        match refused {
            Some(why) if self.signalled == before => Err(Failure::System(why)),
            Some(_) | None => Ok(()),
        }
    }

    fn signal(&mut self, target: &Target) -> std::io::Result<()> {
        let process = Process::open(target.pid)?;
        // From here on the handle means one process; the question is only whether it is the one
        // that was picked.
        if !target.is_same() {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        process.signal(self.kill.signal)?;
        let known = self.watched.iter().map(|(watched, _)| watched).chain(&self.beyond);
        if known.into_iter().any(|known| known == target) {
            return Ok(());
        }
        if self.watched.len() < MAX_WATCHED {
            self.watched.push((target.clone(), process));
        } else {
            self.beyond.push(target.clone());
        }
        Ok(())
    }

    /// Counts the dead, after waiting at most `ms` for one.
    fn look(&mut self, ms: u64) {
        // What cannot be seen is not counted.
        let dead = Process::dead(self.watched.iter().map(|(_, p)| p), ms).unwrap_or_default();
        let (mut dead, before) = (dead.into_iter(), self.living());
        self.watched.retain(|_| !dead.next().unwrap_or(false));
        self.beyond.retain(Target::is_same);
        self.dead += (before - self.living()) as u64;
    }

    fn achieved(&self) -> Achieved {
        let to = match self.kill.amount {
            Amount::All => "all that match".to_owned(),
            Amount::Count(n) => format!("at most {n} of what matches"),
            Amount::Percent(p) => format!("{p} % of what matches"),
        };
        let again = self.kill.interval_ms.map(|ms| format!(", again each {ms} ms"));
        let requested = format!("signal {} to {to}{}", self.kill.signal, again.unwrap_or_default());
        let rounds =
            if self.rounds > 1 { format!(" in {} rounds", self.rounds) } else { String::new() };
        let measured = format!("{} signalled{rounds}, {} seen dead", self.signalled, self.dead);
        let mut notes: Vec<String> = self.let_alone.notes().collect();
        if !self.is_meant_to_end() {
            notes.push("delivered; what the signal does is its receivers' business".to_owned());
        }
        if let Some((spared, why)) = &self.spared {
            notes.push(format!("{spared} could not be signalled, the first: {why}"));
        }
        if self.is_meant_to_end() && self.living() > 0 {
            notes.push(format!("{} still live", self.living()));
        }
        let some = if self.is_meant_to_end() { self.dead > 0 } else { self.signalled > 0 };
        let all = self.spared.is_none() && (!self.is_meant_to_end() || self.living() == 0);
        // Less than was asked for is not what was asked for.
        let bit = some && all;
        Achieved { bit, requested, measured, note: notes.join("; ") }
    }
}

impl HeldFault for Killing {
    fn renew(&mut self, _: Time) -> Result<(), Failure> {
        // Nothing of the kernel's stands for it.
        Ok(())
    }

    fn tick(&mut self, now: Time) -> Option<Time> {
        let interval = u64::from(self.kill.interval_ms?);
        // Who is signalled last needs time to die.
        if self.is_meant_to_end() && now.plus(PATIENCE_MS) > self.hold.deadline {
            return None;
        }
        if self.next.is_none_or(|next| next <= now) {
            // Nobody there, in this round: whatever restarts them may not have done so yet.
            if let Err(failure) = self.round() {
                tracing::debug!(%failure, "a round without a victim");
            }
            self.next = Some(now.plus(interval));
        }
        self.next
    }

    fn measure(&mut self) -> Option<Achieved> {
        self.look(0);
        let now = (self.signalled, self.dead);
        (std::mem::replace(&mut self.told, now) != now).then(|| self.achieved())
    }

    fn lift(&mut self) -> Achieved {
        // Those of the last round may need a moment.
        let until = clock::now().plus(LAST_MS);
        self.look(0);
        while self.is_meant_to_end() && self.living() > 0 && clock::now() < until {
            self.look(clock::now().until(until).min(LOOK_MS));
        }
        self.achieved()
    }
}

/// The same victims for the same fault.
fn seed(id: &FaultId) -> u128 {
    // FNV-1a's prime, over a start of our own.
    let fold = |seed: u128, byte: u8| (seed ^ u128::from(byte)).wrapping_mul(0x100_0000_01b3);
    let start = id.experiment.0.as_u128() ^ u128::from(id.fault);
    id.host.as_str().bytes().fold(start, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(fault: u16, host: &str) -> FaultId {
        let experiment = "12345678-9000-0000-0000-000000000000".parse().unwrap();
        FaultId { experiment, fault, host: host.parse().unwrap() }
    }

    #[test]
    fn who_cannot_be_signalled_is_told_of() {
        use std::os::unix::process::CommandExt;
        use std::process::{Command, Stdio};
        const NOBODY: u32 = 65_534;
        let sleeper = |uid| {
            let mut sleep = Command::new("sleep");
            sleep.args(["30", "0.0417"]).uid(uid).stdin(Stdio::null()).spawn().unwrap()
        };
        let mut sleepers = [sleeper(0), sleeper(NOBODY)];
        let processes = squall_core::fault::Processes {
            cmdline: Some("0.0417".into()),
            ..squall_core::fault::Processes::default()
        };
        let kill = Kill { processes, amount: Amount::All, signal: 9, interval_ms: None };
        let now = squall_core::time::Time(0);
        let hold = Hold {
            id: id(0, "h1"),
            fault: squall_core::fault::Fault::Kill(kill.clone()),
            lease_until: now,
            deadline: now,
            protect: squall_core::hold::Protect::default(),
        };
        // A thread that may signal nobody's processes and no others.
        let seen = std::thread::spawn(move || {
            let nobody = rustix::process::Uid::from_raw(NOBODY);
            let changed = rustix::thread::set_thread_res_uid(nobody, nobody, nobody);
            changed.expect("this test is run by root");
            let mut killing = Killing::new(&hold, &kill);
            let round = killing.round();
            killing.look(5_000);
            (round, killing.achieved())
        })
        .join()
        .unwrap();
        for sleeper in &mut sleepers {
            let _ = sleeper.kill();
            let _ = sleeper.wait();
        }
        assert_eq!(seen.0, Ok(()));
        let achieved = seen.1;
        assert!(
            !achieved.bit && achieved.measured.starts_with("1 signalled, 1 seen"),
            "{achieved:?}"
        );
        assert!(achieved.note.contains("1 could not be signalled"), "{achieved:?}");
    }

    #[test]
    fn a_fault_draws_the_same_lots_again_and_another_draws_others() {
        let pids: Vec<u32> = (100..200).collect();
        let draw = |id| Dice::new(seed(&id)).pick(&pids, 10);
        assert_eq!(draw(id(0, "h1")), draw(id(0, "h1")));
        assert_ne!(draw(id(0, "h1")), draw(id(1, "h1")));
        assert_ne!(draw(id(0, "h1")), draw(id(0, "h2")));
    }
}
