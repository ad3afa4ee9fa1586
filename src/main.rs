//! The program: arguments to the command line, its answer to an exit code.

use std::process::ExitCode;

/// Buffers come and go with every connection; mimalloc gives them back sooner and costs less than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringway::cli::main()
}
