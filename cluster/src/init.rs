//! Pid 1 of a lab and of each of its hosts: reaps what nobody else does. No threads, next to no
//! memory, and a name that `pkill squall` does not match.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, set_parent_process_death_signal, wait};
use rustix::thread::set_name;
use squall_faults::sys::signals::{self, Signals};

use crate::build::COMMIT;

/// What stands in the process list for an init, as name and as command line.
pub const COMM: &str = "lab-init";
/// The argument that makes an init of a host.
pub(crate) const HOST: &str = "host";
/// The argument that makes an init of a lab.
pub(crate) const SWITCH: &str = "switch";

/// Runs as an init, where this process was started under the name [`COMM`].
pub fn init_main(mode: &str) -> ExitCode {
    let run = || -> io::Result<()> {
        set_name(c"lab-init")?;
        let children = Signals::take(&[signals::CHILD])?;
        match mode {
            HOST => reap(&children),
            SWITCH => {
                if hold(&children)? {
                    reap(&children)
                } else {
                    Ok(())
                }
            }
            other => Err(io::Error::other(format!("`{other}` is no kind of init"))),
        }
    };
    if let Err(error) = run() {
        // Standard error is the lab's log.
        let _ = writeln!(io::stderr(), "lab-init {mode}: {error}");
    }
    ExitCode::FAILURE
}

/// Reaps for ever.
fn reap(children: &Signals) -> io::Result<()> {
    loop {
        reap_all()?;
        children.next()?;
    }
}

/// Reaps all children that have ended.
fn reap_all() -> io::Result<()> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the word of whoever makes this lab; false where that one has gone without it.
fn hold(children: &Signals) -> io::Result<bool> {
    // Standard input is the maker's socket.
    let mut maker = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    loop {
        reap_all()?;
        let mut fds = [PollFd::new(&maker, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
        poll(&mut fds, None)?;
        let [spoken, ended] = fds.map(|fd| !fd.revents().is_empty());
        if ended {
            children.next()?;
        }
        if spoken {
            let mut word = [0];
            if maker.read(&mut word)? == 0 || word != [COMMIT] {
                return Ok(false);
            }
            set_parent_process_death_signal(None)?;
            // Standard input is let go: the maker's end must not be held open for ever.
            let null = std::fs::File::open("/dev/null")?;
            maker.write_all(&word)?;
            rustix::stdio::dup2_stdin(&null)?;
            return Ok(true);
        }
    }
}
