//! The rules, each a function from what it judges to the violations found, so that a test can hand
//! it a violation and see it caught.

use crate::source::tokens;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The crates of the workspace from the ground up. A crate may use those before it and no others.
pub(crate) const ORDER: [&str; 13] = [
    "althing-types",
    "althing-crypto",
    "althing-protocol",
    "althing-replica",
    "althing-wide",
    "althing-monitor",
    "althing-adapt",
    "althing-cells",
    "althing-components",
    "althing-services",
    "althing-sim",
    "althing-node",
    "althing",
];

/// The crates without a clock, a socket, a thread or a disk: `#![no_std]`.
pub(crate) const SANS_IO: [&str; 5] =
    ["althing-types", "althing-crypto", "althing-protocol", "althing-replica", "althing-wide"];

/// The modules of `crates/protocol` that are a protocol each.
pub(crate) const PROTOCOLS: [&str; 5] = ["pbft", "paxos", "zyzzyva", "quorum", "chain"];

/// A source file: where it is, inside its crate's `src`, and what it says.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Dependencies between crates of the workspace that point down or sideways in [`ORDER`], crates
/// that have no place in it, and any way at all in which the simulator would learn of the node.
pub(crate) fn direction(metadata: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages(metadata) {
        let name = text(package, "name");
        let Some(place) = place(name) else {
            violations.push(format!("{name} has no place in the order of the layers"));
            continue;
        };
        for dependency in dependencies(package).filter(|d| is_ours(d)) {
            let on = text(dependency, "name");
            let for_tests = dependency["kind"] == "dev";
            if !for_tests && self::place(on).is_none_or(|other| other >= place) {
                violations.push(format!("{name} depends on {on}, which is not above it"));
            }
            if name == "althing-sim" && on == "althing-node" && for_tests {
                violations.push("althing-sim knows althing-node in its tests".into());
            }
        }
    }
    violations
}

/// Dependencies of sans-IO crates that would bring the standard library with them: every one has
/// to be declared without default features, and without one called `std`.
pub(crate) fn no_std_dependencies(metadata: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages(metadata).filter(|p| SANS_IO.contains(&text(p, "name"))) {
        let name = text(package, "name");
        for dependency in dependencies(package).filter(|d| d["kind"].is_null() && !is_ours(d)) {
            let on = text(dependency, "name");
            let has_std =
                dependency["features"].as_array().is_some_and(|features| features.iter().any(|f| f == "std"));
            if dependency["uses_default_features"] != false || has_std {
                violations.push(format!("{name} depends on {on} with its default features or `std`"));
            }
        }
    }
    violations
}

/// A sans-IO crate that is not plainly `#![no_std]`, or that takes `std` back outside its tests.
pub(crate) fn no_std_sources(name: &str, sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    let declares = |source: &Source| tokens(&source.text).join("").contains("#![no_std]");
    if !sources.iter().any(|s| s.path == Path::new("lib.rs") && declares(s)) {
        violations.push(format!("{name} is not #![no_std]"));
    }
    for source in sources {
        let code = tokens(&source.text);
        if code.windows(3).any(|w| w == ["extern", "crate", "std"]) {
            violations
                .push(format!("{name}: {} takes std back with `extern crate std`", source.path.display()));
        }
    }
    violations
}

/// Protocol modules that import another protocol.
pub(crate) fn protocols_apart(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        let Some(own) = protocol_of(&source.path) else {
            continue;
        };
        for named in crate_paths(&tokens(&source.text)) {
            if named != own && PROTOCOLS.contains(&named.as_str()) {
                violations.push(format!("{} belongs to {own} and imports {named}", source.path.display()));
            }
        }
    }
    violations
}

/// Which protocol a file belongs to: `pbft` for `pbft.rs` and for whatever stands in `pbft/`.
fn protocol_of(path: &Path) -> Option<&'static str> {
    let first = Path::new(path.components().next()?.as_os_str());
    let module = first.file_stem()?.to_str()?;
    PROTOCOLS.into_iter().find(|protocol| *protocol == module)
}

/// The words that stand right after `crate::` or `super::`, in a path or inside the braces of a
/// `use`.
fn crate_paths(code: &[String]) -> Vec<String> {
    let mut named = Vec::new();
    for (at, pair) in code.windows(2).enumerate() {
        if !matches!(pair[0].as_str(), "crate" | "super") || pair[1] != "::" {
            continue;
        }
        match code.get(at + 2).map(String::as_str) {
            Some("{") => named.extend(group_heads(&code[at + 3..])),
            Some(word) => named.push(word.to_owned()),
            None => {}
        }
    }
    named
}

/// The first word of each branch of a `use` group whose `{` has just been passed.
fn group_heads(code: &[String]) -> Vec<String> {
    let (mut heads, mut depth, mut starts) = (Vec::new(), 0usize, true);
    for token in code {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => starts = true,
            word if starts => {
                heads.push(word.to_owned());
                starts = false;
            }
            _ => {}
        }
    }
    heads
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    package["dependencies"].as_array().into_iter().flatten()
}

fn is_ours(dependency: &Value) -> bool {
    let name = text(dependency, "name");
    name == "althing" || name.starts_with("althing-")
}

fn place(name: &str) -> Option<usize> {
    ORDER.iter().position(|layer| *layer == name)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
