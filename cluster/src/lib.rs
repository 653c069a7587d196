//! A fleet on one machine: virtual hosts as namespaces, and what one copies to a real fleet.
//!
//! A lab hangs on one process, its *switch*: pid 1 of the lab's own pid namespace, in whose network
//! namespace the bridge lives. Every virtual host is a child of it, with network, mount, pid, uts and
//! ipc namespaces of its own and a reaper as its pid 1. So the kernel takes a whole lab back when
//! one process dies: programs, namespaces, mounts, links. Until a lab is complete the switch dies
//! with whoever makes it.
//!
//! Two sides use this crate. The program `squall`, while it has one thread, makes labs
//! ([`build::make`]), enters them ([`enter`]) and becomes their init ([`init::init_main`]). Tests
//! hold a [`Lab`], which runs that program.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod build;
pub mod down;
pub mod enter;
mod error;
mod host;
pub mod init;
mod lab;
mod mounts;
pub mod place;
mod plan;
mod process;
pub mod record;
mod switch;

pub use error::LabError;
pub use lab::{Lab, Up, program};
pub use plan::{Host, Label, MAX_HOSTS, Part, Plan, Shape};
pub use process::Process;
pub use record::{HostView, LabView};
