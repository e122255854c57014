//! Checks the key set that this build embeds, and fails with a sentence if it may not be built with.

use token_authority_verifier::build::BuildScript;

fn main() {
    // One image per environment: `KEY_SET=keys/production cargo build --release`.
    println!("cargo::rerun-if-env-changed=KEY_SET");
    let folder = std::env::var("KEY_SET").unwrap_or_else(|_| "keys/example".to_owned());
    let script = BuildScript::new(&folder).audience("gitlab-ai-gateway").contract("contract.json");
    // The keys of the example are public: they are built in for show, with optimizations too. Leave this line out.
    let script = if folder == "keys/example" { script.allow_development(true) } else { script };
    script.run();
}
