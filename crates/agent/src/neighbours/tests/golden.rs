//! The bytes of gossip, inside of its seal.

#[path = "../../../../wire/tests/golden/file.rs"]
mod file;

use squall_wire::codec;

use crate::neighbours::gossip::{Envelope, What};

#[test]
fn envelopes_have_the_bytes_that_they_had() {
    let to = |what| Envelope { to: "h2".parse().unwrap(), what };
    let mut lines = file::Lines::new();
    file::add(&mut lines, "Envelope::Beat", &to(What::Beat));
    file::add(&mut lines, "Envelope::Gossip", &to(What::Gossip(vec![1, 2, 3])));
    let file = "src/neighbours/tests/golden.txt";
    file::compare(format!("{}/{file}", env!("CARGO_MANIFEST_DIR")), &lines);
}
