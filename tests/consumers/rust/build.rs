//! Asks pkg-config where the library is.
use std::process::Command;

fn main() {
    let program = std::env::var("PKG_CONFIG").unwrap_or("pkg-config".into());
    let run = Command::new(program).args(["--libs", "microbp"]).output().expect("pkg-config");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for word in String::from_utf8(run.stdout).unwrap().split_whitespace() {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
        } else if let Some(library) = word.strip_prefix("-l") {
            println!("cargo:rustc-link-lib={library}");
        }
    }
}
