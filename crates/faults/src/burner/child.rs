//! The burner itself: `squall burn`.

use std::io::{self, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{Body, Rise, Work, cpu, memory};
use crate::holder::{Line, Orders, die_with};
use crate::lines;
use crate::sys::timer::KillTimer;

/// The body of `squall burn PARENT TAG@HOST`. Reads its work from stdin and burns until it is killed, its
/// pipe ends, or its lease does. The tag is for whoever looks at the command line.
#[must_use]
pub fn burn_main(parent: &str) -> ExitCode {
    match burn(parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The holder sees the exit; this line is for the log that it shares.
            let _ = writeln!(io::stderr(), "squall burn: {error}");
            ExitCode::FAILURE
        }
    }
}

fn burn(parent: &str) -> io::Result<()> {
    die_with(parent)?;
    // What it takes must not become a file, however it ends.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // Who sees the name knows that it is tied.
    rustix::thread::set_name(c"squall-burn")?;
    let mut orders = Orders::new();
    let (line, early) = orders.task()?;
    let work: Work = serde_json::from_str(&line)?;
    let timer = KillTimer::new()?;
    if early.is_empty() {
        timer.arm(work.until)?;
    }
    lines::never_wait(io::stdin())?;
    let mut leash = Leash { orders, timer };
    if !leash.obey(early)? {
        return Ok(());
    }
    match work.body {
        Body::Cpu { load_percent, ramp_ms } => cpu::burn(leash, load_percent, Rise { ramp_ms }),
        Body::Memory { bytes, floor, ramp_ms, touch_rate } => {
            memory::burn(leash, &memory::Task { bytes, floor, rise: Rise { ramp_ms }, touch_rate })
        }
    }
}

/// What ties a burner to its holder.
pub(super) struct Leash {
    orders: Orders,
    timer: KillTimer,
}

impl Leash {
    /// Takes renewals; `false` once the pipe has ended. To be asked several times a second.
    pub(super) fn holds(&mut self) -> io::Result<bool> {
        let lines = self.orders.read()?;
        self.obey(lines)
    }

    fn obey(&mut self, lines: Vec<Line>) -> io::Result<bool> {
        for line in lines {
            let Some(line) = line else { return Ok(false) };
            self.timer.arm(serde_json::from_str(&line)?)?;
        }
        Ok(true)
    }
}
