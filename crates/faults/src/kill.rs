//! The fault `kill`.

use squall_core::fault::Kill;
use squall_core::hold::{Achieved, Failure, Hold};

use crate::held::HeldFault;

pub(crate) fn apply(_: &Hold, _: &Kill) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    Err(Failure::Unsupported("not built yet".into()))
}
