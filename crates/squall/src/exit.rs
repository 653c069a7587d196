//! How the program ends: one number, and for a failure what a person needs to know.

use std::fmt;
use std::process::ExitCode;

use squall_core::experiment::{ExperimentRecord, FaultState, Verdict};
use squall_core::radius::Scope;
use squall_core::registry::Refusal;

use crate::output::{talk, words};

/// The exit codes that scripts build on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; for an experiment: held and clean.
    Held = 0,
    /// The hypothesis broke, or the command failed. Everything is lifted.
    Broken = 1,
    /// The command line or a file is not valid. Nothing was asked of any host.
    Usage = 2,
    /// Refused by safety or policy.
    Refused = 3,
    /// No coordinator could be reached, none had a quorum, or none authorised this operator.
    Unreachable = 4,
    /// Something may remain on a host that was named.
    NotClean = 5,
    /// Nobody saw enough for a verdict; everything is clean.
    Unknown = 6,
    /// Stopped by an operator, a stop-all or a signal; everything is clean.
    Stopped = 7,
}

impl Exit {
    /// This end, once its page was `told`. What may be left on a host is worse than a page that could not
    /// be written.
    pub fn after(self, told: Result<(), Failure>) -> Outcome {
        match (self, told) {
            (Exit::NotClean, Err(untold)) => {
                talk(untold.to_string());
                Ok(Exit::NotClean)
            }
            (exit, told) => told.map(|()| exit),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command came to nothing, in three sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number to end with.
    pub exit: Exit,
    /// What happened.
    pub what: String,
    /// What is still true of the hosts; empty where no host could be concerned.
    pub hosts: String,
    /// What to do next.
    pub next: String,
}

/// What every command returns.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// A failure; what it means for the hosts is added with [`Failure::with_hosts`].
    pub fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure { exit, what: what.into(), hosts: String::new(), next: next.into() }
    }

    /// The command line or a file is not valid.
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, what, next)
    }

    /// Something here failed (a file, a socket).
    pub fn local(what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure::new(Exit::Broken, what, next)
    }

    /// The same, with what is still true of the hosts.
    #[must_use]
    pub fn with_hosts(self, hosts: impl Into<String>) -> Failure {
        Failure { hosts: hosts.into(), ..self }
    }

    /// The coordinators refused.
    pub fn refused(refusal: &Refusal) -> Failure {
        let (exit, next) = match refusal {
            Refusal::Disarmed(stops) => {
                let stops: Vec<_> = stops.iter().map(ToString::to_string).collect();
                (Exit::Refused, format!("once it is safe: squall resume {}", words::stops(&stops)))
            }
            Refusal::Radius(over) => {
                let fewer = "choose fewer targets";
                let wait = "wait for the others to end (squall ls)";
                let raise = "raise safety.max-blast-radius in the file";
                let next = match over.scope {
                    // No file raises the fleet's limit, nor that of a group which others count within.
                    Scope::Fleet => format!("{fewer}, or {wait}"),
                    Scope::Experiment | Scope::Group(_) if over.holders.is_empty() => {
                        format!("{fewer}, or {raise}")
                    }
                    Scope::Experiment | Scope::Group(_) => {
                        format!("{fewer} of that group, or {wait}")
                    }
                };
                (Exit::Refused, next)
            }
            Refusal::TooMany { .. } => (
                Exit::Refused,
                "wait for one to end, or stop one: squall ls, squall stop ID".into(),
            ),
            Refusal::Drained(host) => {
                (Exit::Refused, format!("squall agent drain --undo {host}, or choose another host"))
            }
            Refusal::NotGone(host, _) => {
                (Exit::Refused, format!("squall agent drain {host}, stop its agent, then again"))
            }
            Refusal::Host(host, _) => (
                Exit::Refused,
                format!(
                    "change the file; or that policy, and restart the agent of {host}; or wait until fewer faults are held there"
                ),
            ),
            Refusal::Full(_) => (Exit::Refused, "a smaller file, or fewer of them".into()),
            Refusal::TooManyStops(_) => {
                (Exit::Refused, "make a new cluster for these hosts".into())
            }
            Refusal::UnknownHost(_) => (Exit::Usage, "squall nodes lists the hosts".into()),
            Refusal::UnknownExperiment(_) => {
                (Exit::Usage, "squall ls lists the experiments".into())
            }
            Refusal::UnknownStop(_) => (Exit::Usage, "squall status lists the stops".into()),
            Refusal::BadToken => (Exit::Refused, "make a new one: squall token HOST".into()),
            Refusal::Invalid(_) => {
                (Exit::Usage, "squall explain experiment, squall schema, squall plan FILE".into())
            }
            Refusal::OutOfService(_) => {
                (Exit::Refused, "squall nodes shows who is in service".into())
            }
            Refusal::NotStopped(hosts) => {
                let despite: Vec<_> = hosts.iter().map(|h| format!("--despite {h}")).collect();
                let next = format!(
                    "wait until squall status shows them stopped; else look there, then squall resume STOP {}",
                    despite.join(" ")
                );
                (Exit::Refused, next)
            }
        };
        let hosts = match refusal {
            Refusal::NotStopped(_) => "nothing was released: the fleet stays stopped",
            _ => "nothing was started on any host",
        };
        let what = match exit {
            Exit::Refused => format!("refused: {refusal}"),
            _ => refusal.to_string(),
        };
        Failure::new(exit, what, next).with_hosts(hosts)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if !self.hosts.is_empty() {
            write!(f, "\nhosts: {}", self.hosts)?;
        }
        if !self.next.is_empty() {
            write!(f, "\nnext:  {}", self.next)?;
        }
        Ok(())
    }
}

/// The number for an experiment. What may remain on a host comes before every verdict.
#[must_use]
pub fn of_experiment(record: &ExperimentRecord) -> Exit {
    let uncertain =
        |state: &FaultState| matches!(state, FaultState::Stuck(_) | FaultState::Lapsed(_));
    if record.faults.values().any(uncertain) {
        return Exit::NotClean;
    }
    match record.verdict {
        Some(Verdict::Held) => Exit::Held,
        Some(Verdict::Broken) => Exit::Broken,
        Some(Verdict::Refused) => Exit::Refused,
        Some(Verdict::Stopped) => Exit::Stopped,
        Some(Verdict::Unknown) | None => Exit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_left_is_worse_than_a_page_that_could_not_be_written() {
        let untold = || Err(Failure::local("stdout: full", "check where the output goes"));
        assert_eq!(Exit::NotClean.after(untold()), Ok(Exit::NotClean));
        assert_eq!(Exit::NotClean.after(Ok(())), Ok(Exit::NotClean));
        assert_eq!(Exit::Stopped.after(Ok(())), Ok(Exit::Stopped));
        assert_eq!(Exit::Held.after(untold()).map_err(|f| f.exit), Err(Exit::Broken));
    }
}
