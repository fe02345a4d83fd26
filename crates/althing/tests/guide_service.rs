//! The service of the guide's page "Writing a service", which includes parts of this file.

// ANCHOR: service
use althing::types::{decode, encode};
use althing::{ClientId, Context, InstallError, Outcome, Service};
use std::collections::BTreeMap;

/// A till: each client pays into its own account and reads its own balance.
#[derive(Debug, Default, PartialEq, Eq)]
struct Till {
    balances: BTreeMap<u64, u64>,
    is_clean: bool,
}

impl Till {
    fn pay(&mut self, client: ClientId, operation: &[u8]) -> Result<u64, &'static str> {
        let amount: u64 = decode(operation, 8).map_err(|_| "an operation is an amount: eight bytes")?;
        let balance = self.balances.entry(client.0).or_default();
        *balance = balance.checked_add(amount).ok_or("nobody is that rich")?;
        self.is_clean = false;
        Ok(*balance)
    }
}

impl Service for Till {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        encode(&self.pay(context.client, operation)).into()
    }

    fn query(&self, _operation: &[u8], client: ClientId) -> Option<Vec<u8>> {
        let balance = self.balances.get(&client.0).copied().unwrap_or_default();
        Some(encode(&Ok::<u64, &str>(balance)))
    }

    fn page_count(&self) -> u32 {
        1
    }

    fn page(&self, _index: u32) -> Vec<u8> {
        encode(&self.balances)
    }

    fn take_dirty(&mut self) -> Vec<u32> {
        // All pages count as dirty at first, and after that those that may have changed.
        if std::mem::replace(&mut self.is_clean, true) { vec![] } else { vec![0] }
    }

    fn install(&mut self, pages: &[&[u8]]) -> Result<(), InstallError> {
        let wrong = |reason| InstallError { page: 0, reason };
        let [page] = pages else { return Err(wrong("the state has one page")) };
        self.balances = decode(page, page.len()).map_err(|_| wrong("no table of balances"))?;
        self.is_clean = false;
        Ok(())
    }
}
// ANCHOR_END: service

// ANCHOR: test
fn context(client: u64, seq: u64) -> Context {
    let (client, seq) = (ClientId(client), althing::Seq(seq));
    Context { client, seq, time: althing::Instant(seq.0), seed: [0; 32] }
}

#[test]
fn replicas_stay_equal_and_a_new_one_is_made_from_pages() {
    let (mut one, mut other) = (Till::default(), Till::default());
    for (seq, operation) in [encode(&5u64), encode(&u64::MAX), b"nonsense?".to_vec()].iter().enumerate() {
        let context = context(1, seq as u64);
        assert_eq!(one.execute(operation, &context), other.execute(operation, &context));
        assert_eq!(one.page(0), other.page(0));
    }
    let mut fresh = Till::default();
    fresh.install(&[&one.page(0)]).unwrap();
    assert_eq!(fresh.query(&[], ClientId(1)), one.query(&[], ClientId(1)));
    assert!(fresh.install(&[b"no state"]).is_err());
    assert_eq!(fresh.page(0), one.page(0), "what was refused changed nothing");
}
// ANCHOR_END: test
