//! The agent's side of a holder.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, mpsc};

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use squall_core::hold::{Hold, HolderOrder, HolderReport};
use squall_core::ids::FaultId;
use squall_core::time::Time;

use crate::lines;
use crate::residue;

/// Bytes of a pipe that are left to orders, behind a task.
const ORDERS: usize = 16 * 1024;
/// A longer line is not a report.
const MAX_LINE: u64 = 64 * 1024;

/// What happened to a holder.
#[derive(Debug)]
pub enum HolderEvent {
    /// Its words.
    Report(HolderReport),
    /// It is dead and reaped; nothing follows.
    Gone {
        /// Its exit code, where it exited.
        code: Option<i32>,
        /// The signal that killed it, where one did.
        signal: Option<i32>,
    },
}

type Request = Box<dyn FnOnce() + Send>;

/// The one thread from which holders are forked. It lives as long as this value: the signal that a
/// holder gets at its parent's death is sent when the forking *thread* ends.
#[derive(Debug)]
pub struct Spawner {
    program: PathBuf,
    args: Vec<OsString>,
    requests: Mutex<mpsc::Sender<Request>>,
}

impl Spawner {
    /// Starts the thread. `program` is called with `args`, this process's number and the fault's
    /// tag and host behind them.
    ///
    /// # Errors
    /// The thread could not be made.
    pub fn start(program: PathBuf, args: Vec<OsString>) -> io::Result<Spawner> {
        let (requests, inbox) = mpsc::channel::<Request>();
        std::thread::Builder::new().name("holders".into()).spawn(move || {
            for request in inbox {
                request();
            }
        })?;
        Ok(Spawner { program, args, requests: Mutex::new(requests) })
    }

    /// Starts a holder that will be told its task by [`Holder::begin`]. `events` is called from a thread of
    /// its own.
    ///
    /// # Errors
    /// The holder could not be started; nothing was touched.
    pub fn spawn(
        &self,
        id: &FaultId,
        events: impl Fn(HolderEvent) + Send + 'static,
    ) -> io::Result<Holder> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .arg(std::process::id().to_string())
            // For whoever looks for the fault's processes; the holder itself does not read it.
            .arg(residue::word(id))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0);
        let (answer, answered) = mpsc::channel();
        let request: Request = Box::new(move || {
            // Nobody waits for the answer any more only when the agent is gone.
            let _ = answer.send(command.spawn());
        });
        let stopped = || io::Error::other("the holders' thread has ended");
        self.requests.lock().map_err(|_| stopped())?.send(request).map_err(|_| stopped())?;
        let mut child = answered.recv().map_err(|_| stopped())??;
        let (hand, handed) = mpsc::channel();
        let followed = std::thread::Builder::new().name("holder".into()).spawn(move || {
            if let Ok(child) = handed.recv() {
                follow(child, &events);
            }
        });
        let holder = followed.and_then(|_| Holder::of(&mut child));
        match holder {
            Ok(holder) => {
                // It waits for it.
                let _ = hand.send(child);
                Ok(holder)
            }
            Err(error) => {
                // Without its task it has touched nothing.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

/// Reads a holder's reports to their end, then reaps it.
fn follow(mut child: Child, events: &dyn Fn(HolderEvent)) {
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        loop {
            line.clear();
            let limited = io::Read::take(&mut lines, MAX_LINE).read_line(&mut line);
            match limited {
                Ok(0) | Err(_) => break,
                Ok(_) => match serde_json::from_str(&line) {
                    Ok(report) => events(HolderEvent::Report(report)),
                    Err(error) => tracing::warn!(%error, line, "a holder said something else"),
                },
            }
        }
    }
    let (code, signal) = match child.wait() {
        Ok(status) => (status.code(), status.signal()),
        Err(_) => (None, None),
    };
    events(HolderEvent::Gone { code, signal });
}

/// A holder that was started. Dropping it ends its pipe, upon which it exits.
#[derive(Debug)]
pub struct Holder {
    pid: u32,
    pidfd: OwnedFd,
    stdin: Mutex<ChildStdin>,
}

impl Holder {
    fn of(child: &mut Child) -> io::Result<Holder> {
        let stdin = child.stdin.take();
        let stdin = stdin.ok_or_else(|| io::Error::other("the holder has no stdin"))?;
        let pid = child.id();
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::other("the holder has no number"))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())?;
        // A holder that does not read must not hold up the agent.
        lines::never_wait(&stdin)?;
        Ok(Holder { pid, pidfd, stdin: Mutex::new(stdin) })
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Gives it its task, once and before any order. Until then nothing was touched. Neither this nor an
    /// order waits for the holder.
    ///
    /// # Errors
    /// The pipe is closed, or has no room for the task: kill it then.
    pub fn begin(&self, hold: &Hold) -> io::Result<()> {
        let mut stdin = self.stdin.lock().map_err(|_| io::Error::other("the pipe is lost"))?;
        let line = lines::line(hold)?;
        let room = line.len() + ORDERS;
        if fcntl_getpipe_size(&*stdin)? < room {
            fcntl_setpipe_size(&*stdin, room)?;
        }
        stdin.write_all(&line)
    }

    /// Moves the end of its lease.
    pub fn renew(&self, until: Time) {
        self.order(HolderOrder::Renew(until));
    }

    /// Tells it to lift.
    pub fn lift(&self) {
        self.order(HolderOrder::Lift);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        if let Err(error) = pidfd_send_signal(&self.pidfd, Signal::KILL) {
            tracing::debug!(pid = self.pid, %error, "the holder was gone already");
        }
    }

    /// An order that does not arrive is an order to a holder that is frozen or dead; its lease ends
    /// both.
    fn order(&self, order: HolderOrder) {
        let Ok(mut stdin) = self.stdin.lock() else { return };
        let written = lines::write(&mut *stdin, &order);
        if let Err(error) = written {
            tracing::debug!(pid = self.pid, %error, "the holder does not take orders");
        }
    }
}
