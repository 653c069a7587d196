//! Files and directories that are their owner's alone: whoever can open a file can lock it, and keep its
//! owner from starting.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Only the owner reads and writes it.
pub(crate) const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// What the group and all others may do.
const OTHERS: u32 = 0o077;

/// Makes a directory, with those above it that are missing, that only its owner may enter. One that is
/// there stays as it is: there may be more in it than is ours.
///
/// # Errors
/// The system's.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// Opens or creates a file, to be read and written by its owner alone. One of ours that an earlier version
/// left open to others is closed to them.
///
/// # Errors
/// The system's. The file's content is unchanged.
pub fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)?;
    let meta = file.metadata()?;
    let ours = meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw();
    if ours && meta.mode() & OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    Ok(file)
}
