//! Holds the layering of `ARCHITECTURE.md` against the workspace as it is: which crate may use
//! which, that the sans-IO crates have no standard library, and that no protocol imports another.
//! Every rule is also shown a violation, so that a rule that sees nothing is noticed.

mod planted;
mod rules;
mod source;

use rules::{SANS_IO, Source};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {complaint}");
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// The folder of a crate, or `None` while it has not appeared.
fn folder(name: &str) -> Option<PathBuf> {
    let folder = workspace().join("crates").join(name.strip_prefix("althing-").unwrap_or(name));
    folder.is_dir().then_some(folder)
}

fn sources(krate: &Path) -> Vec<Source> {
    let root = krate.join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a source folder can be listed") {
            let path = entry.expect("a source folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file is readable text");
                let path = path.strip_prefix(&root).expect("it lies below").to_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "no source files below {}", root.display());
    found
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn crates_use_only_what_is_above_them() {
    let metadata = metadata();
    assert_none(&rules::direction(&metadata));
    assert_none(&rules::no_std_dependencies(&metadata));
}

#[test]
fn the_sans_io_crates_have_no_standard_library() {
    let present: Vec<_> = SANS_IO.iter().filter_map(|name| Some((*name, folder(name)?))).collect();
    assert!(present.len() >= 4, "types, crypto, protocol and replica exist: {present:?}");
    for (name, folder) in present {
        assert_none(&rules::no_std_sources(name, &sources(&folder)));
    }
}

#[test]
fn no_protocol_imports_another() {
    let protocol = folder("althing-protocol").expect("crates/protocol exists");
    assert_none(&rules::protocols_apart(&sources(&protocol)));
}

#[test]
fn the_simulator_bans_real_clocks_sockets_threads_and_unordered_maps_by_lint() {
    let sim = folder("althing-sim").expect("crates/sim exists");
    let banned = std::fs::read_to_string(sim.join("clippy.toml")).expect("crates/sim/clippy.toml");
    for path in [
        "std::time::Instant",
        "std::time::SystemTime",
        "std::collections::HashMap",
        "std::collections::HashSet",
        "std::thread::spawn",
        "std::net::TcpStream",
    ] {
        assert!(banned.contains(&format!("\"{path}\"")), "{path} is not banned");
    }
}
