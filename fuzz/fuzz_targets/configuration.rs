//! The bytes of a pam.d line and of a file: the pieces between `0xff` are the arguments, the last is the file.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut arguments: Vec<&[u8]> = input.split(|&byte| byte == 0xff).collect();
    let file = arguments.pop().unwrap_or_default();
    promises::configuration(&arguments, file);
});
