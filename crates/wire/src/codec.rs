//! Bytes for values: the only user of bincode.
//!
//! Every encoding begins with one byte, the wire version. bincode by itself aborts on claimed
//! lengths, accepts trailing bytes and does not bound what it writes; so both ways are limited here,
//! and a decoding must consume all that it was given. Types that cross this border hold no
//! recursion, no collections of zero-sized elements, and none of serde's self-describing attributes
//! (`default`, `skip_serializing_if`, `untagged`, `tag`, `flatten`).

use std::io;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of everything that is said. A peer of another version is refused at the hello.
pub const WIRE_VERSION: u16 = 1;
/// Bytes of one encoded value, its version byte included, at most.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;
/// bincode charges a number by its size in memory, up to eight times what it takes in bytes.
const LIMIT: usize = 8 * MAX_FRAME;
/// The first byte of every encoding.
const VERSION_BYTE: u8 = WIRE_VERSION as u8;

/// Bytes that are no value, or a value that is too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Nothing was there.
    #[error("an empty encoding")]
    Empty,
    /// Another wire version.
    #[error("wire version {found}, this side speaks {WIRE_VERSION}")]
    Version {
        /// The byte that stood there.
        found: u8,
    },
    /// More bytes than any value may have.
    #[error("{len} bytes or more are over the limit of {MAX_FRAME}")]
    TooLarge {
        /// How many, as far as counted.
        len: usize,
    },
    /// The value ended before the bytes did.
    #[error("{0} bytes after the value's end")]
    Trailing(usize),
    /// The bytes do not make the value that was asked for.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The value cannot be put into bytes.
    #[error("not encodable: {0}")]
    Unencodable(String),
}

fn config() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// The bytes of `value`.
///
/// # Errors
/// [`CodecError::TooLarge`] past [`MAX_FRAME`]; [`CodecError::Unencodable`] where the type breaks
/// the rules of this module.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Bounded { bytes: vec![VERSION_BYTE], over: false };
    match bincode::serde::encode_into_std_write(value, &mut out, config()) {
        Ok(_) => Ok(out.bytes),
        Err(_) if out.over => Err(CodecError::TooLarge { len: out.bytes.len() }),
        Err(e) => Err(CodecError::Unencodable(e.to_string())),
    }
}

/// The value in `bytes`, all of them.
///
/// # Errors
/// Every byte string that [`encode`] did not make of a `T` is an error; none is a panic, and none
/// allocates more than some fifty times its own length, plus one mebibyte for each level of nesting,
/// plus eight times [`MAX_FRAME`] for a text that is cut: its room is taken before that is seen.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_FRAME {
        return Err(CodecError::TooLarge { len: bytes.len() });
    }
    let (&version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if version != VERSION_BYTE {
        return Err(CodecError::Version { found: version });
    }
    let (value, consumed) = bincode::serde::decode_from_slice(body, config())
        .map_err(|e| CodecError::Malformed(e.to_string()))?;
    match body.len() - consumed {
        0 => Ok(value),
        rest => Err(CodecError::Trailing(rest)),
    }
}

/// A buffer that refuses to grow past [`MAX_FRAME`]: bincode's own limit does not bound encoding.
struct Bounded {
    bytes: Vec<u8>,
    over: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > MAX_FRAME {
            self.over = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Text(String),
        Pair { left: Option<Box<Leaf>>, right: Vec<Leaf> },
        Table(BTreeMap<String, Vec<u64>>),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Leaf {
        number: i64,
        bytes: Vec<u8>,
        address: std::net::SocketAddr,
    }

    fn leaf() -> impl Strategy<Value = Leaf> {
        (any::<i64>(), any::<Vec<u8>>(), any::<(std::net::IpAddr, u16)>())
            .prop_map(|(number, bytes, at)| Leaf { number, bytes, address: at.into() })
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Unit),
            any::<String>().prop_map(Shape::Text),
            (
                proptest::option::of(leaf().prop_map(Box::new)),
                proptest::collection::vec(leaf(), 0..4)
            )
                .prop_map(|(left, right)| Shape::Pair { left, right }),
            any::<BTreeMap<String, Vec<u64>>>().prop_map(Shape::Table),
        ]
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(value in shape()) {
            let bytes = encode(&value).unwrap();
            prop_assert_eq!(decode::<Shape>(&bytes).unwrap(), value);
        }

        #[test]
        fn a_cut_or_a_tail_is_an_error(value in shape(), cut in any::<prop::sample::Index>()) {
            let mut bytes = encode(&value).unwrap();
            let shorter = &bytes[..cut.index(bytes.len())];
            prop_assert!(decode::<Shape>(shorter).is_err());
            bytes.push(0);
            prop_assert_eq!(decode::<Shape>(&bytes), Err(CodecError::Trailing(1)));
        }

        #[test]
        fn hostile_bytes_are_an_error_or_a_value(mut bytes in any::<Vec<u8>>()) {
            let _ = decode::<Shape>(&bytes);
            bytes.insert(0, VERSION_BYTE);
            let _ = decode::<Shape>(&bytes);
            let _ = decode::<Vec<Vec<String>>>(&bytes);
            let _ = decode::<squall_core::message::FromAgent>(&bytes);
            let _ = decode::<squall_core::message::Request>(&bytes);
        }
    }

    #[test]
    fn a_claimed_length_costs_nothing() {
        // 253 announces eight bytes of length: 8 GiB of string, of list, of lists
        let mut bytes = vec![VERSION_BYTE, 253];
        bytes.extend_from_slice(&(8_u64 << 30).to_le_bytes());
        assert!(matches!(decode::<String>(&bytes), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<Vec<Vec<String>>>(&bytes), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode(&7_u32).unwrap();
        bytes[0] = 9;
        assert_eq!(decode::<u32>(&bytes), Err(CodecError::Version { found: 9 }));
        assert_eq!(decode::<u32>(&[]), Err(CodecError::Empty));
    }

    #[test]
    fn both_ways_are_bounded() {
        assert!(matches!(encode(&vec![0_u8; MAX_FRAME]), Err(CodecError::TooLarge { .. })));
        let most = vec![7_u8; MAX_FRAME - 6]; // version byte, length byte, four bytes of length
        let bytes = encode(&most).unwrap();
        assert_eq!(bytes.len(), MAX_FRAME);
        assert_eq!(decode::<Vec<u8>>(&bytes).unwrap(), most);
        let over = vec![VERSION_BYTE; MAX_FRAME + 1];
        assert_eq!(decode::<Vec<u8>>(&over), Err(CodecError::TooLarge { len: MAX_FRAME + 1 }));
    }

    #[test]
    fn many_small_numbers_pass_though_each_is_charged_in_full() {
        let many = vec![1_u64; MAX_FRAME - 6];
        assert_eq!(decode::<Vec<u64>>(&encode(&many).unwrap()).unwrap(), many);
    }
}
