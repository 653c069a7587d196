//! Processes that stand still, and go on as if nothing had been.

use std::time::{Duration, Instant};

use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use nix::sys::signal::Signal;
use squall_core::fault::{Amount, Fault, Kill, Pause, Processes};
use squall_core::hold::{Failure, HolderReport};
use squall_faults::holder::HolderEvent;

use crate::bench::{Held, TestHost, soon, task, until};
use crate::victim::{Victim, state, with};

fn pause(processes: Processes) -> Fault {
    Fault::Pause(Pause { processes })
}

#[test]
fn every_thread_of_every_match_stands_still_and_goes_on() {
    let host = TestHost::new();
    let victims: Vec<_> = (0..3).map(|_| Victim::start(&host, 9, "pause-many")).collect();
    let other = Victim::start(&host, 1, "pause-other");
    let held = Held::start(&host, task(pause(with("pause-many")), 60, 8_000, 20_000));
    let achieved = held.achieved();
    assert!(achieved.measured.starts_with("3 processes with 27 threads, 0 not"), "{achieved:?}");
    assert!(victims.iter().all(Victim::stands));
    assert!(victims.iter().all(|v| v.state() == 't'));
    other.resumes(1_000);
    let lifted = held.lift();
    assert!(lifted.bit && lifted.measured.contains("threads, 0 not stopped, 0 ms"), "{lifted:?}");
    for victim in &victims {
        victim.resumes(1_000);
    }
}

#[test]
fn what_job_control_had_stopped_stays_stopped() {
    let host = TestHost::new();
    for (number, killed) in [(61, false), (62, true)] {
        let victim = Victim::start(&host, 3, "pause-stopped");
        victim.signal(Signal::SIGSTOP);
        until(1_000, || victim.state() == 'T');
        let held = Held::start(&host, task(pause(with("pause-stopped")), number, 8_000, 20_000));
        let held = held.held();
        assert_eq!(victim.state(), 't');
        if killed {
            held.holder.kill();
            held.gone(2_000);
        } else {
            held.lift();
        }
        until(1_000, || victim.state() == 'T');
        assert!(victim.stands());
        victim.signal(Signal::SIGCONT);
        victim.resumes(1_000);
    }
}

#[test]
fn signals_wait_and_death_does_not() {
    let host = TestHost::new();
    let mut first = Victim::start(&host, 4, "pause-signals");
    let mut second = Victim::start(&host, 4, "pause-signals");
    let held = Held::start(&host, task(pause(with("pause-signals")), 63, 8_000, 20_000)).held();
    first.signal(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!first.has_ended(), "it cannot take the signal");
    // Its parent learns of the death while the fault is held.
    let killing = Kill {
        processes: Processes { pid: Some(second.pid() as u32), ..Processes::default() },
        amount: Amount::All,
        signal: 9,
        interval_ms: None,
    };
    let killer = Held::start(&host, task(Fault::Kill(killing), 64, 8_000, 20_000)).held();
    until(2_000, || second.has_ended());
    assert!(!first.has_ended());
    let lifted = held.lift();
    assert!(lifted.bit && lifted.note == "1 of them has died", "{lifted:?}");
    until(2_000, || first.has_ended());
    killer.lift();
}

#[test]
fn where_all_have_died_nothing_is_said_to_stand_still() {
    let host = TestHost::new();
    let mut victim = Victim::start(&host, 2, "pause-dead");
    let held = Held::start(&host, task(pause(with("pause-dead")), 79, 8_000, 20_000)).held();
    victim.signal(Signal::SIGKILL);
    until(2_000, || victim.has_ended());
    // As a supervisor would.
    let again = Victim::start(&host, 2, "pause-dead");
    again.resumes(1_000);
    let lifted = held.lift();
    let note = "1 of them has died, 1 that began to match since ran";
    assert!(!lifted.bit && lifted.note == note, "{lifted:?}");
}

#[test]
fn a_match_that_was_started_since_runs_and_then_it_is_no_pause() {
    let host = TestHost::new();
    let stands = Victim::start(&host, 2, "pause-again");
    let mut dies = Victim::start(&host, 2, "pause-again");
    let held = Held::start(&host, task(pause(with("pause-again")), 80, 8_000, 20_000));
    assert!(held.achieved().bit);
    dies.signal(Signal::SIGKILL);
    until(2_000, || dies.has_ended());
    // As a supervisor would.
    let again = Victim::start(&host, 2, "pause-again");
    again.resumes(1_000);
    assert!(stands.stands());
    let lifted = held.lift();
    assert!(!lifted.bit && lifted.note.ends_with("1 that began to match since ran"), "{lifted:?}");
}

#[test]
fn what_is_traced_already_is_refused_and_nothing_is_left_stopped() {
    let host = TestHost::new();
    let traced = Victim::start(&host, 2, "pause-twice first");
    let free = Victim::start(&host, 2, "pause-twice");
    let held = Held::start(&host, task(pause(with("pause-twice first")), 65, 8_000, 20_000)).held();
    free.resumes(1_000);
    let second = Held::start(&host, task(pause(with("pause-twice")), 66, 8_000, 20_000));
    let why = second.failed().to_string();
    assert!(why.contains(&format!("process {} (victim) is traced already", traced.pid())), "{why}");
    second.gone(2_000);
    free.resumes(1_000);
    assert!(traced.stands(), "the first pause is none the worse");
    held.lift();
    traced.resumes(1_000);
    let nobody = Held::start(&host, task(pause(with("pause-nobody")), 67, 8_000, 20_000));
    assert!(nobody.failed().to_string().starts_with("nothing to hurt: no process"));
}

#[test]
fn a_shell_that_forks_all_the_time_is_stopped_too() {
    let host = TestHost::new();
    let mut shell = host.run(|| {
        std::process::Command::new("sh")
            .args(["-c", "while :; do (: pause-forks); /bin/true; done"])
            .spawn()
            .unwrap()
    });
    let began = Instant::now();
    for number in 68..78 {
        let held = Held::start(&host, task(pause(with("pause-forks")), number, 8_000, 20_000));
        assert!(held.achieved().bit);
        held.lift();
    }
    println!("ten pauses of a forking shell took {:?}", began.elapsed());
    shell.kill().unwrap();
    shell.wait().unwrap();
}

/// A victim of which one thread cannot stop: it opens a file, and whoever is to permit that is silent
/// until [`Fanotify`] is dropped.
fn stuck(host: &TestHost, word: &str) -> (Victim, Fanotify) {
    let file = std::env::temp_dir().join(format!("squall-{word}-{}", std::process::id()));
    std::fs::write(&file, "").unwrap();
    let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC;
    let permits = Fanotify::init(flags, EventFFlags::O_RDONLY).unwrap();
    let opening = MaskFlags::FAN_OPEN_PERM;
    permits.mark(MarkFlags::FAN_MARK_ADD, opening, AT_FDCWD, Some(&file)).unwrap();
    let victim = Victim::start(host, 1, &format!("{word} open-{}", file.display()));
    let tasks = format!("/proc/{}/task", victim.pid());
    let threads = || std::fs::read_dir(&tasks).unwrap().map(|t| t.unwrap().file_name());
    until(5_000, || threads().any(|t| state(t.to_str().unwrap().parse().unwrap()) == Some('D')));
    std::fs::remove_file(&file).unwrap();
    (victim, permits)
}

/// A victim that does not stop is waited for longer than the first lease lasts.
#[test]
fn renewals_count_while_the_fault_is_being_put_in_place() {
    let host = TestHost::new();
    let (victim, permits) = stuck(&host, "pause-renewed");
    let held = Held::start(&host, task(pause(with("pause-renewed")), 65, 500, 20_000));
    let said = (0..100).find_map(|_| {
        held.holder.renew(soon(500));
        held.next(50)
    });
    let Some(HolderEvent::Report(HolderReport::Failed(Failure::NoBite(why)))) = said else {
        panic!("{said:?}");
    };
    assert!(why.contains("does not stop (state D)"), "{why}");
    victim.resumes(1_000);
    drop(permits);
}

/// As one that waits for a child which was stopped first, and is let go between two attempts.
#[test]
fn what_stops_late_is_paused_at_the_next_attempt() {
    let host = TestHost::new();
    let (victim, permits) = stuck(&host, "pause-late");
    let held = Held::start(&host, task(pause(with("pause-late")), 67, 8_000, 20_000));
    until(2_000, || victim.state() == 't');
    until(2_000, || victim.state() != 't');
    drop(permits);
    let held = held.held();
    assert!(victim.stands());
    held.lift();
    victim.resumes(1_000);
}
