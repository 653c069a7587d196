//! What hostile bytes cost before they are refused: however they lie, decoding allocates no more than
//! the codec's limit and a multiple of their own length. Alone in its program, and one test: whatever
//! else allocated meanwhile would be counted too.
#![allow(clippy::unwrap_used, reason = "a test, outside of cfg(test)")]

use data_encoding::HEXLOWER;
use peak_alloc::PeakAlloc;
use serde::de::DeserializeOwned;
use squall_core::experiment::Placement;
use squall_core::fault::{Fault, Memory};
use squall_core::message::{FromAgent, FromCoordinator, Request, Response, ToAgent, ToCoordinator};
use squall_core::seed::Dice;
use squall_wire::codec::{self, MAX_FRAME, WIRE_VERSION};
use squall_wire::identity::Enrolment;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
/// The codec's own limit: a text that claims less gets its room before it is seen to be cut.
const CLAIM: usize = 8 * MAX_FRAME;
/// Serde reserves a mebibyte for a list that claims to be long, at each level of nesting.
const RESERVED: usize = 8 * MIB;
/// An empty text takes one byte in a frame and 24 in memory, a fault 6 and 160; and a list that
/// grows is copied into one of twice its size.
const PER_BYTE: usize = 64;
/// Bytes of an error: all that a frame over the limit costs.
const ERROR: usize = 1024;

/// The most that was allocated at once while these bytes were decoded.
type Cost = fn(&[u8]) -> usize;

/// What is decoded from a connection, each with its [`cost`].
const TYPES: [(&str, Cost); 7] = [
    ("FromAgent", cost::<FromAgent>),
    ("ToAgent", cost::<ToAgent>),
    ("FromCoordinator", cost::<FromCoordinator>),
    ("ToCoordinator", cost::<ToCoordinator>),
    ("Request", cost::<Request>),
    ("Response", cost::<Response>),
    ("Enrolment", cost::<Result<Enrolment, String>>),
];

fn cost<T: DeserializeOwned>(bytes: &[u8]) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let _ = codec::decode::<T>(bytes);
    HEAP.peak_usage() - before
}

/// Tries them as every type, or as the one of that name; returns the highest cost.
fn tried(bytes: &[u8], only: Option<&str>, what: &str) -> usize {
    let bound = match bytes.len() {
        0..=MAX_FRAME => CLAIM + RESERVED + PER_BYTE * bytes.len(),
        _ => ERROR,
    };
    let mut most = 0;
    for (name, cost) in TYPES.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let cost = cost(bytes);
        let begin = HEXLOWER.encode(&bytes[..bytes.len().min(4096)]);
        assert!(cost <= bound, "{what} as {name}: {cost} bytes, over {bound}: {begin}");
        most = most.max(cost);
    }
    most
}

fn samples() -> Vec<(String, Vec<u8>)> {
    let golden = include_str!("golden/bytes.txt").lines().filter_map(|l| l.split_once(' '));
    golden.map(|(name, hex)| (name.to_owned(), HEXLOWER.decode(hex.as_bytes()).unwrap())).collect()
}

fn any(dice: &mut Dice, most: usize) -> Vec<u8> {
    let len = dice.below(most);
    (0..len).map(|_| dice.roll().to_le_bytes()[0]).collect()
}

/// A sample with some bytes changed, and a piece put in, left out or cut off.
fn mutated(dice: &mut Dice, sample: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=dice.below(3) {
        // Small numbers are variants and lengths.
        let at = dice.below(bytes.len());
        bytes[at] = dice.roll().to_le_bytes()[0] >> dice.below(8);
    }
    let (at, piece) = (dice.below(bytes.len()), any(dice, 9));
    match dice.below(4) {
        0 => drop(bytes.splice(at..at, piece)),
        1 => drop(bytes.drain(at..(at + piece.len()).min(bytes.len()))),
        2 => bytes.truncate(at),
        _ => {}
    }
    bytes
}

/// After so much of a sample, a length that is not true, and zeros up to the end.
fn claimed(frame: &mut [u8], sample: &[u8], at: usize, claim: usize) {
    frame.fill(0);
    frame[..at].copy_from_slice(&sample[..at]);
    // 253 announces eight bytes of number.
    frame[at] = 253;
    frame[at + 1..at + 9].copy_from_slice(&u64::try_from(claim).unwrap().to_le_bytes());
}

/// As many of the smallest faults as a frame holds: they grow more in memory than empty texts do.
fn dense() -> Vec<u8> {
    let plan = samples().into_iter().find(|(name, _)| name == "Response::Plan").unwrap().1;
    let Response::Plan(mut plan) = codec::decode(&plan).unwrap() else { panic!("no plan") };
    let spec = Fault::Memory(Memory::bytes(0));
    let one = Placement { host: "h".parse().unwrap(), fault: 0, spec };
    plan.experiment.faults = vec![one; (MAX_FRAME - 1024) / 8];
    codec::encode(&Response::Plan(plan)).unwrap()
}

#[test]
fn hostile_bytes_allocate_no_more_than_the_limit_allows() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    println!("seed {seed}");
    let mut dice = Dice::new(seed);
    let samples = samples();
    let mut most = [0; 3];
    for _ in 0..5_000 {
        let mut bytes = any(&mut dice, 512);
        most[0] = most[0].max(tried(&bytes, None, "noise"));
        bytes.splice(..0, [WIRE_VERSION.to_le_bytes()[0], dice.roll().to_le_bytes()[0] % 12]);
        most[0] = most[0].max(tried(&bytes, None, "noise"));
    }
    let mut frame = vec![0; 1 << 14];
    let lengths = [1 << 30, 2 * CLAIM, CLAIM - frame.len(), frame.len()];
    for (name, sample) in &samples {
        for _ in 0..200 {
            most[1] = most[1].max(tried(&mutated(&mut dice, sample), None, name));
        }
        let kind = name.split(':').next();
        for (at, length) in (1..sample.len()).flat_map(|at| lengths.map(|length| (at, length))) {
            claimed(&mut frame, sample, at, length);
            let what = format!("{name}, {length} claimed at {at}");
            most[2] = most[2].max(tried(&frame, kind, &what));
        }
    }
    let dense = tried(&dense(), None, "dense");
    println!("at most {most:?} for noise, changed samples and claims; dense: {dense}");
    let failed = codec::encode(&ToCoordinator::Failed("why".into())).unwrap();
    let mut long = vec![0; 2 * MAX_FRAME];
    claimed(&mut long, &failed, 2, MAX_FRAME);
    tried(&long, None, "too long");
}
