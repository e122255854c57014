//! Proofs of possession, as activations bring them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use token_authority::untrusted::ENTRANCES;

fuzz_target!(|bytes: &[u8]| {
    let entrance = ENTRANCES.iter().find(|entrance| entrance.name == "activation_proof").expect("it is in the table");
    (entrance.read)(bytes);
});
