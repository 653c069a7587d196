//! A lab to hold in a test: goes down when it is dropped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::build::STATE_VARIABLE;
use crate::down::down;
use crate::error::{LabError, system};
use crate::place::{self, ROOT_VARIABLE};
use crate::record::{HostView, LabView};

/// What [`Lab::up`] asks for. `Default` is three hosts and three coordinators of a lab whose name
/// nobody else uses.
#[derive(Clone, Debug)]
pub struct Up {
    /// The lab's name.
    pub name: String,
    /// The directory of labs; the usual one where none is named.
    pub root: Option<PathBuf>,
    /// Hosts h1, h2, …
    pub hosts: u16,
    /// Hosts c1, c2, …
    pub coordinators: u16,
    /// Labels, as `h1=group=etcd`.
    pub labels: Vec<String>,
    /// No IPv4.
    pub ipv6_only: bool,
    /// Nothing is started.
    pub bare: bool,
    /// Agents on the coordinators' hosts too.
    pub agents_on_coordinators: bool,
    /// The size of a host's file system for state, in MiB.
    pub state_mb: Option<u32>,
}

impl Default for Up {
    fn default() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Up {
            name: format!("t{}-{number}", std::process::id()),
            root: None,
            hosts: 3,
            coordinators: 3,
            labels: Vec::new(),
            ipv6_only: false,
            bare: false,
            agents_on_coordinators: false,
            state_mb: None,
        }
    }
}

impl Up {
    /// The arguments of `squall` that ask for it.
    #[must_use]
    pub fn args(&self) -> Vec<OsString> {
        let mut args: Vec<String> =
            ["lab", "up", &self.name, "-o", "json"].map(str::to_owned).into();
        args.extend(["--hosts".to_owned(), self.hosts.to_string()]);
        args.extend(["--coordinators".to_owned(), self.coordinators.to_string()]);
        for label in &self.labels {
            args.extend(["--label".to_owned(), label.clone()]);
        }
        for (wanted, flag) in [
            (self.ipv6_only, "--ipv6-only"),
            (self.bare, "--bare"),
            (self.agents_on_coordinators, "--agents-on-coordinators"),
        ] {
            args.extend(wanted.then(|| flag.to_owned()));
        }
        args.into_iter().map(OsString::from).collect()
    }
}

/// A lab that stands.
#[derive(Debug)]
pub struct Lab {
    program: PathBuf,
    root: PathBuf,
    view: LabView,
    owned: bool,
}

impl Lab {
    /// Makes a lab with the program `squall`, and owns it: it goes down when this is dropped.
    ///
    /// # Errors
    /// What the program said.
    pub fn up(program: &Path, up: &Up) -> Result<Lab, LabError> {
        let root = up.root.clone().map_or_else(place::root, Ok)?;
        let mut command = Command::new(program);
        command.args(up.args()).env(ROOT_VARIABLE, &root);
        if let Some(mb) = up.state_mb {
            command.env(STATE_VARIABLE, mb.to_string());
        }
        let output = command.output().map_err(system(program.display().to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(LabError::Failed(format!("{}: {said}", output.status)));
        }
        let view = serde_json::from_slice(&output.stdout)
            .map_err(|e| system("what lab up printed")(e.into()))?;
        Ok(Lab { program: program.to_owned(), root, view, owned: true })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.view.name
    }

    /// Its directory: logs are in `hosts/HOST`.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.root.join(&self.view.name)
    }

    /// What `--cluster` takes; none for a bare lab.
    #[must_use]
    pub fn cluster(&self) -> Option<&Path> {
        self.view.cluster.as_deref()
    }

    /// Its hosts.
    #[must_use]
    pub fn hosts(&self) -> &[HostView] {
        &self.view.hosts
    }

    /// One of its hosts.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&HostView> {
        self.view.hosts.iter().find(|h| h.name == name)
    }

    /// A command of `squall` about this lab's cluster.
    #[must_use]
    pub fn squall<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.env(ROOT_VARIABLE, &self.root).env_remove("SQUALL_CLUSTER");
        if let Some(cluster) = self.cluster() {
            command.env("SQUALL_CLUSTER", cluster);
        }
        command.args(args);
        command
    }

    /// A program on a host, to be run as any other command: `lab exec` passes on input, output,
    /// signals and the number at the end.
    #[must_use]
    pub fn exec<S: AsRef<std::ffi::OsStr>>(
        &self,
        host: &str,
        argv: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = self.squall(["lab", "exec", "--lab", self.name(), host, "--"]);
        command.args(argv);
        command
    }

    /// Runs a program on a host to its end.
    ///
    /// # Errors
    /// It could not be started.
    pub fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        host: &str,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<Output, LabError> {
        self.exec(host, argv).output().map_err(system("lab exec"))
    }

    /// Takes it down.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn down(mut self) -> Result<(), LabError> {
        self.owned = false;
        self.take_down()
    }

    fn take_down(&self) -> Result<(), LabError> {
        let name = self.view.name.parse().map_err(|e| LabError::Invalid(format!("{e}")))?;
        down(&self.root, &name).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned
            && let Err(error) = self.take_down()
        {
            // A test that leaves a lab behind has failed; nobody reads what a test says that has not.
            let left = format!("lab {} is still there: {error}", self.view.name);
            if std::thread::panicking() { eprintln!("{left}") } else { panic!("{left}") }
        }
    }
}

/// The program `squall` beside the running executable, as cargo lays them out.
///
/// # Errors
/// It is not there; `cargo build -p squall` makes it.
pub fn program() -> Result<PathBuf, LabError> {
    let own = std::env::current_exe().map_err(system("this executable"))?;
    let found = own.ancestors().skip(1).take(3).map(|dir| dir.join("squall")).find(|p| p.is_file());
    found.ok_or_else(|| {
        LabError::Failed(format!("no squall beside {}: cargo build -p squall", own.display()))
    })
}
