//! The program that scripts/fuzz runs for the target `registration`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dovecast_fuzz::run(
    dovecast_fuzz::registration::TARGET,
    bytes
));
