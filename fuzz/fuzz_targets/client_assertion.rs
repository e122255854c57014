//! Client assertions (RFC 7523).
#![no_main]

use libfuzzer_sys::fuzz_target;
use token_authority::untrusted::ENTRANCES;

fuzz_target!(|bytes: &[u8]| {
    let entrance = ENTRANCES.iter().find(|entrance| entrance.name == "client_assertion").expect("it is in the table");
    (entrance.read)(bytes);
});
