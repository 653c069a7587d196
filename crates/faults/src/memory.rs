//! The fault `memory`.

use squall_core::fault::Memory;
use squall_core::hold::{Achieved, Failure, Hold};

use crate::held::HeldFault;

pub(crate) fn apply(_: &Hold, _: &Memory) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    Err(Failure::Unsupported("not built yet".into()))
}
