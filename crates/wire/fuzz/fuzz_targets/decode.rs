//! Whatever stands in a frame: decoding ends, with an error or with a value whose own bytes are no more and
//! are decoded too. What it allocates is not looked at here; tests/allocation.rs measures that.
//!
//! On a stable toolchain: `RUSTC_BOOTSTRAP=1 cargo fuzz run decode`, from crates/wire.
#![no_main]

use libfuzzer_sys::fuzz_target;
use squall_core::message::{FromAgent, FromCoordinator, Request, Response, ToAgent, ToCoordinator};
use squall_wire::codec;

fn look<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes) {
        // Sets and maps may come back shorter, varints in their shortest form: never longer.
        let again = codec::encode(&value).expect("what was decoded fits a frame");
        assert!(again.len() <= bytes.len());
        assert!(codec::decode::<T>(&again).is_ok());
    }
}

fuzz_target!(|bytes: &[u8]| {
    look::<FromAgent>(bytes);
    look::<ToAgent>(bytes);
    look::<FromCoordinator>(bytes);
    look::<ToCoordinator>(bytes);
    look::<Request>(bytes);
    look::<Response>(bytes);
});
