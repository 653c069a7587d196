//! Processor time and memory: how much, how little, and beside each other.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_core::fault::{
    Amount, Cpu, Direction, Fault, Kill, Loss, Memory, Partition, Pause, Traffic,
};
use squall_core::hold::{HolderOrder, HolderReport};
use squall_faults::holder::HolderEvent;
use squall_faults::residue::Snapshot;

use crate::bench::{Held, Pair, TestHost, example, soon, task, until};
use crate::victim::{Victim, burners, state, taken, with};

const MIB: u64 = 1 << 20;

fn cpu(workers: u16, load_percent: u8) -> Fault {
    Fault::Cpu(Cpu::new(Some(workers), load_percent))
}

#[test]
fn burners_burn_about_what_was_asked() {
    let host = TestHost::new();
    let hold = task(cpu(3, 20), 80, 8_000, 20_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    assert_eq!(burners(&tag).len(), 3);
    for pid in burners(&tag).into_iter().chain([held.holder.pid() as i32]) {
        // Whoever kills all that is called so kills the fault.
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert!(comm.starts_with("squall-"), "{comm}");
    }
    std::thread::sleep(Duration::from_secs(2));
    let lifted = held.lift();
    assert_eq!(lifted.requested, "3 burners of 20 % of one processor");
    let percent: u32 = lifted.measured.split(' ').next().unwrap().parse().unwrap();
    // Less where others compete for the processors; never more than a period's rounding.
    assert!((15..=66).contains(&percent), "{lifted:?}");
    assert!(burners(&tag).is_empty());
}

#[test]
fn each_processor_gets_a_burner_where_none_were_counted() {
    let host = TestHost::new();
    let hold = task(Fault::Cpu(Cpu::new(None, 5)), 81, 8_000, 20_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    assert_eq!(burners(&tag).len() as i64, online.unwrap().unwrap());
    held.lift();
}

#[test]
fn memory_is_taken_and_given_back() {
    let host = TestHost::new();
    let hold = task(Fault::Memory(Memory::bytes(200 * MIB)), 82, 8_000, 20_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    let burner = burners(&tag)[0];
    until(3_000, || taken(burner) >= 200 * MIB);
    assert!(taken(burner) < 202 * MIB);
    let score = std::fs::read_to_string(format!("/proc/{burner}/oom_score_adj")).unwrap();
    assert_eq!(score.trim(), "1000");
    let lifted = held.lift();
    assert_eq!(lifted.requested, "200 MiB");
    assert!(lifted.bit && lifted.measured.starts_with("200 MiB taken"), "{lifted:?}");
    assert!(burners(&tag).is_empty());
}

#[test]
fn the_floor_is_kept() {
    let host = TestHost::new();
    let available = || {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    };
    // Far less than what is asked may be taken, and far more than what else goes on here takes or gives.
    let room = available() / 20;
    let mut hold = task(Fault::Memory(Memory::percent(90)), 83, 8_000, 20_000);
    let floor = available() - room;
    hold.protect.memory_floor = floor;
    let tag = hold.id.tag();
    let held = Held::start(&host, hold);
    let said = held.next(5_000);
    assert!(matches!(said, Some(HolderEvent::Report(HolderReport::Held(_)))), "{said:?}");
    let burner = burners(&tag)[0];
    let mut before = 0;
    until(5_000, || {
        std::thread::sleep(Duration::from_millis(300));
        taken(burner) == std::mem::replace(&mut before, taken(burner))
    });
    // What others give back meanwhile it may take too; what they take it gives back.
    until(5_000, || available() + 64 * MIB >= floor);
    let lifted = held.lift();
    assert!(!lifted.bit, "far less than what was asked: {lifted:?}");
    assert!(lifted.note.starts_with("the policy leaves"), "{lifted:?}");

    let mut hold = task(Fault::Memory(Memory::bytes(MIB)), 84, 8_000, 20_000);
    hold.protect.memory_floor = 1 << 50;
    let why = Held::start(&host, hold).failed().to_string();
    assert!(why.contains("the policy leaves 1073741824 MiB free"), "{why}");
}

#[test]
fn a_frozen_burner_goes_at_the_end_of_its_lease_and_takes_the_fault_with_it() {
    let host = TestHost::new();
    let hold = task(cpu(2, 5), 85, 1_500, 20_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    let frozen = burners(&tag)[0];
    kill(Pid::from_raw(frozen), Signal::SIGSTOP).unwrap();
    // The holder is renewed; the burner does not hear of it.
    let mut renewals = 0;
    let ended = loop {
        held.holder.renew(soon(1_500));
        renewals += 1;
        assert!(renewals < 40, "the frozen burner is still there");
        match held.next(200) {
            Some(HolderEvent::Gone { code, .. }) => break code,
            Some(HolderEvent::Report(HolderReport::Lifted(a, _))) => panic!("lifted: {a:?}"),
            Some(HolderEvent::Report(_)) | None => {}
        }
    };
    assert_eq!(ended, Some(1), "it says that the fault is no longer what was asked for");
    until(1_000, || burners(&tag).is_empty());
}

#[test]
fn a_burner_that_stands_still_does_not_bite_however_busy_the_host_is() {
    let host = TestHost::new();
    let hold = task(cpu(1, 20), 115, 20_000, 20_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    let burner = Pid::from_raw(burners(&tag)[0]);
    // All that others leave over is taken, and they are not kept from anything.
    let end = Instant::now() + Duration::from_millis(4_600);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = |_| {
        std::thread::spawn(move || {
            rustix::process::setpriority_process(None, 19).unwrap();
            while Instant::now() < end {}
        })
    };
    let busy: Vec<_> = (0..processors).map(busy).collect();
    std::thread::sleep(Duration::from_millis(600));
    kill(burner, Signal::SIGSTOP).unwrap();
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    kill(burner, Signal::SIGCONT).unwrap();
    let lifted = held.lift();
    assert!(!lifted.bit && lifted.note.contains("stood still"), "{lifted:?}");
}

#[test]
fn a_burner_that_dies_ends_the_fault_though_nobody_renews_it() {
    let host = TestHost::new();
    let memory = Fault::Memory(Memory::bytes(20 * MIB));
    for (number, fault) in [(105, cpu(2, 5)), (106, memory)] {
        // Its lease is all of its time.
        let hold = task(fault.clone(), number, 20_000, 20_000);
        let tag = hold.id.tag();
        let held = Held::start(&host, hold).held();
        kill(Pid::from_raw(burners(&tag)[0]), Signal::SIGKILL).unwrap();
        let over = (0..30).find_map(|_| match held.next(200)? {
            HolderEvent::Gone { code, .. } => Some(code),
            HolderEvent::Report(HolderReport::Lifted(a, _)) => panic!("lifted: {a:?}"),
            HolderEvent::Report(_) => None,
        });
        assert_eq!(over, Some(Some(1)), "{fault:?} is no longer what was asked for");
        // Who lifts it just then does not say that it bit.
        let held = Held::start(&host, task(fault, number + 5, 20_000, 20_000)).held();
        let tag = squall_core::ids::FaultId::tag(&task(cpu(1, 1), number + 5, 1, 1).id);
        let dead = burners(&tag)[0];
        kill(Pid::from_raw(dead), Signal::SIGKILL).unwrap();
        until(2_000, || matches!(state(dead), None | Some('Z')));
        held.holder.lift();
        let last = (0..30).find_map(|_| match held.next(200)? {
            HolderEvent::Report(HolderReport::Lifted(achieved, _)) => Some(Some(achieved)),
            HolderEvent::Gone { .. } => Some(None),
            HolderEvent::Report(_) => None,
        });
        let last = last.expect("it is over");
        assert!(last.as_ref().is_none_or(|a| !a.bit), "{last:?}");
    }
}

/// Its command line is gone before its memory is given back.
#[test]
fn a_burner_that_is_ending_is_not_gone_yet() {
    let host = TestHost::new();
    let mut looks = 0;
    for number in 93..96 {
        let hold = task(Fault::Memory(Memory::bytes(200 * MIB)), number, 8_000, 20_000);
        let id = hold.id.clone();
        let held = Held::start(&host, hold).held();
        let burner = burners(&id.tag())[0];
        until(5_000, || taken(burner) >= 200 * MIB);
        held.holder.kill();
        until(3_000, || {
            looks += 1;
            Snapshot::take().unwrap().carrying(&id).is_empty()
        });
        let state = state(burner);
        assert!(matches!(state, None | Some('Z')), "residue 0, and its state is {state:?}");
    }
    assert!(looks > 3, "it was never seen there");
}

#[test]
fn renewals_keep_burners() {
    let host = TestHost::new();
    let hold = task(cpu(2, 5), 91, 2_000, 60_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    for _ in 0..20 {
        held.holder.renew(soon(2_000));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(burners(&tag).len(), 2);
    held.gone(3_000);
    until(1_000, || burners(&tag).is_empty());
}

#[test]
fn a_frozen_burner_dies_with_its_holder() {
    let host = TestHost::new();
    let hold = task(cpu(1, 5), 90, 30_000, 60_000);
    let tag = hold.id.tag();
    let held = Held::start(&host, hold).held();
    kill(Pid::from_raw(burners(&tag)[0]), Signal::SIGSTOP).unwrap();
    held.holder.kill();
    until(2_000, || burners(&tag).is_empty());
}

#[test]
fn a_burner_touches_nothing_for_a_stranger_and_dies_with_its_thread() {
    let start = |parent: u32| {
        let mut child = Command::new(example("hold"))
            .args(["burn", &parent.to_string(), "sqdeadbeef00@h1"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = soon(20_000).0;
        let work = format!(
            "{{\"body\":{{\"Cpu\":{{\"load_percent\":1,\"ramp_ms\":0}}}},\"until\":{until}}}\n"
        );
        // A stranger's may have ended before it reads.
        let _ = child.stdin.as_mut().unwrap().write_all(work.as_bytes());
        child
    };
    assert_eq!(start(1).wait().unwrap().code(), Some(1));
    // Frozen, and with its pipe open: nothing but the death of its thread can end it so soon.
    let mut child = std::thread::spawn(move || {
        let child = start(std::process::id());
        let pid = child.id() as i32;
        let comm = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        until(10_000, || comm() == "squall-burn\n");
        assert!(state(pid).is_some_and(|s| s != 'Z'));
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        child
    })
    .join()
    .unwrap();
    let mut ended = None;
    until(2_000, || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().signal(), Some(9));
}

/// On a busy machine a child reads its task and the orders behind it in one piece, and the lease that
/// the task names may have ended by then.
#[test]
fn orders_that_come_with_the_task_count() {
    let me = std::process::id().to_string();
    let start = |role: &[&str], lines: String| {
        let mut child = Command::new(example("hold"))
            .args(role)
            .args([&me, "sqdeadbeef00@h1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(lines.as_bytes()).unwrap();
        child
    };
    let (early, late) = (soon(0).0, soon(20_000));
    let work = format!(
        "{{\"body\":{{\"Cpu\":{{\"load_percent\":1,\"ramp_ms\":0}}}},\"until\":{early}}}\n{}\n",
        late.0
    );
    let mut renewed = start(&["burn"], work);
    let hold = serde_json::to_string(&task(cpu(1, 5), 97, 0, 60_000)).unwrap();
    let renew = serde_json::to_string(&HolderOrder::Renew(late)).unwrap();
    let lift = serde_json::to_string(&HolderOrder::Lift).unwrap();
    let mut held = start(&[], format!("{hold}\n{renew}\n"));
    let mut words = BufReader::new(held.stdout.take().unwrap());
    let mut said = String::new();
    words.read_line(&mut said).unwrap();
    assert!(said.contains("Held"), "{said}");
    let host = TestHost::new();
    let mut victim = Victim::start(&host, 1, "burn-overtaken");
    let processes = with("burn-overtaken");
    let fault = Fault::Kill(Kill { processes, amount: Amount::All, signal: 9, interval_ms: None });
    let hold = serde_json::to_string(&task(fault, 92, 20_000, 60_000)).unwrap();
    let overtaken = start(&[], format!("{hold}\n{renew}\n{lift}\n")).wait_with_output().unwrap();
    assert!(overtaken.status.success() && overtaken.stdout.is_empty(), "{overtaken:?}");
    assert!(!victim.has_ended(), "a lift came before the kill");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(renewed.try_wait().unwrap(), None, "its first lease has ended, not its second");
    assert_eq!(held.try_wait().unwrap(), None, "its first lease has ended, not its second");
    writeln!(held.stdin.as_mut().unwrap(), "{lift}").unwrap();
    words.read_to_string(&mut said).unwrap();
    assert!(said.contains("Lifted"), "{said}");
    until(2_000, || held.try_wait().unwrap().is_some());
    drop(renewed.stdin.take());
    until(2_000, || renewed.try_wait().unwrap().is_some());
}

/// With so few descriptors some burners can be started, and not all.
#[test]
fn none_burns_where_not_all_can_be_started() {
    let hold = task(cpu(40, 1), 98, 20_000, 60_000);
    let tag = hold.id.tag();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 24 && exec \"$0\" \"$@\""])
        .arg(example("hold"))
        .args([&std::process::id().to_string(), "sqdeadbeef00@h1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = serde_json::to_string(&hold).unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{line}").unwrap();
    let said = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("Failed") && said.contains("a burner: "), "{said}");
    assert!(burners(&tag).is_empty());
}

#[test]
fn all_kinds_hold_beside_each_other_and_go_one_by_one() {
    let pair = Pair::new();
    let victim = Victim::start(&pair.h1, 3, "burn-beside");
    let far = "10.9.0.2".parse().unwrap();
    let traffic = Traffic {
        peers: vec!["10.9.0.2/32".parse().unwrap()],
        direction: Direction::Both,
        ports: vec![],
        protocol: None,
    };
    let cut = Fault::Partition(Partition { traffic: traffic.clone(), severed: vec![] });
    let pause = Fault::Pause(Pause { processes: with("burn-beside") });
    let memory = Fault::Memory(Memory::bytes(32 * MIB));
    let lossy = Fault::Loss(Loss { traffic, per_million: 900_000 });
    let mut prey = Victim::start(&pair.h1, 1, "burn-killed");
    let kill = Fault::Kill(Kill {
        processes: with("burn-killed"),
        amount: Amount::All,
        signal: 9,
        interval_ms: Some(60_000),
    });
    let faults = [cut, pause, cpu(1, 5), memory, kill];
    let holds: Vec<_> =
        (86..).zip(faults).map(|(number, fault)| task(fault, number, 60_000, 120_000)).collect();
    let ids: Vec<_> = holds.iter().map(|h| h.id.clone()).collect();
    let lossy = Held::start(&pair.h1, task(lossy, 99, 60_000, 120_000)).held();
    let mut held: Vec<_> = holds.into_iter().map(|h| Held::start(&pair.h1, h)).collect();
    for (held, id) in held.iter().zip(&ids) {
        // What the loss takes, the cut does not see.
        match held.next(5_000) {
            Some(HolderEvent::Report(HolderReport::Held(achieved))) => {
                assert!(achieved.bit || *id == ids[0], "{id}: {achieved:?}");
            }
            said => panic!("{id} is not held: {said:?}"),
        }
    }
    until(2_000, || prey.has_ended());
    // What other tests' burners leave while they end may be any fault's, as a proof sees it.
    let held_now = |pair: &Pair| -> Vec<bool> {
        let ids = ids.clone();
        let left = move || ids.iter().map(|id| Snapshot::take().unwrap().carrying(id)).collect();
        let left: Vec<Vec<String>> = pair.h1.run(left);
        left.iter().map(|l| !l.is_empty()).collect()
    };
    assert_eq!(held_now(&pair), [true; 5]);
    assert!(victim.stands());
    assert_eq!(pair.ways(far, None), (false, false));
    held.remove(2).lift();
    until(1_000, || held_now(&pair) == [true, true, false, true, true]);
    assert!(victim.stands());
    held.remove(1).lift();
    victim.resumes(1_000);
    until(1_000, || held_now(&pair) == [true, false, false, true, true]);
    lossy.lift();
    assert_eq!(pair.ways(far, None), (false, false));
    held.remove(0).lift();
    assert_eq!(pair.ways(far, None), (true, true));
    until(1_000, || held_now(&pair) == [false, false, false, true, true]);
    held.remove(0).lift();
    until(1_000, || held_now(&pair) == [false, false, false, false, true]);
    held.remove(0).lift();
    until(1_000, || held_now(&pair) == [false; 5]);
}
