//! Runs `indelible_fuzz::open_directory`, whose header lists the invariants.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| indelible_fuzz::open_directory::run(bytes));
