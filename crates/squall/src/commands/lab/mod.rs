//! `squall lab`: fleets of virtual hosts. What a host is made of is in the package squall-cluster;
//! here it is furnished as a real fleet would be, and waited for.

mod fleet;
mod ready;

use std::path::Path;

use serde::Serialize;
use squall_cluster::build::{ROOTLESS_LACKS, make};
use squall_cluster::down::{Was, down};
use squall_cluster::place::{self, Claim};
use squall_cluster::record::{CLUSTER_DIR, Record};
use squall_cluster::{Host, LabError, LabView, Plan, Shape, enter};
use squall_coordinator::MAX_COORDINATORS;
use squall_core::ids::HostName;

use self::fleet::Fleet;
use super::{operate, show, with_client};
use crate::cli::{Format, LAB, Lab, LabUp, Shared};
use crate::client::cluster_dir::ClusterDir;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::table::{or_none, table};
use crate::output::talk;

/// `squall lab`.
pub fn lab(lab: Lab, shared: &Shared) -> Outcome {
    let format = shared.output;
    match lab {
        Lab::Up(up) => self::up(&up, format),
        Lab::Down { name } => take_down(&doomed(name, shared)?),
        Lab::Ls => ls(format),
        Lab::Status { name } => status(&meant(name, shared)?, format),
        Lab::Exec(exec) => self::exec(&meant(exec.lab, shared)?, &exec.host, &exec.argv),
    }
}

/// The lab of this name; where none is given that of the cluster that is named; where none is either,
/// `lab`, or the only one.
fn meant(name: Option<String>, shared: &Shared) -> Result<HostName, Failure> {
    match typed(name, shared)? {
        Some(name) => Ok(name),
        None => unnamed(&place::names(&root()?).map_err(|e| failure(&e))?),
    }
}

/// The lab that goes, which is not guessed.
fn doomed(name: Option<String>, shared: &Shared) -> Result<HostName, Failure> {
    typed(name, shared)?.map_or_else(|| lab_name(LAB), Ok)
}

/// The lab of this name, or of the cluster that is named, if either is.
fn typed(name: Option<String>, shared: &Shared) -> Result<Option<HostName>, Failure> {
    let Some(name) = name else {
        let Some(cluster) = shared.cluster() else { return Ok(None) };
        let lab = ClusterDir::open(Some(&cluster)).ok().and_then(|dir| dir.file.lab);
        let lab = lab.ok_or_else(|| {
            let what = format!("{} is the cluster of no lab that is there", cluster.display());
            Failure::usage(what, "name the lab; squall lab ls lists them")
        })?;
        return lab_name(&lab).map(Some);
    };
    lab_name(&name).map(Some)
}

/// The lab that is meant where none is named, of those that there are.
fn unnamed(known: &[HostName]) -> Result<HostName, Failure> {
    match known {
        [only] => Ok(only.clone()),
        _ => lab_name(LAB),
    }
}

/// Enters the network of the lab that the cluster is in.
pub fn enter_network(dir: &ClusterDir) -> Result<(), Failure> {
    let Some(lab) = &dir.file.lab else { return Ok(()) };
    let path = std::path::absolute(&dir.path).map_err(|e| failure(&system(&dir.path, e)))?;
    let parent = path.parent().unwrap_or(&path);
    enter::enter_network(parent).map_err(|error| {
        Failure { exit: Exit::Unreachable, ..failure(&error) }
            .with_hosts(format!("those of lab {lab} that are not there hold nothing"))
    })
}

fn system(path: &Path, source: std::io::Error) -> LabError {
    LabError::System { what: path.display().to_string(), source }
}

fn failure(error: &LabError) -> Failure {
    let what = error.to_string();
    match error {
        LabError::Invalid(_) => Failure::usage(what, "squall lab --help"),
        LabError::Exists(name) => {
            Failure::local(what, format!("squall lab down {name}, or choose another name"))
        }
        LabError::Busy(_) => Failure::local(what, "wait for it, or choose another name"),
        LabError::Absent { .. } => Failure::usage(what, "squall lab ls lists them"),
        LabError::Down { lab, .. } => {
            Failure::local(what, format!("squall lab down {lab} clears what is left of it"))
        }
        LabError::Kept { lab, .. } => Failure::local(
            what,
            format!("move that away, and then its directory: lab {lab} is gone"),
        ),
        LabError::System { .. } | LabError::Failed(_) => Failure::local(
            what,
            "squall lab ls names it; squall lab down NAME clears what is left; logs are in its directory",
        ),
    }
}

fn lab_name(name: &str) -> Result<HostName, Failure> {
    name.parse().map_err(|e| Failure::usage(format!("{e}"), "choose another name"))
}

fn root() -> Result<std::path::PathBuf, Failure> {
    place::root().map_err(|e| failure(&e))
}

/// `squall lab up`.
fn up(up: &LabUp, format: Format) -> Outcome {
    let plan = plan(up)?;
    let program = std::env::current_exe()
        .map_err(|e| Failure::local(format!("this program's path: {e}"), "is /proc there?"))?;
    let claim = Claim::make(&root()?, &plan.name).map_err(|e| failure(&e))?;
    let (making, cluster) = if up.bare {
        let nothing = |_: &Host| Ok(Vec::new());
        (make(claim, plan, &program, false, &nothing).map_err(|e| failure(&e))?, None)
    } else {
        let fleet = Fleet::new(&plan, up.agents_on_coordinators)?;
        let furnish = |host: &Host| fleet.furnish(host).map_err(|f| f.what);
        let making = make(claim, plan, &program, true, &furnish).map_err(|e| failure(&e))?;
        let cluster = fleet.save(making.dir())?;
        (making, Some((cluster, fleet.agents)))
    };
    if making.record().rootless {
        talk("made without root, in a user namespace. What its hosts lack:");
        ROOTLESS_LACKS.iter().for_each(|lack| talk(format!("  {lack}")));
    }
    making.notes.iter().for_each(|note| talk(format!("note: {note}")));
    if let Some((cluster, agents)) = cluster {
        ready::wait(&making, cluster, agents)?;
    }
    let dir = making.dir().to_owned();
    let record = making.commit().map_err(|e| failure(&e))?;
    let view = record.view(&dir);
    show(format, &view, hosts_table)?;
    instruct(&view);
    Ok(Exit::Held)
}

fn plan(up: &LabUp) -> Result<Plan, Failure> {
    if usize::from(up.coordinators) > MAX_COORDINATORS {
        let what = format!("{} coordinators; {MAX_COORDINATORS} are the most", up.coordinators);
        return Err(Failure::usage(what, "three or five are best"));
    }
    if up.coordinators == 0 && !up.bare {
        return Err(Failure::usage("a cluster without a coordinator", "--bare makes hosts only"));
    }
    let labels = up.labels.iter().map(|l| l.parse()).collect::<Result<_, _>>();
    let labels = labels.map_err(|e| failure(&e))?;
    let (hosts, coordinators, ipv6_only) = (up.hosts, up.coordinators, up.ipv6_only);
    let shape = Shape { hosts, coordinators, labels, ipv6_only };
    Plan::new(lab_name(&up.name)?, &shape).map_err(|e| failure(&e))
}

/// What a person types next. Data has gone to stdout.
fn instruct(view: &LabView) {
    if let Some(cluster) = &view.cluster {
        talk(format!("export SQUALL_CLUSTER={}", cluster.display()));
    }
    let host = view.hosts.first().map_or("h1", |h| h.name.as_str());
    talk(format!("squall lab exec --lab {} {host} -- PROGRAM", view.name));
    talk(format!("squall lab down {}", view.name));
}

fn hosts_table(view: &LabView) -> String {
    let rows = view.hosts.iter().map(|host| {
        let labels: Vec<String> = host.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let pid = host.pid.map(|pid| pid.to_string()).unwrap_or_default();
        [host.name.clone(), host.address.to_string(), or_none(&labels.join(",")), or_none(&pid)]
    });
    table(["HOST", "ADDRESS", "LABELS", "PID"], rows.collect())
}

/// `squall lab down`.
fn take_down(name: &HostName) -> Outcome {
    match down(&root()?, name).map_err(|e| failure(&e))? {
        Was::There => talk(format!("lab {name} is gone")),
        Was::Absent => {
            let others = place::names(&root()?).map_err(|e| failure(&e))?;
            let others: Vec<String> = others.iter().map(ToString::to_string).collect();
            let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
            talk(format!("no lab {name} to take down; labs here: {others}"));
        }
    }
    Ok(Exit::Held)
}

/// One lab in `squall lab ls`.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    lab: LabView,
    /// `up`, `making`, `down` where something is left to clear, or `damaged` where its file cannot be
    /// read.
    state: &'static str,
}

/// `squall lab ls`.
fn ls(format: Format) -> Outcome {
    let root = root()?;
    let known = |dir: &Path| -> Result<Option<Row>, LabError> {
        let Some(record) = Record::load(dir)? else { return Ok(None) };
        Ok(Some(Row { lab: record.view(dir), state: record.standing()? }))
    };
    let row = |name: &HostName| {
        let unknown = |state| {
            let lab = LabView { name: name.to_string(), cluster: None, hosts: Vec::new() };
            Row { lab, state }
        };
        // One that cannot be read hides no other.
        match known(&root.join(name.as_str())) {
            Ok(row) => row.unwrap_or_else(|| unknown("down")),
            Err(error) => {
                talk(format!("lab {name}: {error}"));
                unknown("damaged")
            }
        }
    };
    let names = place::names(&root).map_err(|e| failure(&e))?;
    let rows: Vec<Row> = names.iter().map(row).collect();
    show(format, &rows, |rows| {
        let cells = rows.iter().map(|row| {
            let hosts: Vec<&str> = row.lab.hosts.iter().map(|h| h.name.as_str()).collect();
            let cluster = row.lab.cluster.as_ref().map(|c| c.display().to_string());
            let cluster = or_none(&cluster.unwrap_or_default());
            [row.lab.name.clone(), row.state.to_owned(), or_none(&hosts.join(" ")), cluster]
        });
        table(["LAB", "STATE", "HOSTS", "CLUSTER"], cells.collect())
    })
}

/// `squall lab status`.
fn status(name: &HostName, format: Format) -> Outcome {
    let (dir, record) = place::open(&root()?, name).map_err(|e| failure(&e))?;
    if !record.clustered {
        let what = format!("lab {name} is bare: it has no cluster");
        return Err(Failure::usage(what, "squall lab ls lists its hosts"));
    }
    let dir = ClusterDir::open(Some(&dir.join(CLUSTER_DIR)))?;
    with_client(dir, async |c| operate::status(c, format).await)
}

/// `squall lab exec`. Ends this process with the program's own number.
fn exec(lab: &HostName, host: &str, argv: &[String]) -> Outcome {
    let (_, record) = place::open(&root()?, lab).map_err(|e| failure(&e))?;
    let code = enter::exec(&record, host, argv).map_err(|e| failure(&e))?;
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use squall_core::ids::{Coordinator, NodeId};

    use super::*;
    use crate::cli::Cli;
    use crate::client::cluster_dir::ClusterFile;

    #[test]
    fn the_lab_of_the_cluster_that_is_named_is_meant() {
        let place = tempfile::tempdir().unwrap();
        let member = Coordinator {
            id: NodeId(1),
            name: "c1".parse().unwrap(),
            address: ([127, 0, 0, 1], 7443).into(),
        };
        let name = "own".to_owned();
        let file = ClusterFile { lab: Some(name.clone()), name, coordinators: vec![member] };
        ClusterDir { path: place.path().to_owned(), file }.save().unwrap();
        let dir = place.path().display().to_string();
        let shared = Cli::try_parse_from(["squall", "--cluster", &dir, "status"]).unwrap().shared;
        assert_eq!(meant(None, &shared).unwrap().as_str(), "own");
        assert_eq!(meant(Some("x".into()), &shared).unwrap().as_str(), "x");
    }

    #[test]
    fn the_only_lab_is_meant_where_none_is_named() {
        let meant = |known: &[&str]| {
            let known: Vec<HostName> = known.iter().map(|name| name.parse().unwrap()).collect();
            unnamed(&known).unwrap().to_string()
        };
        assert_eq!(meant(&["x"]), "x");
        assert_eq!(meant(&["lab", "x"]), "lab");
        assert_eq!(meant(&["x", "y"]), "lab", "which is not there: the error says which are");
        assert_eq!(meant(&[]), "lab");
    }
}
