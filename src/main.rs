//! The `photogate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    photogate::cli::run()
}
