//! `squall lab`.

use crate::cli::{Format, Lab};
use crate::client::cluster_dir::ClusterDir;
use crate::exit::{Failure, Outcome};

/// `squall lab`.
pub fn lab(_lab: Lab, _format: Format) -> Outcome {
    Err(Failure::usage("soon", ""))
}

/// Enters the network of the lab that the cluster is in.
pub fn enter_network(_dir: &ClusterDir) -> Result<(), Failure> {
    Ok(())
}
