//! The fault `pause`.

use squall_core::fault::Pause;
use squall_core::hold::{Achieved, Failure, Hold};

use crate::held::HeldFault;

pub(crate) fn apply(_: &Hold, _: &Pause) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    Err(Failure::Unsupported("not built yet".into()))
}
