//! What `/proc` says of processes and of memory.
//!
//! Everything here races with processes that come and go: an error about one process means that it
//! is gone, or that it is none of our business.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::unistd::{Pid, SysconfVar, sysconf};

/// `PF_KTHREAD`.
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Of a command line so much is read, and so many words: its process chooses how long it is, which may be
/// gigabytes.
const MAX_CMDLINE: u64 = 64 * 1024;
const MAX_WORDS: usize = 4_096;

/// One line of `/proc/PID/stat`, as far as it is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub comm: String,
    /// As `ps` shows it: `R`, `S`, `D`, `T` stopped, `t` stopped by a tracer, `Z` dead.
    pub state: char,
    pub parent: i32,
    pub kernel_thread: bool,
    /// Clock ticks after boot: with the process number an identity.
    pub started: u64,
}

impl Stat {
    /// Whether nothing can happen to this thread any more; of a process others may live.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// By a signal or a tracer.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} reads differently than expected"))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // A command's name may hold blanks and brackets; nothing after it does.
    let (head, tail) = text.rsplit_once(") ")?;
    let (_, comm) = head.split_once(" (")?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    Some(Stat {
        comm: comm.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        kernel_thread: fields.get(6)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
        started: fields.get(19)?.parse().ok()?,
    })
}

fn read_stat(path: &str) -> io::Result<Stat> {
    let bytes = fs::read(path)?;
    parse_stat(&String::from_utf8_lossy(&bytes)).ok_or_else(|| odd(path))
}

/// The process `pid`.
pub(crate) fn stat(pid: i32) -> io::Result<Stat> {
    read_stat(&format!("/proc/{pid}/stat"))
}

/// The thread `tid` of the process `pid`.
pub(crate) fn thread_stat(pid: i32, tid: i32) -> io::Result<Stat> {
    read_stat(&format!("/proc/{pid}/task/{tid}/stat"))
}

fn numbers(path: &str) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        // An entry that went while we read is no entry.
        let name = entry.map(|e| e.file_name());
        if let Some(number) = name.ok().and_then(|n| n.to_str()?.parse().ok()) {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Where `/proc` shows a process: at its own number, or, where its first thread has ended before the
/// others, at one that lives. None of one that is dead.
pub(crate) fn place(pid: i32, stat: &Stat) -> Option<String> {
    if !stat.is_dead() {
        return Some(format!("/proc/{pid}"));
    }
    let lives = |tid: &i32| thread_stat(pid, *tid).is_ok_and(|stat| !stat.is_dead());
    let tid = threads(pid).ok()?.into_iter().find(lives)?;
    Some(format!("/proc/{pid}/task/{tid}"))
}

/// Every process, by number.
pub(crate) fn processes() -> io::Result<Vec<i32>> {
    numbers("/proc")
}

/// Every thread of a process.
pub(crate) fn threads(pid: i32) -> io::Result<Vec<i32>> {
    numbers(&format!("/proc/{pid}/task"))
}

/// Whether the process is of our own user: whatever it calls itself, another user's is none of ours. The
/// directory is always its effective user's, as seen from here.
pub(crate) fn is_of_our_user(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}"))
        .is_ok_and(|of| of.uid() == rustix::process::geteuid().as_raw())
}

/// The first words of the command line, by where `/proc` shows the process; none for a dead one.
pub(crate) fn words(place: &str) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    fs::File::open(format!("{place}/cmdline"))?.take(MAX_CMDLINE).read_to_end(&mut bytes)?;
    let words = bytes.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned());
    let mut words: Vec<String> = words.take(MAX_WORDS).collect();
    // The last word ends with a zero, too.
    words.pop_if(|last| last.is_empty());
    Ok(words)
}

/// The number behind `name` in a file of lines like `Name:   12 kB`.
fn line_number(path: &str, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let rest = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let number = rest.and_then(|r| r.split_ascii_whitespace().next()?.parse().ok());
    number.ok_or_else(|| odd(&format!("`{name}` in {path}")))
}

/// Who traces this thread, 0 for nobody.
pub(crate) fn tracer(tid: i32) -> io::Result<u64> {
    line_number(&format!("/proc/{tid}/status"), "TracerPid")
}

/// Bytes of the mappings without a name, which hold large amounts of memory that a process has taken, that
/// were read or written since this was asked last, by the pages that the processor marked.
pub(crate) fn referenced(pid: i32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/smaps");
    let bytes = referenced_unnamed(&fs::read_to_string(&path)?).ok_or_else(|| odd(&path))?;
    fs::write(format!("/proc/{pid}/clear_refs"), "1")?;
    Ok(bytes)
}

fn referenced_unnamed(smaps: &str) -> Option<u64> {
    let (mut counts, mut sum) = (false, 0);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next()?;
        if !first.ends_with(':') {
            // `from-to rwxp offset device inode [name]`
            // where a C library may say whose it is.
            counts = words.nth(4).is_none_or(|name| name.starts_with("[anon:"));
        } else if counts && first == "Referenced:" {
            sum += words.next()?.parse::<u64>().ok()? * 1024;
        }
    }
    Some(sum)
}

/// Bytes of memory that are the process's own, in RAM now.
pub(crate) fn own_memory(pid: i32) -> io::Result<u64> {
    Ok(line_number(&format!("/proc/{pid}/status"), "RssAnon")? * 1024)
}

/// Bytes that processes could still take without swapping, as the kernel estimates it.
pub(crate) fn memory_available() -> io::Result<u64> {
    Ok(line_number("/proc/meminfo", "MemAvailable")? * 1024)
}

/// Processor time that all threads of the process have used.
pub(crate) fn cpu_time(pid: i32) -> io::Result<Duration> {
    let clock = nix::time::clock_getcpuclockid(Pid::from_raw(pid))?;
    Ok(clock.now()?.into())
}

/// Time that these processors of the host have spent idle since boot, all together; all of them where
/// `cores` is empty.
pub(crate) fn idle_time(cores: &[u16]) -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks = if cores.is_empty() {
        idle_ticks(&text, "cpu")
    } else {
        cores.iter().map(|core| idle_ticks(&text, &format!("cpu{core}"))).sum()
    };
    let ticks = ticks.ok_or_else(|| odd("/proc/stat"))?;
    let second = sysconf(SysconfVar::CLK_TCK)?.and_then(|n| u64::try_from(n).ok());
    let second = second.filter(|n| *n > 0).ok_or_else(|| odd("the clock's tick"))?;
    Ok(Duration::from_millis(ticks.saturating_mul(1_000) / second))
}

/// Idle, with the time in which nothing ran since all waited for a disk; of the line `name`.
fn idle_ticks(stat: &str, name: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    let mut fields = line.split_ascii_whitespace().skip(3);
    let (idle, waiting): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(idle.saturating_add(waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_is_read_to_its_end() {
        let text = "42 (a) S (b) t 7 42 42 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 9 0 8123 1 2 3";
        let stat = parse_stat(text).unwrap();
        let wanted = Stat {
            comm: "a) S (b".into(),
            state: 't',
            parent: 7,
            kernel_thread: false,
            started: 8123,
        };
        assert_eq!(stat, wanted);
        assert_eq!(parse_stat("42 (a) S 7"), None);
    }

    #[test]
    fn idle_is_what_nobody_used() {
        let text = "cpu  10 20 30 400 7 0 5 0 0 0\ncpu0 1 2 3 4 5 0 0 0 0 0\n";
        assert_eq!(idle_ticks(text, "cpu"), Some(407));
        assert_eq!(idle_ticks(text, "cpu0"), Some(9));
        assert_eq!(idle_ticks("cpu0 1 2 3 4 5", "cpu"), None);
        assert_eq!(idle_ticks("cpu10 1 2 3 4 5", "cpu1"), None);
        assert!(idle_time(&[]).unwrap() > Duration::ZERO);
        assert!(idle_time(&[0]).unwrap() <= idle_time(&[]).unwrap());
        assert!(idle_time(&[1_023]).is_err());
    }

    #[test]
    fn what_is_touched_is_counted_without_files_and_named_mappings() {
        let text = "\
7f00-7f10 rw-p 00000000 00:00 0 \nSize: 64 kB\nReferenced:           40 kB\nVmFlags: rd wr\n\
7f20-7f30 rw-p 00000000 00:00 0                          [heap]\nReferenced: 100 kB\n\
7f40-7f50 r-xp 00000000 fe:00 77 /usr/bin/squall\nReferenced: 100 kB\n\
7f60-7f70 rw-p 00000000 00:00 0\nReferenced: 2 kB\n\
7f80-7f90 rw-p 00000000 00:00 0 [anon: glibc: malloc]\nReferenced: 3 kB\n";
        assert_eq!(referenced_unnamed(text), Some(45 << 10));
    }

    #[test]
    fn of_a_long_command_line_the_first_words_are_read() {
        // Each shorter than the kernel's 128 KiB for one argument.
        let long = "x".repeat(100 << 10);
        for (word, times, most) in [(long.as_str(), 8, MAX_CMDLINE as usize), ("", 20_000, 16)] {
            // It reads its standard input first, and waits for it.
            let mut cat = std::process::Command::new("cat");
            cat.arg("-").args(std::iter::repeat_n(word, times));
            let mut child = cat.stdin(std::process::Stdio::piped()).spawn().unwrap();
            // It has none before it runs its program.
            let place = format!("/proc/{}", child.id());
            let mut words = Vec::new();
            while words.is_empty() {
                words = super::words(&place).unwrap();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(words[..2], ["cat", "-"]);
            let bytes: usize = words.iter().map(String::len).sum();
            assert!(bytes <= most && words.len() <= MAX_WORDS, "{bytes} in {}", words.len());
        }
    }

    #[test]
    fn it_reads_this_process() {
        let me = std::process::id() as i32;
        assert!(processes().unwrap().contains(&me));
        assert!(threads(me).unwrap().contains(&me));
        assert_eq!(words("/proc/self").unwrap(), std::env::args().collect::<Vec<_>>());
        assert_eq!(stat(me).unwrap().parent, std::os::unix::process::parent_id() as i32);
        assert_eq!(tracer(me).unwrap(), 0);
        assert!(own_memory(me).unwrap() > 4096 && memory_available().unwrap() > 4096);
        assert!(cpu_time(me).unwrap() > Duration::ZERO);
        let memory = vec![1_u8; 64 << 20];
        assert!(referenced(me).unwrap() >= 64 << 20);
        assert!(referenced(me).unwrap() < 48 << 20, "nobody touched {}", memory.len());
    }
}
