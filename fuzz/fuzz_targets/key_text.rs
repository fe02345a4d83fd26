//! The text of keys, as an operator's key files and spec files hold it.
#![no_main]

use althing_crypto::{Identity, PublicIdentity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(identity) = text.parse::<Identity>() {
        let again: Identity = identity.to_secret_text().parse().expect("its own text is a key");
        assert_eq!(again.public(), identity.public());
    }
    if let Ok(public) = text.parse::<PublicIdentity>() {
        let again: PublicIdentity = public.to_string().parse().expect("its own text is a key");
        assert_eq!(again, public);
    }
});
