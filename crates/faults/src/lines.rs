//! Lines of JSON between a process and its child, over pipes at which nobody waits: one that does not read
//! must not hold up the other.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::Serialize;

/// From now on writing to this end, or reading from it, fails rather than waits.
pub(crate) fn never_wait(end: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&end)? | OFlags::NONBLOCK;
    Ok(fcntl_setfl(&end, flags)?)
}

/// A value as one line.
pub(crate) fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes a value as one line.
pub(crate) fn write(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    to.write_all(&line(value)?)
}
