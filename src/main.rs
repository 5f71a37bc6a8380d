//! The `photogate` program: runs the command line, or a sandbox child.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(end) = photogate::sandbox::child::run(&arguments) {
        return end;
    }
    photogate::cli::run()
}
