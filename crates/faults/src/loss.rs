//! The fault `loss`.

use squall_core::fault::Loss;
use squall_core::hold::{Achieved, Failure, Hold};

use crate::held::HeldFault;

pub(crate) fn apply(_: &Hold, _: &Loss) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    Err(Failure::Unsupported("not built yet".into()))
}
