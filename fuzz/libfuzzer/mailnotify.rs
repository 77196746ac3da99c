//! The program that scripts/fuzz runs for the target `mailnotify`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dovecast_fuzz::run(
    dovecast_fuzz::mailnotify::TARGET,
    bytes
));
