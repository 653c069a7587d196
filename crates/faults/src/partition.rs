//! The fault `partition`: no packet passes between this host and its peers.

use squall_core::fault::Partition;
use squall_core::hold::{Achieved, Failure, Hold};

use crate::held::HeldFault;
use crate::holder::Lease;
use crate::traffic::{self, Loss};

pub(crate) fn apply(
    hold: &Hold,
    lease: &Lease,
    partition: &Partition,
) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    let loss = Loss {
        traffic: &partition.traffic,
        per_million: None,
        severed: &partition.severed,
        requested: "every packet lost".into(),
    };
    traffic::apply(hold, lease, &loss)
}
