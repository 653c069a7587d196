//! Burners where and as fast as they were asked: on their processors, over a ramp, at a rate.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_core::fault::{Cpu, Fault, Memory};
use squall_core::hold::{Achieved, HolderReport};
use squall_faults::holder::HolderEvent;

use crate::bench::{Held, TestHost, task, until};
use crate::victim::{burners, taken};

const MIB: u64 = 1 << 20;

/// Processor time of a process, all its threads.
fn burnt(pid: i32) -> Duration {
    let pid = Pid::from_raw(pid);
    nix::time::clock_getcpuclockid(pid).unwrap().now().unwrap().into()
}

/// The next measurement that satisfies `is`.
fn measured(held: &Held, ms: u64, is: impl Fn(&Achieved) -> bool) -> Achieved {
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < Duration::from_millis(ms) {
        match held.next(200) {
            Some(HolderEvent::Report(HolderReport::Measured(achieved))) if is(&achieved) => {
                return achieved;
            }
            Some(HolderEvent::Report(HolderReport::Measured(achieved))) => last = Some(achieved),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    panic!("not within {ms} ms; last: {last:?}");
}

#[test]
fn burners_run_on_their_processors_in_turn() {
    let host = TestHost::new();
    let mine = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
    let may = |n: &u16| mine.is_set(usize::from(*n)).is_ok_and(|is| is);
    let cores: Vec<u16> = (0..1_024).filter(may).take(2).collect();
    let cases = [(200, Some(3), 3), (201, None, cores.len()), (209, Some(1), 1)];
    for (number, workers, wanted) in cases {
        let cpu = Cpu { cores: cores.clone(), ..Cpu::new(workers, 10) };
        let hold = task(Fault::Cpu(cpu), number, 8_000, 20_000);
        let tag = hold.id.tag();
        let held = Held::start(&host, hold).held();
        let bound = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap();
            line.trim().parse::<u16>().expect("one processor")
        };
        let mut found: Vec<u16> = burners(&tag).iter().map(bound).collect();
        let mut turns: Vec<u16> = cores.iter().copied().cycle().take(wanted).collect();
        found.sort_unstable();
        turns.sort_unstable();
        assert_eq!(found, turns);
        let lifted = held.lift();
        let first = cores[..cores.len().min(wanted)].to_vec();
        let on = Cpu { cores: first, ..Cpu::new(None, 1) }.on().unwrap();
        assert!(lifted.requested.ends_with(&format!(" on {on}")), "{lifted:?}");
        assert!(lifted.measured.ends_with(&format!(", all of it on {on}")), "{lifted:?}");
    }

    let hold = task(
        Fault::Cpu(Cpu { cores: vec![cores[0], 1_023], ..Cpu::new(None, 10) }),
        202,
        8_000,
        9_000,
    );
    let tag = hold.id.tag();
    let why = Held::start(&host, hold).failed().to_string();
    assert!(why.contains("core 1023: ") && why.contains("online here: 0"), "{why}");
    until(1_000, || burners(&tag).is_empty());
}

#[test]
fn the_load_rises_and_bites_all_the_while() {
    let host = TestHost::new();
    let cpu = Cpu { ramp_ms: 6_000, ..Cpu::new(Some(1), 60) };
    let hold = task(Fault::Cpu(cpu), 203, 20_000, 30_000);
    let tag = hold.id.tag();
    let began = Instant::now();
    let held = Held::start(&host, hold).held();
    let burner = burners(&tag)[0];
    let (early, age) = (burnt(burner).as_secs_f64(), began.elapsed().as_secs_f64());
    // The rise, its first percent, and what a period and the start of the program take.
    let due = 0.6 * age * age / (2.0 * 6.0) + 0.01 * age + 0.08;
    assert!(early < due, "{early} s of {due} s, {age} s after the start");
    std::thread::sleep(Duration::from_millis(6_500));
    let risen = burnt(burner);
    std::thread::sleep(Duration::from_secs(1));
    let late = burnt(burner) - risen;
    // Less than asked where others compete; a load that did not rise would burn 10 ms.
    assert!(late > Duration::from_millis(150), "{late:?} of a second after the rise");
    let lifted = held.lift();
    assert!(lifted.bit, "{lifted:?}");
    assert_eq!(lifted.requested, "1 burner of 60 % of one processor, rising over 6s");

    // Judged by what is due: of all that is asked for a hundredth.
    let cpu = Cpu { ramp_ms: 60_000, ..Cpu::new(Some(1), 100) };
    let held = Held::start(&host, task(Fault::Cpu(cpu), 208, 20_000, 90_000)).held();
    std::thread::sleep(Duration::from_millis(500));
    let lifted = held.lift();
    assert!(lifted.bit, "{lifted:?}");
}

#[test]
fn memory_rises_and_bites_all_the_while() {
    let host = TestHost::new();
    let memory = Memory { ramp_ms: 6_000, ..Memory::bytes(200 * MIB) };
    let hold = task(Fault::Memory(memory), 204, 20_000, 30_000);
    let tag = hold.id.tag();
    let began = Instant::now();
    let held = Held::start(&host, hold);
    let first = held.achieved();
    assert_eq!(
        (first.note.as_str(), &*first.requested),
        ("taking more", "200 MiB, rising over 6s")
    );
    let burner = burners(&tag)[0];
    let (early, age) = (taken(burner), began.elapsed());
    let due = 200 * MIB * age.as_millis() as u64 / 6_000;
    assert!(early <= due.max(4 * MIB) + 2 * MIB, "{early} bytes after {age:?}");
    until(10_000, || taken(burner) >= 200 * MIB);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(5_500), "all of it after {took:?}");
    let lifted = held.lift();
    assert!(lifted.bit && lifted.note.is_empty(), "{lifted:?}");

    // What is lifted on the way says so.
    let memory = Memory { ramp_ms: 60_000, ..Memory::bytes(600 * MIB) };
    let held = Held::start(&host, task(Fault::Memory(memory), 205, 20_000, 90_000)).held();
    std::thread::sleep(Duration::from_secs(2));
    let lifted = held.lift();
    assert!(lifted.bit, "{lifted:?}");
    assert_eq!(lifted.note, "lifted before all was taken", "{lifted:?}");
}

#[test]
fn memory_is_touched_at_the_rate_that_was_asked_and_a_frozen_burner_does_not_bite() {
    let host = TestHost::new();
    let memory = Memory { touch_rate: Some(20 * MIB), ..Memory::bytes(200 * MIB) };
    let hold = task(Fault::Memory(memory), 206, 30_000, 60_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    let touched = measured(&held, 10_000, |a| a.measured.ends_with(" MiB/s touched"));
    assert!(touched.bit, "{touched:?}");
    assert_eq!(touched.requested, "200 MiB, 20MiB/s of it touched");
    let words = touched.measured.rsplit(", ").next().unwrap();
    let rate: u64 = words.split(' ').next().unwrap().parse().unwrap();
    // A quarter is enough to bite; never much more than was asked.
    assert!((5..=30).contains(&rate), "{touched:?}");
    let burner = burners(&tag)[0];
    kill(Pid::from_raw(burner), Signal::SIGSTOP).unwrap();
    measured(&held, 10_000, |a| !a.bit && a.measured.ends_with(", 0 MiB/s touched"));
    kill(Pid::from_raw(burner), Signal::SIGCONT).unwrap();
    measured(&held, 10_000, |a| a.bit);
    held.lift();

    // As little as may be asked for; whoever stands still is told from that, too.
    let memory = Memory { touch_rate: Some(MIB), ..Memory::bytes(2 * MIB) };
    let hold = task(Fault::Memory(memory), 210, 30_000, 60_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    measured(&held, 10_000, |a| a.bit && a.measured.ends_with(" MiB/s touched"));
    kill(Pid::from_raw(burners(&tag)[0]), Signal::SIGSTOP).unwrap();
    measured(&held, 10_000, |a| !a.bit);
    held.lift();

    // Too short for that: said, where it was taken at all.
    let memory = Memory { touch_rate: Some(20 * MIB), ..Memory::bytes(2 * MIB) };
    let held = Held::start(&host, task(Fault::Memory(memory), 211, 30_000, 60_000)).held();
    let lifted = held.lift();
    assert!(lifted.bit, "{lifted:?}");
    assert_eq!(lifted.note, "how much was touched was not seen", "{lifted:?}");

    // It is seen also where it was taken late.
    let memory = Memory { ramp_ms: 1_000, touch_rate: Some(20 * MIB), ..Memory::bytes(20 * MIB) };
    let held = Held::start(&host, task(Fault::Memory(memory), 212, 30_000, 60_000)).held();
    std::thread::sleep(Duration::from_millis(3_400));
    let lifted = held.lift();
    assert!(lifted.bit && lifted.measured.contains("touched"), "{lifted:?}");

    // All of it many times a second: a page counts once.
    let memory = Memory { touch_rate: Some(400 * MIB), ..Memory::bytes(32 * MIB) };
    let held = Held::start(&host, task(Fault::Memory(memory), 207, 30_000, 60_000)).held();
    measured(&held, 10_000, |a| a.bit && a.measured.contains(", all of it touched within "));
    held.lift();
}
