//! The fault `cpu`.

use squall_core::fault::Cpu;
use squall_core::hold::{Achieved, Failure, Hold};

use crate::held::HeldFault;

pub(crate) fn apply(_: &Hold, _: &Cpu) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    Err(Failure::Unsupported("not built yet".into()))
}
