//! The key that every host of a cluster shares for gossip and beats.

use std::fmt;
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::{IdentityError, files, random};

/// The file of the gossip key in a directory.
pub const GOSSIP_FILE: &str = "gossip.key";

/// 32 random bytes that all members of one cluster hold. It keeps strangers out of gossip; it does
/// not tell members apart.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GossipKey(pub(crate) [u8; 32]);

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GossipKey(..)")
    }
}

impl GossipKey {
    /// A new random key.
    #[must_use]
    pub fn create() -> GossipKey {
        GossipKey(random())
    }

    /// Reads [`GOSSIP_FILE`] in `dir`.
    ///
    /// # Errors
    /// The file is missing, readable by others, or not 64 hex digits.
    pub fn load(dir: &Path) -> Result<GossipKey, IdentityError> {
        let path = dir.join(GOSSIP_FILE);
        let text = files::read_secret(&path)?;
        let bytes = HEXLOWER.decode(text.trim_ascii()).ok();
        let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(|| {
            IdentityError::Malformed(format!("{}: not 64 hex digits", path.display()))
        })?;
        Ok(GossipKey(key))
    }

    /// Writes [`GOSSIP_FILE`] in `dir` (made where missing), mode 0600, whole or not at all.
    ///
    /// # Errors
    /// The system's.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let text = HEXLOWER.encode(&self.0) + "\n";
        files::write_secret(dir, GOSSIP_FILE, text.as_bytes())
    }
}
