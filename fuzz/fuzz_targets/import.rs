//! Files of records, line by line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use token_authority::untrusted::ENTRANCES;

fuzz_target!(|bytes: &[u8]| {
    let entrance = ENTRANCES.iter().find(|entrance| entrance.name == "import").expect("it is in the table");
    (entrance.read)(bytes);
});
