//! The Botticelli Actor Server: see `actor-server --help`.

use std::process::ExitCode;

/// Gives memory back that only the start needed, and is quick with the many small things that a run is made of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    botticelli_actor::cli::main()
}
