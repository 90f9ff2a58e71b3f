#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = http1_fuzz::response(input);
});
