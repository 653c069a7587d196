//! The fault `cpu`: processor time is burnt by children of the holder.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use squall_core::fault::{Cpu, MAX_WORKERS};
use squall_core::hold::{Achieved, Failure, Hold};
use squall_core::spec::Millis;
use squall_core::time::Time;

use crate::burner::{Body, Burners};
use crate::clock;
use crate::held::HeldFault;
use crate::holder::Lease;
use crate::proc;

/// How long burners are watched before they are said to burn.
const WATCH_MS: u64 = 300;
/// Such spans, at least, before it is said that they do not: on a busy host they come up slowly. More
/// where half the lease has room for more, up to the second number.
const WATCHES: u64 = 3;
const MAX_WATCHES: u64 = 8;
/// It bites where the burners get at least one part in so many of what was asked for and is there to
/// be had: what they got, and what nobody did. The share that they got is told in any case.
const ENOUGH: f64 = 4.0;

pub(crate) fn apply(
    hold: &Hold,
    lease: &Lease,
    cpu: &Cpu,
) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    let (load_percent, ramp_ms) = (cpu.load_percent, cpu.ramp_ms);
    let named = u16::try_from(cpu.cores.len()).unwrap_or(MAX_WORKERS);
    let workers = cpu.workers.unwrap_or(if named > 0 { named } else { online() }).min(MAX_WORKERS);
    // Fewer burners than cores run on the first of them.
    let mut cpu = cpu.clone();
    cpu.cores.truncate(workers.into());
    let processors = if named > 0 { named.min(workers) } else { online() };
    let body = Body::Cpu { load_percent, ramp_ms };
    let burners = Burners::start(hold, lease, body, workers, &cpu.cores)?;
    let mut burning = Burning {
        since: burners.age(),
        burners,
        asked: f64::from(workers) * f64::from(load_percent),
        requested: requested(&cpu, workers),
        least: f64::from(workers),
        processors,
        place: cpu.on().map_or_else(
            || format!("{processors} processors here"),
            |cores| format!("all of it on {cores}"),
        ),
        cores: cpu.cores,
        base: Duration::ZERO,
        idle_base: None,
        stood_base: Duration::ZERO,
        last: Achieved::default(),
    };
    let left = clock::now().until(lease.until());
    let watch_ms = WATCH_MS.min(left / (2 * WATCHES)).max(1);
    let watch = Duration::from_millis(watch_ms);
    for _ in 0..(left / 2 / watch_ms).min(MAX_WATCHES) {
        burning.begin()?;
        std::thread::sleep(watch);
        burning.burners.renew(lease.until())?;
        let achieved = burning.look()?;
        if achieved.bit {
            burning.begin()?;
            return Ok((Box::new(burning), achieved));
        }
    }
    Err(Failure::NoBite(burning.last.measured.clone()))
}

fn requested(cpu: &Cpu, workers: u16) -> String {
    let burners = if workers == 1 { "burner" } else { "burners" };
    let mut text = format!("{workers} {burners} of {} % of one processor", cpu.load_percent);
    if let Some(cores) = cpu.on() {
        text.push_str(&format!(" on {cores}"));
    }
    if cpu.ramp_ms > 0 {
        text.push_str(&format!(", rising over {}", Millis(cpu.ramp_ms.into())));
    }
    text
}

/// Processors that run now.
fn online() -> u16 {
    let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().unwrap_or(1);
    u16::try_from(count).unwrap_or(MAX_WORKERS).max(1)
}

struct Burning {
    burners: Burners,
    /// Percent of one processor, all burners together, once it has risen.
    asked: f64,
    /// What they burn of that from the start.
    least: f64,
    requested: String,
    /// How many they may run on: those of `cores`, or all.
    processors: u16,
    cores: Vec<u16>,
    /// Which these are, in words.
    place: String,
    /// How old the burners were when counting began, and what they had used by then.
    since: Duration,
    base: Duration,
    /// How long the processors had been idle by then; `None` where that cannot be read.
    idle_base: Option<Duration>,
    /// How long the burners had stood still by then.
    stood_base: Duration,
    last: Achieved,
}

/// Whether `percent` of one processor is enough of what was `asked`, where so many `processors` are
/// here and `idle` percent of one were left over.
fn bites(percent: f64, asked: f64, processors: u16, idle: f64) -> bool {
    let to_be_had = asked.min(f64::from(processors) * 100.0).min(percent + idle);
    percent > 0.0 && percent * ENOUGH >= to_be_had
}

impl Burning {
    fn begin(&mut self) -> Result<(), Failure> {
        self.base = self.burners.cpu_time()?;
        self.idle_base = proc::idle_time(&self.cores).ok();
        self.stood_base = self.burners.stood();
        self.since = self.burners.age();
        Ok(())
    }

    fn look(&mut self) -> Result<Achieved, Failure> {
        let used = self.burners.cpu_time()?.saturating_sub(self.base);
        let now = self.burners.age();
        let span = now.saturating_sub(self.since).max(Duration::from_millis(1));
        let due = self.burners.rise().mean(self.since, now);
        let share = |time: Duration| time.as_secs_f64() / span.as_secs_f64() * 100.0;
        let percent = share(used);
        let idle = self.idle_base.zip(proc::idle_time(&self.cores).ok());
        let idle = idle.map_or(f64::INFINITY, |(base, now)| share(now.saturating_sub(base)));
        // While they stood still they wanted nothing, whoever used the rest.
        let stood = self.burners.stood().saturating_sub(self.stood_base);
        self.last = Achieved {
            bit: bites(
                percent,
                (self.asked * due).max(self.least),
                self.processors,
                idle + share(stood),
            ),
            requested: self.requested.clone(),
            measured: format!(
                "{percent:.0} % of one processor over {} ms, {}",
                span.as_millis(),
                self.place
            ),
            note: match stood.as_millis() {
                0 => String::new(),
                ms => format!("burners stood still for {ms} ms"),
            },
        };
        Ok(self.last.clone())
    }
}

impl HeldFault for Burning {
    fn renew(&mut self, until: Time) -> Result<(), Failure> {
        self.burners.renew(until)
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.burners.check()
    }

    fn measure(&mut self) -> Option<Achieved> {
        self.look().ok()
    }

    fn lift(&mut self) -> Achieved {
        let alive = self.burners.check();
        if let Err(died) = self.look().and(alive) {
            (self.last.bit, self.last.note) = (false, died.to_string());
        }
        self.burners.kill();
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burner_bites_by_what_there_is_to_be_had() {
        for (percent, asked, processors, idle, bit) in [
            (20.0, 20.0, 2, 150.0, true),
            (5.0, 20.0, 2, 150.0, true),
            (4.0, 20.0, 2, 150.0, false),
            // Others use all the rest.
            (4.0, 20.0, 2, 0.0, true),
            (4.0, 20.0, 2, 10.0, true),
            (4.0, 20.0, 2, 13.0, false),
            (0.0, 20.0, 2, 0.0, false),
            // More than there is.
            (60.0, 800.0, 2, f64::INFINITY, true),
            (40.0, 800.0, 2, f64::INFINITY, false),
        ] {
            assert_eq!(bites(percent, asked, processors, idle), bit, "{percent} {asked} {idle}");
        }
    }
}
