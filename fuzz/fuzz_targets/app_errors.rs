#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidestream::fuzzing::app_errors(data));
