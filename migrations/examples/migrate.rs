//! Brings the database at the address given up to date, for scripts/with-postgres. It is an example, because examples are
//! built with the features that tests have: what it needs is compiled once for both.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("usage: migrate DATABASE_URL");
        return ExitCode::from(2);
    };
    match photogate_schema::migrate_aloud(&url, false, |said| eprintln!("{said}")).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
