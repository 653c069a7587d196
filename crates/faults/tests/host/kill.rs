//! Signals: to whom, how often, and to whom never.

use std::process::{Command, Stdio};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use squall_core::fault::{Amount, Fault, Kill, Processes, Protocol};
use squall_core::hold::{Failure, HolderReport};
use squall_faults::holder::HolderEvent;

use crate::bench::{Held, TestHost, task, until};
use crate::victim::{Victim, with};

fn kill(processes: Processes, amount: Amount) -> Fault {
    Fault::Kill(Kill { processes, amount, signal: 9, interval_ms: None })
}

fn dead(victims: &mut [Victim]) -> usize {
    victims.iter_mut().map(|v| usize::from(v.has_ended())).sum()
}

fn alive(victims: &mut [Victim]) -> &Victim {
    let first = victims.iter_mut().position(|v| !v.has_ended()).expect("one is alive");
    &victims[first]
}

#[test]
fn it_kills_as_many_as_it_was_told() {
    let host = TestHost::new();
    let mut victims: Vec<_> = (0..5).map(|_| Victim::start(&host, 2, "kill-count")).collect();
    let some =
        Held::start(&host, task(kill(with("kill-count"), Amount::Count(1)), 40, 20_000, 30_000));
    let achieved = some.achieved();
    assert_eq!(achieved.measured, "1 signalled, 1 seen dead");
    until(1_000, || dead(&mut victims) == 1);
    let half = task(kill(with("kill-count"), Amount::Percent(50)), 41, 20_000, 30_000);
    let half = Held::start(&host, half).held();
    until(1_000, || dead(&mut victims) == 3);
    let one = alive(&mut victims).pid();
    let by_pid = Processes { pid: Some(one as u32), ..with("kill-count") };
    let by_pid = Held::start(&host, task(kill(by_pid, Amount::All), 42, 20_000, 30_000)).held();
    until(1_000, || dead(&mut victims) == 4);
    let last = alive(&mut victims);
    last.resumes(1_000);
    for held in [some, half, by_pid] {
        assert!(held.lift().bit, "it stays until it is lifted");
    }
}

#[test]
fn who_does_not_die_of_it_is_told_and_then_not_all_were_killed() {
    let host = TestHost::new();
    let mut dies = Victim::start(&host, 1, "kill-some");
    let mut ignores = host.run(|| {
        Command::new("sh")
            // It ends by itself.
            .args(["-c", "trap '' TERM; for n in $(seq 100); do sleep 0.2; done; : kill-some"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    });
    let ignored = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", ignores.id())).unwrap();
        let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).unwrap().trim();
        u64::from_str_radix(mask, 16).unwrap() & (1 << (Signal::SIGTERM as u64 - 1)) != 0
    };
    until(2_000, ignored);
    let term = Fault::Kill(Kill {
        processes: with("kill-some"),
        amount: Amount::All,
        signal: Signal::SIGTERM as u8,
        interval_ms: None,
    });
    let held = Held::start(&host, task(term, 54, 8_000, 20_000));
    until(2_000, || dies.has_ended());
    let lifted = held.lift();
    assert!(!lifted.bit && lifted.measured.contains("2 signalled, 1 seen dead"), "{lifted:?}");
    assert_eq!(lifted.note, "1 still live");
    ignores.kill().unwrap();
    ignores.wait().unwrap();
}

#[test]
fn it_finds_who_listens_and_spares_what_is_protected() {
    let host = TestHost::new();
    let mut victims: Vec<_> = (0..4).map(|_| Victim::start(&host, 1, "kill-ports")).collect();
    let by_port = |port| Processes { port: Some(port), ..Processes::default() };
    for (n, port) in [(0, victims[0].tcp), (1, victims[1].udp)] {
        let held = Held::start(&host, task(kill(by_port(port), Amount::All), 43, 5_000, 9_000));
        assert_eq!(held.achieved().measured, "1 signalled, 1 seen dead");
        until(1_000, || dead(&mut victims) == n + 1 && victims[n].has_ended());
    }
    let refused = |change: &dyn Fn(&mut squall_core::hold::Hold), wanted: Processes| {
        let mut hold = task(kill(wanted, Amount::All), 44, 5_000, 9_000);
        change(&mut hold);
        Held::start(&host, hold).failed()
    };
    let is_protected = |failure: &Failure| matches!(failure, Failure::Protected(_));
    let (tcp, udp) = (victims[2].tcp, victims[3].udp);
    let why = refused(
        &|h| h.protect.ports = vec![(Protocol::Tcp, tcp), (Protocol::Udp, udp)],
        with("kill-ports"),
    );
    assert!(is_protected(&why));
    let words = "no process with the command line `kill-ports` but 2 that the policy protects";
    assert_eq!(why.to_string(), format!("nothing to hurt: {words}"));
    assert!(is_protected(&refused(
        &|h| h.protect.processes = vec!["victim".into()],
        with("kill-ports")
    )));
    for nobody in [
        Processes { exclude: vec!["victim".into()], ..with("kill-ports") },
        Processes { name: Some("victi".into()), ..with("kill-ports") },
        Processes { cgroup: Some("no/such/group".into()), ..with("kill-ports") },
    ] {
        assert!(matches!(refused(&|_| (), nobody), Failure::NoTarget(_)));
    }
    // The test itself started the holder, and pid 1 is pid 1.
    for pid in [std::process::id(), 1] {
        let own = Processes { pid: Some(pid), ..Processes::default() };
        assert!(!is_protected(&refused(&|_| (), own)), "pid {pid}");
    }
    victims[2].resumes(1_000);
    victims[3].resumes(1_000);
    // Of what matches and is spared beside the others.
    let mut hold = task(kill(with("kill-ports"), Amount::All), 54, 5_000, 9_000);
    hold.protect.ports = vec![(Protocol::Tcp, tcp)];
    let achieved = Held::start(&host, hold).achieved().clone();
    assert_eq!(achieved.note, "the policy spares 1 process that matches", "{achieved:?}");
    assert!(achieved.bit && victims[3].has_ended());
    victims[3] = Victim::start(&host, 1, "kill-ports");
    let name = Processes { name: Some("victim".into()), ..with("kill-ports") };
    Held::start(&host, task(kill(name, Amount::All), 45, 5_000, 9_000)).held();
    until(1_000, || dead(&mut victims) == 4);
}

#[test]
fn who_asks_is_not_hurt_nor_whom_they_ask_from() {
    let host = TestHost::new();
    // A shell that holds the word, and a program that it runs and that asks for the fault.
    let mut shell = host.run(|| {
        Command::new("sh")
            .args(["-c", "sleep 30; : kill-asker"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    });
    let tasks = format!("/proc/{0}/task/{0}/children", shell.id());
    let child = || std::fs::read_to_string(&tasks).unwrap().trim().parse().ok();
    until(2_000, || child().is_some());
    let asked = |number, asker| {
        let mut hold = task(kill(with("kill-asker"), Amount::All), number, 5_000, 9_000);
        hold.protect.asker = asker;
        Held::start(&host, hold)
    };
    let asker: i32 = child().unwrap();
    let why = asked(52, Some(asker)).failed().to_string();
    assert!(why.contains("(1 that match are excluded"), "{why}");
    assert_eq!((shell.try_wait().unwrap(), child()), (None, Some(asker)));
    // Where nobody on the host asked it is hurt as others are.
    asked(53, None).achieved();
    until(1_000, || shell.try_wait().unwrap().is_some());
    signal::kill(Pid::from_raw(asker), Signal::SIGKILL).unwrap();
}

#[test]
fn squall_itself_is_never_picked() {
    let host = TestHost::new();
    let cpu = Fault::Cpu(squall_core::fault::Cpu::new(Some(1), 1));
    let other = task(cpu, 46, 8_000, 9_000);
    let tag = other.id.tag();
    let held = Held::start(&host, other).held();
    // The holder and its burner carry this word on their command lines.
    let refused = Held::start(&host, task(kill(with(&tag), Amount::All), 47, 5_000, 9_000));
    let why = refused.failed().to_string();
    assert!(why.contains("(2 that match are excluded"), "{why}");
    held.lift();
    // So does a program that is not this one but bears our name, as a coordinator may.
    let other = Victim::start(&host, 1, "squall kill-by-name");
    let refused =
        Held::start(&host, task(kill(with("kill-by-name"), Amount::All), 51, 5_000, 9_000));
    let why = refused.failed().to_string();
    assert!(why.contains("(1 that match are excluded"), "{why}");
    other.resumes(1_000);
    // It is told also where others are picked.
    let _plain = Victim::start(&host, 1, "kill-by-name");
    let hold = task(kill(with("kill-by-name"), Amount::All), 55, 5_000, 9_000);
    let achieved = Held::start(&host, hold).achieved().clone();
    let note = "1 process that matches is excluded, Squall's own, or of who asks";
    assert!(achieved.bit && achieved.note == note, "{achieved:?}");
    other.resumes(1_000);
}

/// A process that ends with the test.
struct Headless(std::process::Child);

impl Drop for Headless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_whose_first_thread_has_ended_lives() {
    const SOURCE: &str = "#include <pthread.h>\n#include <unistd.h>\n\
        static void *rest(void *of) { for (;;) pause(); return of; }\n\
        int main(void) { pthread_t t; pthread_create(&t, 0, rest, 0); pthread_exit(0); }\n";
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("headless.c"), dir.path().join("headless"));
    std::fs::write(&source, SOURCE).unwrap();
    let built = Command::new("cc").args(["-pthread", "-o"]).args([&program, &source]).status();
    assert!(built.unwrap().success());
    let host = TestHost::new();
    let mut headless = host.run(move || {
        let mut program = Command::new(&program);
        program.arg("kill-headless").stdout(Stdio::null()).stderr(Stdio::null());
        Headless(program.spawn().unwrap())
    });
    let status = format!("/proc/{}/status", headless.0.id());
    until(2_000, || std::fs::read_to_string(&status).unwrap().contains("State:\tZ"));
    let pause = Fault::Pause(squall_core::fault::Pause { processes: with("kill-headless") });
    let held = Held::start(&host, task(pause, 55, 5_000, 9_000));
    assert_eq!(held.achieved().requested, "1 process to stand still");
    held.lift();
    let held = Held::start(&host, task(kill(with("kill-headless"), Amount::All), 56, 5_000, 9_000));
    assert_eq!(held.achieved().measured, "1 signalled, 1 seen dead");
    until(1_000, || headless.0.try_wait().unwrap().is_some());
}

#[test]
fn it_comes_again_until_it_is_lifted() {
    let host = TestHost::new();
    let again = Fault::Kill(Kill {
        processes: with("kill-again"),
        amount: Amount::All,
        signal: 9,
        interval_ms: Some(100),
    });
    let mut victim = Victim::start(&host, 1, "kill-again");
    let held = Held::start(&host, task(again, 48, 8_000, 20_000)).held();
    for _ in 0..4 {
        until(3_000, || victim.has_ended());
        victim = Victim::start(&host, 1, "kill-again");
    }
    let achieved = held.lift();
    let signalled: u32 = achieved.measured.split(' ').next().unwrap().parse().unwrap();
    assert!(signalled >= 4, "{achieved:?}");
    if !victim.has_ended() {
        victim.resumes(1_000);
    }
}

#[test]
fn a_victim_that_does_not_die_is_told_of() {
    let host = TestHost::new();
    let mut victim = Victim::start(&host, 1, "deaf kill-deaf");
    let with_signal = |signal| {
        let processes = with("kill-deaf");
        Fault::Kill(Kill { processes, amount: Amount::All, signal, interval_ms: None })
    };
    let held = Held::start(&host, task(with_signal(15), 49, 30_000, 60_000));
    match held.next(5_000) {
        Some(HolderEvent::Report(HolderReport::Held(achieved))) => {
            assert!(!achieved.bit, "{achieved:?}");
            assert_eq!(achieved.measured, "1 signalled, 0 seen dead");
        }
        other => panic!("{other:?}"),
    }
    // A real-time signal that it neither blocks nor handles ends it; the first one sees that, too.
    let other = Held::start(&host, task(with_signal(40), 50, 5_000, 9_000));
    assert!(other.achieved().note.contains("receivers' business"));
    until(2_000, || victim.has_ended());
    match held.next(10_000) {
        Some(HolderEvent::Report(HolderReport::Measured(achieved))) => {
            assert_eq!(achieved.measured, "1 signalled, 1 seen dead");
        }
        other => panic!("{other:?}"),
    }
    let achieved = held.lift();
    assert!(achieved.bit && achieved.measured.ends_with("1 seen dead"), "{achieved:?}");
}
