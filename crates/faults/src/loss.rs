//! The fault `loss`: a share of the packets between this host and its peers vanishes.

use squall_core::hold::{Achieved, Failure, Hold};

use crate::held::HeldFault;
use crate::holder::Lease;
use crate::traffic;

pub(crate) fn apply(
    hold: &Hold,
    lease: &Lease,
    loss: &squall_core::fault::Loss,
) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    let loss = traffic::Loss {
        traffic: &loss.traffic,
        per_million: Some(loss.per_million),
        severed: &[],
        requested: format!("{} % of packets lost", f64::from(loss.per_million) / 10_000.0),
    };
    traffic::apply(hold, lease, &loss)
}
