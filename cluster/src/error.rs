//! What goes wrong with labs.

use std::io;

use squall_core::ids::HostName;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// What was asked for is not a lab. Nothing was touched.
    #[error("{0}")]
    Invalid(String),
    /// A lab of that name stands.
    #[error("lab {0} is up already")]
    Exists(HostName),
    /// Another process makes it or takes it down at this moment.
    #[error("lab {0} is being made or taken down by another process")]
    Busy(HostName),
    /// There is no lab, or no host, of that name.
    #[error("there is no {what}; there {}", listed(others))]
    Absent {
        /// What was looked for.
        what: String,
        /// What there is of that kind.
        others: Vec<String>,
    },
    /// The lab's or the host's processes are gone: killed by somebody, or the machine restarted.
    #[error("{what} is down: its init is gone")]
    Down {
        /// What of the lab.
        what: String,
        /// The lab.
        lab: HostName,
    },
    /// The lab is gone, and its directory is not: something in there is none of its own.
    #[error("lab {lab} is down; not its own and kept: {what}")]
    Kept {
        /// The lab.
        lab: HostName,
        /// What, and where.
        what: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A host, the switch or the program said this when it failed.
    #[error("{0}")]
    Failed(String),
}

fn listed(others: &[String]) -> String {
    match others {
        [] => "is none at all".to_owned(),
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}

/// Says what was tried when the system refused.
pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
    let what = what.into();
    move |source| LabError::System { what, source }
}

/// The same for the calls of rustix.
pub(crate) fn errno(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> LabError {
    let failed = system(what);
    move |source| failed(source.into())
}
