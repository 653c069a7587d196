//! The directory that says which cluster is meant: `cluster.toml` and the operator's identity.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use squall_core::ids::{Coordinator, NodeId};
use squall_wire::Identity;

use crate::exit::{Exit, Failure};

/// The file that names the coordinators.
pub const CLUSTER_FILE: &str = "cluster.toml";
/// The operator's identity, below the cluster's directory.
pub const OPERATOR_DIR: &str = "operator";

/// `cluster.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClusterFile {
    /// The cluster's name.
    pub name: String,
    /// The lab whose network the coordinators are in; none for a real fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lab: Option<String>,
    /// All coordinators.
    pub coordinators: Vec<Coordinator>,
}

/// A cluster's directory, read.
#[derive(Clone, Debug)]
pub struct ClusterDir {
    /// Where it is.
    pub path: PathBuf,
    /// Its file.
    pub file: ClusterFile,
}

impl ClusterDir {
    /// Reads the directory that `--cluster` or `SQUALL_CLUSTER` names.
    ///
    /// # Errors
    /// None is named, or its file cannot be used.
    pub fn open(named: Option<&Path>) -> Result<ClusterDir, Failure> {
        let Some(path) = named else {
            return Err(Failure::usage(
                "no cluster is named",
                "name one: --cluster DIR or SQUALL_CLUSTER=DIR, as squall init or squall lab up \
                 wrote it",
            ));
        };
        let file = path.join(CLUSTER_FILE);
        let text = std::fs::read_to_string(&file).map_err(|e| {
            let what = format!("{}: {e}", file.display());
            match e.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => Failure::usage(
                    what,
                    "name the directory that squall init or squall lab up wrote",
                ),
                _ => Failure::new(Exit::Unreachable, what, "run as root, or as whoever made it"),
            }
        })?;
        let parsed: ClusterFile = crate::files::toml(&file, &text)?;
        if parsed.coordinators.is_empty() {
            let what = format!("{}: no coordinator is listed", file.display());
            return Err(Failure::usage(what, "list every coordinator under [[coordinators]]"));
        }
        Ok(ClusterDir { path: path.to_owned(), file: parsed })
    }

    /// The name of the coordinator with this number.
    #[must_use]
    pub fn name_of(&self, id: NodeId) -> String {
        let member = self.file.coordinators.iter().find(|m| m.id == id);
        member.map_or_else(|| id.to_string(), |m| m.name.to_string())
    }

    /// The operator's identity.
    ///
    /// # Errors
    /// It cannot be read or is not to be believed.
    pub fn operator(&self) -> Result<Identity, Failure> {
        let dir = self.path.join(OPERATOR_DIR);
        Identity::load(&dir).map_err(|e| {
            Failure::new(
                Exit::Unreachable,
                format!("the operator's identity in {}: {e}", dir.display()),
                "squall init makes one; copy the directory with its permissions",
            )
        })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self) -> Result<(), Failure> {
        let path = self.path.join(CLUSTER_FILE);
        let text = toml::to_string(&self.file)
            .map_err(|e| Failure::local(e.to_string(), "choose a simpler name"))?;
        crate::files::write(&path, &text)
    }
}
