//! The text of keys, as an operator's key files and spec files hold it.
#![no_main]

use althing_crypto::site::{ShareKey, SitePublic, SiteSecret};
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
    if let Ok(public) = text.parse::<SitePublic>() {
        assert_eq!(public.to_string().parse(), Ok(public));
    }
    if let Ok(key) = text.parse::<ShareKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    if let Ok(secret) = text.parse::<SiteSecret>() {
        let again: SiteSecret = secret.to_secret_text().parse().expect("its own text is a secret");
        assert_eq!(again.to_secret_text(), secret.to_secret_text());
    }
});
