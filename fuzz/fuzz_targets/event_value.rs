//! Events from the edge: any payload at a port of any type.
#![no_main]

use althing_components::{PortType, canonical, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    if let Ok(value) = parse(payload) {
        let bytes = canonical(&value);
        let again = parse(&bytes).expect("the canonical form is JSON of a permitted length");
        assert_eq!(canonical(&again), bytes, "the canonical form is not a fixed point");
    }
    for port in PortType::ALL {
        let Ok(value) = port.read_payload(payload) else { continue };
        port.check(&value).expect("what a port reads is of its type");
        let written = port.write_payload(&value);
        let again = port.read_payload(&written).expect("what a port writes it reads");
        assert_eq!(port.write_payload(&again), written);
    }
});
