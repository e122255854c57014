//! Hands the arguments over to `cli` and its answer to the caller.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    token_authority::cli::run()
}
