#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ringway_fuzz::run("parse_request", input));
