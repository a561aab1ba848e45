#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ntlmfront_fuzz::body::check(input));
