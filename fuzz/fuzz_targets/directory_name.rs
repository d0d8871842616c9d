//! What a user's directory is called: a template, a user and a host, each on a line of its own (the user may
//! have more than one: whatever a directory service says).

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| {
    let (template, rest) = input.split_once('\n').unwrap_or(("%u", input));
    let (user, host) = rest.rsplit_once('\n').unwrap_or((rest, "host"));
    promises::directory_name(template, user, u32::try_from(input.len()).unwrap_or(0), host);
});
