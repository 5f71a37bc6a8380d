//! Lets Cargo compile this crate again when a migration comes or goes: `sqlx::migrate!` reads the directory, and
//! a stable compiler does not tell Cargo so.

fn main() {
    println!("cargo:rerun-if-changed=.");
}
