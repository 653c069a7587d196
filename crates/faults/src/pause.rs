//! The fault `pause`: processes stand still, every thread of them, because the holder traces them.
//!
//! Processes that begin to match later, started by one that does not, run; each measurement looks for
//! them, and then it is no pause that bites. A system call that was under way is begun anew when the
//! pause ends, or ends with EINTR where the kernel never restarts it (`epoll_wait`, `semop`), as after
//! any job control.

use std::time::{Duration, Instant};

use squall_core::fault::{Pause, Processes};
use squall_core::hold::{Achieved, Failure, Hold, Protect};
use squall_core::time::Time;

use crate::clock;
use crate::held::HeldFault;
use crate::holder::Lease;
use crate::proc;
use crate::processes::{self, LetAlone, Target};
use crate::sys::trace::Tracees;

/// Threads of all victims, at most.
const MAX_THREADS: usize = 32_768;
/// Looks for threads that were made while others were being stopped. Two are enough unless a victim
/// forks all the time.
const MAX_ROUNDS: usize = 50;
/// How long a thread may take to stop: one that waits for a disk does not.
const STOP: Duration = Duration::from_millis(250);
/// How long one may take that could run, in milliseconds; half of what is left of the lease, at most.
const STARVED_MS: u64 = 2_000;
/// A parent that waits for the child of a `vfork` stops only once the child runs a program, and we
/// may just have stopped that child: let go and try again, so many times in all.
const ATTEMPTS: usize = 3;
/// How long it may run between two of them.
const LET_GO: Duration = Duration::from_millis(100);
/// How long it is watched standing still.
const WATCH: Duration = Duration::from_millis(100);
/// How often the death of a victim is looked for, in milliseconds.
const REAP_MS: u64 = 50;

pub(crate) fn apply(
    hold: &Hold,
    lease: &Lease,
    pause: &Pause,
) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    let mut tracees = Tracees::default();
    let mut attempt = 1;
    let victims = loop {
        let left = clock::now().until(lease.until());
        let patience = Duration::from_millis(STARVED_MS.min(left / 2));
        match stop(hold, pause, patience, &mut tracees) {
            Ok(victims) => break victims,
            Err(Failure::NoBite(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(failure) => return Err(failure),
        }
        tracees.release();
        std::thread::sleep(LET_GO);
    };
    let mut paused = Paused {
        began: clock::now(),
        used: victims.iter().map(cpu_time).collect(),
        victims,
        tracees,
        wanted: pause.processes.clone(),
        protect: hold.protect.clone(),
        loose: 0,
        let_alone: LetAlone::default(),
        stands: false,
    };
    std::thread::sleep(WATCH);
    let achieved = paused.achieved();
    // What began to match meanwhile makes no failure, but no pause that bites either.
    if !paused.stands {
        return Err(Failure::NoBite(achieved.measured));
    }
    Ok((Box::new(paused), achieved))
}

/// Stops everything that matches.
fn stop(
    hold: &Hold,
    pause: &Pause,
    patience: Duration,
    tracees: &mut Tracees,
) -> Result<Vec<Target>, Failure> {
    let system = |what: &str, e: std::io::Error| Failure::System(format!("{what}: {e}"));
    for _ in 0..MAX_ROUNDS {
        let picked = processes::pick(&pause.processes, &hold.protect)
            .map_err(|e| system("looking for processes", e))?;
        if picked.targets.is_empty() {
            return Err(picked.nothing(&pause.processes));
        }
        let mut new = 0;
        for target in &picked.targets {
            new += seize(target, tracees)?;
        }
        if tracees.len() > MAX_THREADS {
            return Err(Failure::System(format!(
                "more than {MAX_THREADS} threads match: choose fewer processes"
            )));
        }
        await_stops(tracees, patience)?;
        if new == 0 {
            return Ok(picked.targets);
        }
    }
    Err(Failure::NoBite("the processes make threads faster than they can be stopped".into()))
}

/// Waits until every thread stands still. One that is about to run stops once it has a processor, which
/// may take longer on a busy host.
fn await_stops(tracees: &mut Tracees, patience: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let late =
            tracees.await_stops(STOP).map_err(|e| Failure::System(format!("stopping: {e}")))?;
        let Some(tid) = late else { return Ok(()) };
        let state = proc::stat(tid).map_or('?', |s| s.state);
        if state != 'R' || began.elapsed() >= patience {
            return Err(Failure::NoBite(format!("thread {tid} does not stop (state {state})")));
        }
    }
}

/// Seizes the threads of `target` that are not seized yet; returns how many those were.
fn seize(target: &Target, tracees: &mut Tracees) -> Result<usize, Failure> {
    let mut new = 0;
    // A process that is gone has no threads.
    for tid in proc::threads(target.pid).unwrap_or_default() {
        new += usize::from(seize_thread(target, tid, tracees)?);
    }
    // What was seized by mistake is let go with everything else.
    if target.is_another() {
        let what = format!("process {} became another one while it was being stopped", target.pid);
        return Err(Failure::System(what));
    }
    Ok(new)
}

/// Seizes a thread that was seen in `target`; `false` where it is gone, or seized already.
fn seize_thread(target: &Target, tid: i32, tracees: &mut Tracees) -> Result<bool, Failure> {
    match tracees.seize(tid) {
        Ok(true) if proc::thread_stat(target.pid, tid).is_ok() => Ok(true),
        // It ended meanwhile, and its number may be another one's, of a process that nobody picked.
        Ok(true) => {
            // This process ends then, and the kernel lets it go.
            let stays = |e| Failure::System(format!("thread {tid}, seized by mistake: {e}"));
            tracees.let_go(tid, STOP).map(|()| false).map_err(stays)
        }
        Ok(false) => Ok(false),
        // A dead thread that nobody has reaped yet.
        Err(_) if proc::thread_stat(target.pid, tid).map_or(true, |s| s.is_dead()) => Ok(false),
        Err(error) => Err(refused(target, tid, &error)),
    }
}

fn refused(target: &Target, tid: i32, error: &std::io::Error) -> Failure {
    let who = format!("process {} ({})", target.pid, target.comm);
    match proc::tracer(tid) {
        Ok(0) | Err(_) => Failure::Unsupported(format!("tracing {who}: {error}")),
        Ok(tracer) => Failure::System(format!("{who} is traced already, by process {tracer}")),
    }
}

fn cpu_time(target: &Target) -> Option<Duration> {
    if target.is_same() { proc::cpu_time(target.pid).ok() } else { None }
}

struct Paused {
    victims: Vec<Target>,
    /// Processor time that each had used when it stood still; `None` for one that was gone.
    used: Vec<Option<Duration>>,
    tracees: Tracees,
    began: Time,
    wanted: Processes,
    protect: Protect,
    /// Processes that matched and ran, at most at one look.
    loose: usize,
    let_alone: LetAlone,
    /// All victims that live stood still at the last look.
    stands: bool,
}

impl Paused {
    /// Reads what the victims did although they should stand still.
    fn achieved(&mut self) -> Achieved {
        let mut ran = Duration::ZERO;
        let (mut alive, mut moving) = (0, 0);
        for (victim, used) in self.victims.iter().zip(&self.used) {
            let (Some(used), Some(now)) = (used, cpu_time(victim)) else { continue };
            alive += 1;
            ran += now.saturating_sub(*used);
            let threads = proc::threads(victim.pid).unwrap_or_default();
            let states = threads.iter().filter_map(|t| proc::thread_stat(victim.pid, *t).ok());
            moving += states.filter(|s| s.state != 't' && !s.is_dead()).count();
        }
        let still = clock::now().since(self.began);
        let gone = match self.victims.len() - alive {
            0 => String::new(),
            1 => "1 of them has died".to_owned(),
            n => format!("{n} of them have died"),
        };
        // Whoever restarts the dead starts what runs: then nothing stands still any more.
        self.stands = alive > 0 && moving == 0 && ran.is_zero();
        self.look_around();
        let ran_on = match self.loose {
            0 => String::new(),
            1 => "1 that began to match since ran".to_owned(),
            n => format!("{n} that began to match since ran"),
        };
        let processes =
            |n: usize| if n == 1 { "1 process".into() } else { format!("{n} processes") };
        Achieved {
            bit: self.stands && self.loose == 0,
            requested: format!("{} to stand still", processes(self.victims.len())),
            measured: format!(
                "{} with {} threads, {moving} not stopped, {} ms of processor time used in {still} ms",
                processes(alive),
                self.tracees.len(),
                ran.as_millis()
            ),
            note: [gone, ran_on]
                .into_iter()
                .filter(|s| !s.is_empty())
                .chain(self.let_alone.notes())
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// Counts processes that match and are none of the victims: whoever restarts the dead starts such.
    fn look_around(&mut self) {
        // Where nobody can look, what stands still is all that is known.
        let picked = processes::pick(&self.wanted, &self.protect).unwrap_or_default();
        let loose = picked.targets.iter().filter(|target| !self.victims.contains(target)).count();
        self.loose = self.loose.max(loose);
        self.let_alone.see(&picked);
    }
}

impl HeldFault for Paused {
    fn renew(&mut self, _: Time) -> Result<(), Failure> {
        // The kernel lets them go when the holder dies, and the holder dies by its own timer.
        Ok(())
    }

    fn tick(&mut self, now: Time) -> Option<Time> {
        if let Err(error) = self.tracees.reap() {
            tracing::warn!(%error, "looking for dead victims");
        }
        Some(now.plus(REAP_MS))
    }

    fn measure(&mut self) -> Option<Achieved> {
        Some(self.achieved())
    }

    fn lift(&mut self) -> Achieved {
        let mut achieved = self.achieved();
        self.tracees.release();
        for victim in &self.victims {
            let me = u64::from(std::process::id());
            if proc::tracer(victim.pid).is_ok_and(|tracer| tracer == me) {
                achieved.note = format!("process {} is not let go before we end", victim.pid);
            }
        }
        achieved
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_thread_of_a_process_that_nobody_picked_is_let_go() {
        let [mut picked, mut other] =
            [(); 2].map(|()| Command::new("sleep").arg("60").spawn().unwrap());
        let wanted = Processes { pid: Some(picked.id()), ..Processes::default() };
        let found = processes::pick(&wanted, &Protect::default()).unwrap();
        let (target, tid) = (&found.targets[0], other.id() as i32);
        let mut tracees = Tracees::default();
        // As where a thread of the one has ended, and its number is the other's by now.
        assert_eq!(seize_thread(target, tid, &mut tracees), Ok(false));
        assert_eq!((tracees.len(), proc::tracer(tid).unwrap()), (0, 0));
        assert_eq!(seize_thread(target, target.pid, &mut tracees), Ok(true));
        assert_eq!(tracees.len(), 1);
        await_stops(&mut tracees, STOP).unwrap();
        tracees.release();
        for child in [&mut picked, &mut other] {
            assert_ne!(proc::stat(child.id() as i32).unwrap().state, 't');
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
