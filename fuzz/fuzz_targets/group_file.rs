//! A group file, one with a site's keys, and what is asked of a node's control socket: any text.
#![no_main]

use althing_node::config::{GroupConfig, RawClient, RawEdge, RawGroup, RawReplica, RawSiteKeys};
use althing_node::control::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(raw) = serde_json::from_str::<RawGroup>(text) {
        match GroupConfig::try_from(raw) {
            Ok(group) => drop(format!("{group:?}")),
            Err(rule) => assert!(!rule.to_string().is_empty()),
        }
    }
    if let Ok(raw) = serde_json::from_str::<RawSiteKeys>(text) {
        match raw.shares() {
            Ok(shares) => assert!(shares.needed() <= raw.servers),
            Err(rule) => assert!(!rule.to_string().is_empty()),
        }
    }
    let _ = serde_json::from_str::<RawReplica>(text);
    let _ = serde_json::from_str::<RawEdge>(text);
    let _ = serde_json::from_str::<RawClient>(text);
    if let Ok(request) = serde_json::from_str::<Request>(text) {
        let again = serde_json::to_string(&request).expect("a request has a JSON form");
        assert_eq!(serde_json::from_str::<Request>(&again).expect("its own form is read"), request);
    }
});
