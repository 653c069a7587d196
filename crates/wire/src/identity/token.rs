//! Join tokens: what an operator carries to a host so that it can enrol.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use squall_core::ids::Coordinator;

use super::{Fingerprint, random, sha256};
use crate::codec;

/// Coordinators that one token names, at most.
pub const MAX_TOKEN_COORDINATORS: usize = 16;
const PREFIX: &str = "squall-join-";
/// Characters of a token's text, at most: nothing longer is looked at.
const MAX_TEXT: usize = 4096;
const CHECK: usize = 4;

/// A one-time token: a secret that admits one host, the fingerprint of the authority by which the
/// host knows the cluster, and where to ask. Its text is `squall-join-…`; treat it like a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// What the coordinators compare, by [`JoinToken::hash`].
    pub secret: [u8; 32],
    /// Of the authority's certificate. The joining host refuses any other.
    pub authority: Fingerprint,
    /// Whom to ask; the agent's configuration lists the same.
    pub coordinators: Vec<Coordinator>,
}

/// A text that is no join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: it begins with `squall-join-` and must be copied whole")]
pub struct InvalidToken;

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("authority", &self.authority)
            .field("coordinators", &self.coordinators)
            .finish_non_exhaustive()
    }
}

impl JoinToken {
    /// A token with a new secret. Only the first [`MAX_TOKEN_COORDINATORS`] are kept.
    #[must_use]
    pub fn create(authority: Fingerprint, mut coordinators: Vec<Coordinator>) -> JoinToken {
        coordinators.truncate(MAX_TOKEN_COORDINATORS);
        JoinToken { secret: random(), authority, coordinators }
    }

    /// SHA-256 of the secret: what coordinators keep, so that their disks hold no usable token.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(&self.secret)
    }
}

impl fmt::Display for JoinToken {
    /// The text form; it contains the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = codec::encode(self).expect("a token is far below the frame limit");
        let check = sha256(&bytes);
        bytes.extend_from_slice(&check[..CHECK]);
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(InvalidToken);
        }
        let body = text.strip_prefix(PREFIX).ok_or(InvalidToken)?;
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| InvalidToken)?;
        let (bytes, check) = bytes.split_last_chunk::<CHECK>().ok_or(InvalidToken)?;
        if sha256(bytes)[..CHECK] != check[..] {
            return Err(InvalidToken);
        }
        let token: JoinToken = codec::decode(bytes).map_err(|_| InvalidToken)?;
        let count = token.coordinators.len();
        if (1..=MAX_TOKEN_COORDINATORS).contains(&count) { Ok(token) } else { Err(InvalidToken) }
    }
}

#[cfg(test)]
mod tests {
    use squall_core::ids::NodeId;

    use super::*;

    #[test]
    fn a_token_survives_its_text_and_no_change_of_it() {
        let coordinators = [(1, "north", "10.0.0.1:7400"), (7, "south", "[fd00::1]:7400")];
        let here = coordinators.map(|(id, name, address)| Coordinator {
            id: NodeId(id),
            name: name.parse().unwrap(),
            address: address.parse().unwrap(),
        });
        let token = JoinToken::create(Fingerprint([3; 32]), here.into());
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!("  {text}\n").parse(), Ok(token.clone()));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(other.parse::<JoinToken>(), Err(InvalidToken), "changed at {at}");
        }
        assert_eq!(text[..text.len() - 4].parse::<JoinToken>(), Err(InvalidToken));
        assert_eq!("".parse::<JoinToken>(), Err(InvalidToken));
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn a_token_without_coordinators_is_none() {
        let token = JoinToken::create(Fingerprint([3; 32]), Vec::new());
        assert_eq!(token.to_string().parse::<JoinToken>(), Err(InvalidToken));
    }
}
