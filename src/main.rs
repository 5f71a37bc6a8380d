//! The `photogate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(end) = photogate::sandbox::child::run(&arguments) {
        return end;
    }
    photogate::cli::run()
}
