//! A violation of each rule, planted, and the innocent neighbour that must not be taken for one.

use crate::rules::{self, ORDER, Source};
use serde_json::{Value, json};

fn dependency(name: &str, kind: Option<&str>) -> Value {
    json!({ "name": name, "kind": kind, "uses_default_features": false, "features": [] })
}

fn workspace(name: &str, dependency: Value) -> Value {
    json!({ "packages": [{ "name": name, "dependencies": [dependency] }] })
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

#[test]
fn every_pair_of_crates_may_depend_in_one_direction_only() {
    for (place, name) in ORDER.iter().enumerate() {
        for (other, on) in ORDER.iter().enumerate() {
            for kind in [None, Some("build")] {
                let found = rules::direction(&workspace(name, dependency(on, kind)));
                assert_eq!(found.is_empty(), other < place, "{name} -> {on}: {found:?}");
            }
        }
    }
}

#[test]
fn a_crate_outside_the_order_is_caught_from_both_ends() {
    let stray = workspace("althing-util", dependency("borsh", None));
    assert_eq!(rules::direction(&stray).len(), 1);
    let user = workspace("althing", dependency("althing-util", None));
    assert_eq!(rules::direction(&user).len(), 1);
}

#[test]
fn tests_may_look_down_but_the_simulator_never_at_the_node() {
    let tests = workspace("althing-protocol", dependency("althing-sim", Some("dev")));
    assert!(rules::direction(&tests).is_empty());
    let sim = workspace("althing-sim", dependency("althing-node", Some("dev")));
    assert_eq!(rules::direction(&sim).len(), 1);
}

#[test]
fn a_dependency_that_brings_std_is_caught_in_sans_io_crates_only() {
    let defaults = json!({ "name": "thiserror", "kind": null, "uses_default_features": true });
    let feature = json!({
        "name": "borsh", "kind": null, "uses_default_features": false, "features": ["std"]
    });
    for brings_std in [defaults, feature] {
        let core = workspace("althing-protocol", brings_std.clone());
        assert_eq!(rules::no_std_dependencies(&core).len(), 1);
        let node = workspace("althing-node", brings_std);
        assert!(rules::no_std_dependencies(&node).is_empty());
    }
    let clean = workspace("althing-protocol", dependency("thiserror", None));
    assert!(rules::no_std_dependencies(&clean).is_empty());
}

#[test]
fn a_sans_io_crate_with_std_is_caught() {
    let check = |text| rules::no_std_sources("althing-types", &[source("lib.rs", text)]);
    assert!(check("#![no_std]\n//! Words.\nextern crate alloc;").is_empty());
    assert!(check("#![no_std]\n#[cfg(test)]\nextern crate std;").is_empty());
    assert_eq!(check("//! #![no_std]").len(), 1);
    assert_eq!(check("#![cfg_attr(not(feature = \"std\"), no_std)]").len(), 1);
    assert_eq!(check("#![no_std]\nextern crate std;").len(), 1);
    let hidden = [source("lib.rs", "#![no_std]"), source("clock/mod.rs", "extern crate std as alias;")];
    assert_eq!(rules::no_std_sources("althing-types", &hidden).len(), 1);
}

#[test]
fn a_protocol_that_imports_another_is_caught_however_it_is_spelt() {
    let check = |path, text| rules::protocols_apart(&[source(path, text)]);
    for violation in [
        "use crate::pbft::Certificate;",
        "use crate::{votes::Votes, pbft::{Certificate, log::Log}};",
        "pub(crate) use super::pbft;",
        "fn f() { crate::pbft::verify() }",
        "use super::super::pbft::Certificate;",
    ] {
        assert_eq!(check("zyzzyva/core.rs", violation).len(), 1, "{violation}");
        assert_eq!(check("zyzzyva.rs", violation).len(), 1, "{violation}");
        assert!(check("pbft/core.rs", violation).is_empty(), "{violation}");
        assert!(check("lib.rs", violation).is_empty(), "{violation}");
    }
    for innocent in [
        "// like crate::pbft::Certificate",
        "use crate::votes::{Votes, quorum}; fn f() { a.iter().chain(b) }",
        "#[cfg(test)] mod tests { use crate::pbft::Certificate; }",
    ] {
        assert!(check("zyzzyva/core.rs", innocent).is_empty(), "{innocent}");
    }
}
