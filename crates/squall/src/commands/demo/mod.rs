//! `squall demo`: a lab, a real service in it, its leader cut off, a stop-all, and then everything gone.
//! It types the commands that a person would type, so that what it shows is what they do.

pub mod fetch;
mod service;
mod stage;
mod story;

use std::collections::BTreeSet;

use crate::exit::{Exit, Failure, Outcome};
use crate::output::talk;
use stage::{Stage, living_in};

/// How the lab begins that a demo makes and takes down; its process's number follows.
const LAB: &str = "demo-";
/// The label by which a demo knows the labs of earlier ones: a person's may have any name.
const MARK: &str = "squall-demo";

/// `squall demo`.
pub fn demo() -> Outcome {
    let before = Machine::look()?;
    let lab = format!("{LAB}{}", std::process::id());
    let mut stage = Stage::new(&lab)?;
    let told = story::tell(&stage);
    // Whatever came of it: nothing is left behind.
    stage.close();
    stage.heading("everything is taken down");
    let down = stage.run(&["lab", "down", &lab]);
    let spaces = stage.take_spaces();
    let living = living_in(&spaces);
    let after = Machine::look()?;
    let left = [
        ("processes of the lab", living.iter().map(|(pid, _)| pid.clone()).collect()),
        ("network namespaces of the lab", living.into_iter().map(|(_, space)| space).collect()),
        ("new devices", &after.devices - &before.devices),
        ("new mounts", &after.mounts - &before.mounts),
    ];
    let count = |(kind, names): &(&str, BTreeSet<String>)| format!("{} {kind}", names.len());
    let counts = left.each_ref().map(count).join(", ");
    let clean = left.iter().all(|(_, names)| names.is_empty());
    // What may be left goes before why the story ended.
    if clean {
        down.map_err(|failure| Failure { exit: Exit::NotClean, ..failure })?;
        told?;
    }
    // Where no namespace was noted, nothing was looked for.
    if !spaces.is_empty() && clean {
        talk(format!("nothing is left of {} network namespaces: {counts}", spaces.len()));
        return Ok(Exit::Held);
    }
    let name = |(kind, names): &(&str, BTreeSet<String>)| format!("{kind}: {names:?}");
    let what = format!("the demo left something: {}", left.each_ref().map(name).join(", "));
    Err(Failure::new(Exit::NotClean, what, format!("squall lab down {lab}")))
}

/// What this machine itself has, outside of every lab: other labs and programs may come and go
/// meanwhile, but neither a device nor a mount of theirs belongs here.
struct Machine {
    mounts: BTreeSet<String>,
    devices: BTreeSet<String>,
}

impl Machine {
    fn look() -> Result<Machine, Failure> {
        let failed = |what: &str, e: std::io::Error| {
            Failure::local(format!("{what}: {e}"), "squall demo needs /proc and /sys")
        };
        let mounts =
            std::fs::read_to_string("/proc/self/mountinfo").map_err(|e| failed("mounts", e))?;
        // The fields from the fifth on say where; the first ones are numbers of this moment.
        let place = |line: &str| line.split_whitespace().nth(4).unwrap_or_default().to_owned();
        let devices = std::fs::read_dir("/sys/class/net").map_err(|e| failed("devices", e))?;
        let devices = devices.flatten().map(|d| d.file_name().to_string_lossy().into_owned());
        Ok(Machine { mounts: mounts.lines().map(place).collect(), devices: devices.collect() })
    }
}
