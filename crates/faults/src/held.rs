//! What every fault owes its holder, and the one place where a fault is chosen by its kind.

use squall_core::fault::Fault;
use squall_core::hold::{Achieved, Failure, Hold};
use squall_core::time::Time;

use crate::holder::Lease;

/// A fault that is in place. Dropping it, or the death of the process, lifts it: the kernel takes
/// back what it stands on.
pub(crate) trait HeldFault {
    /// Moves the kernel's own deadline. Called only with moments that lie ahead.
    fn renew(&mut self, until: Time) -> Result<(), Failure>;

    /// Does what is due (a repeated kill, a look at the counters) and says when it is next due.
    fn tick(&mut self, now: Time) -> Option<Time> {
        let _ = now;
        None
    }

    /// Whether what it stands on is there still. Asked before each measurement.
    ///
    /// # Errors
    /// It is not: the fault is no longer what was asked for.
    fn check(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// The effect so far, where there is something new to say.
    fn measure(&mut self) -> Option<Achieved> {
        None
    }

    /// Undoes the fault in order and returns the last measurement. What takes long, as to give much memory
    /// back, ends when this value is dropped.
    fn lift(&mut self) -> Achieved;
}

/// Puts the fault of `hold` in place and proves that it bites. What has a time-out of its own takes it from
/// `lease`, which may be renewed meanwhile.
///
/// # Errors
/// Why it is not in place; then nothing of it is left.
pub(crate) fn apply(hold: &Hold, lease: &Lease) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    match &hold.fault {
        Fault::Partition(partition) => crate::partition::apply(hold, lease, partition),
        Fault::Loss(loss) => crate::loss::apply(hold, lease, loss),
        Fault::Kill(kill) => crate::kill::apply(hold, lease, kill),
        Fault::Pause(pause) => crate::pause::apply(hold, lease, pause),
        Fault::Cpu(cpu) => crate::cpu::apply(hold, lease, cpu),
        Fault::Memory(memory) => crate::memory::apply(hold, lease, memory),
    }
}
