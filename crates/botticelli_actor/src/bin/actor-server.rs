//! The Botticelli Actor Server: see `actor-server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    botticelli_actor::cli::main()
}
