//! Entering a lab from the machine. Only a process with one thread may.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{move_into_thread_name_spaces, set_name};
use squall_faults::sys::namespaces::{Spaces, single_threaded, tie};
use squall_faults::sys::pidfd;
use squall_faults::sys::signals::{self, Signals};

use crate::error::{LabError, errno, system};
use crate::host::SPACES;
use crate::mounts::{MARKER, SEARCH};
use crate::process::own_handle;
use crate::record::Record;

/// What a shell answers where there is no such program, and where it cannot be executed.
const NO_PROGRAM: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
/// Added to the number of the signal that killed a program.
const KILLED: i32 = 128;

/// Enters the network of the lab whose directory this is, so that its hosts can be reached. Does
/// nothing on a host of that lab.
///
/// # Errors
/// There is no lab there, it is down, or this process may not enter it.
pub fn enter_network(dir: &Path) -> Result<(), LabError> {
    if on_host_of(dir) {
        return Ok(());
    }
    let absent =
        || LabError::Absent { what: format!("lab in {}", dir.display()), others: Vec::new() };
    let record = Record::load(dir)?.ok_or_else(absent)?;
    let what = format!("lab {}", record.name);
    let down = || LabError::Down { what, lab: record.name.clone() };
    enter(&record, &record.switch()?.ok_or_else(down)?, Spaces::NETWORK)
}

/// Whether this process lives on a host of the lab whose directory this is.
fn on_host_of(dir: &Path) -> bool {
    let marker = fs::read_to_string(MARKER).unwrap_or_default();
    let lab = marker.lines().next().map(fs::canonicalize);
    match (lab, fs::canonicalize(dir)) {
        (Some(Ok(lab)), Ok(dir)) => lab == dir,
        (Some(Err(_)) | None, _) | (_, Err(_)) => false,
    }
}

fn enter(record: &Record, process: &pidfd::Process, spaces: Spaces) -> Result<(), LabError> {
    let what = || format!("to enter lab {}", record.name);
    if !single_threaded().map_err(system(what()))? {
        return Err(LabError::Failed(format!("{}: this process has threads", what())));
    }
    let user = if record.rootless { Spaces::USER } else { Spaces::empty() };
    move_into_thread_name_spaces(process.as_fd(), spaces | user).map_err(errno(what()))
}

/// Runs a program on a host, in all of its namespaces, with this process's own input and output, and
/// returns the number to end with: the program's, or 128 and the signal that killed it. Signals that
/// are sent to this process go to the program; its death is the program's.
///
/// # Errors
/// There is no such host, it is down, or this process may not enter it.
pub fn exec(record: &Record, host: &str, argv: &[String]) -> Result<i32, LabError> {
    let [program, args @ ..] = argv else {
        return Err(LabError::Invalid("no program is named".to_owned()));
    };
    let init = record.init(host)?;
    let parent = own_handle()?;
    let here = std::env::current_dir();
    let mut wanted = signals::ENDINGS.to_vec();
    wanted.push(signals::CHILD);
    let signals = Signals::take(&wanted).map_err(system("signals"))?;
    enter(record, &init, SPACES)?;
    // The same directory where the host has it; a new mount namespace begins at the root.
    if !here.is_ok_and(|path| std::env::set_current_dir(path).is_ok()) {
        std::env::set_current_dir("/").map_err(system("/"))?;
    }
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    // What is forked next bears this name on the host until it has become the program: a `pkill squall` there
    // must not hit it.
    set_name(c"lab-exec").map_err(errno("the name of this process"))?;
    let mut command = Command::new(program);
    command.args(args).env("PATH", format!("{SEARCH}:{path}"));
    tie(&mut command, parent);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{host}: {program}: {error}");
            return Ok(match error.kind() {
                io::ErrorKind::NotFound => NO_PROGRAM,
                _ => NOT_EXECUTABLE,
            });
        }
    };
    let status = attend(child, &signals).map_err(system(program.clone()))?;
    Ok(status.code().unwrap_or_else(|| KILLED + status.signal().unwrap_or_default()))
}

/// Waits for the program's end, and passes on what this process is sent.
fn attend(mut child: Child, signals: &Signals) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let came = signals.next()?;
        // One from the terminal has reached the program already, as a member of the same group.
        if came.number != signals::CHILD && came.by_process {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(came.number)) {
                match kill_process(pid, signal) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}
