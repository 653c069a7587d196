//! `squall demo`: a lab, a real service in it, its leader cut off, a stop-all, and then everything gone.
//! It types the commands that a person would type, so that what it shows is what they do.

pub mod fetch;
mod service;
mod stage;
mod story;

use std::collections::BTreeSet;

use crate::exit::{Exit, Failure, Outcome};
use crate::output::talk;
use stage::{Stage, processes_of_ours};

/// The lab that the demo makes and takes down.
const LAB: &str = "demo";

/// `squall demo`.
pub fn demo() -> Outcome {
    let before = Traces::take()?;
    let stage = Stage::new(LAB)?;
    let told = story::tell(&stage);
    // Whatever came of it: nothing is left behind.
    stage.heading("everything is taken down");
    let down = stage.run(&["lab", "down", LAB]);
    told?;
    down?;
    let after = Traces::take()?;
    let new = after.new_since(&before);
    let name = |(kind, names): &(&'static str, Vec<String>)| {
        names.iter().map(|n| format!("{kind}: {n}")).collect::<Vec<_>>()
    };
    let left: Vec<String> = new.iter().flat_map(name).collect();
    if !left.is_empty() {
        let what = format!("the demo left {}", left.join(", "));
        return Err(Failure::new(Exit::NotClean, what, format!("squall lab down {LAB}")));
    }
    let counts: Vec<String> =
        new.iter().map(|(kind, names)| format!("{} {kind}", names.len())).collect();
    talk(format!("nothing is left; new here since the demo began: {}", counts.join(", ")));
    Ok(Exit::Held)
}

/// What a lab could leave on this machine.
struct Traces {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    devices: BTreeSet<String>,
    spaces: BTreeSet<String>,
}

impl Traces {
    fn take() -> Result<Traces, Failure> {
        let failed = |what: &str, e: std::io::Error| {
            Failure::local(format!("{what}: {e}"), "squall demo needs /proc and /sys")
        };
        let mounts =
            std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| failed("mounts", e))?;
        // The fields from the fifth on say where; the first ones are numbers of this moment.
        let place = |line: &str| line.split_whitespace().nth(4).unwrap_or_default().to_owned();
        let devices = std::fs::read_dir("/sys/class/net").map_err(|e| failed("devices", e))?;
        let devices = devices.flatten().map(|d| d.file_name().to_string_lossy().into_owned());
        Ok(Traces {
            processes: processes_of_ours(),
            mounts: mounts.lines().map(place).collect(),
            devices: devices.collect(),
            spaces: stage::network_namespaces(),
        })
    }

    fn each(&self) -> [(&'static str, &BTreeSet<String>); 4] {
        [
            ("processes", &self.processes),
            ("mounts", &self.mounts),
            ("devices", &self.devices),
            ("network namespaces", &self.spaces),
        ]
    }

    /// What is here and was not there `before`, by kind.
    fn new_since(&self, before: &Traces) -> Vec<(&'static str, Vec<String>)> {
        let pairs = self.each().into_iter().zip(before.each());
        pairs
            .map(|((kind, now), (_, then))| (kind, now.difference(then).cloned().collect()))
            .collect()
    }
}
