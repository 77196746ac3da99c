//! The program that scripts/fuzz runs for the target `condition`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dovecast_fuzz::run(
    dovecast_fuzz::condition::TARGET,
    bytes
));
