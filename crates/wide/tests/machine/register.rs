//! The service that the sites replicate here: what each client has said, on a page of its own.

use althing_replica::{Context, InstallError, Outcome, Pages, Service};
use althing_types::{ClientId, decode, encode};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Register {
    said: BTreeMap<u32, Vec<Vec<u8>>>,
    dirty: BTreeSet<u32>,
}

impl Register {
    /// What a client has said that was executed, in order.
    pub(crate) fn said(&self, client: ClientId) -> &[Vec<u8>] {
        self.said.get(&page(client)).map_or(&[], |said| said)
    }
}

fn page(client: ClientId) -> u32 {
    u32::try_from(client.0).expect("clients have small ids here")
}

impl Service for Register {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        let page = page(context.client);
        let said = self.said.entry(page).or_default();
        said.push(operation.to_vec());
        self.dirty.insert(page);
        encode(&(said.len() as u64, context.time, context.seed)).into()
    }

    fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
        None
    }

    fn save(&mut self, pages: &mut Pages) {
        for page in std::mem::take(&mut self.dirty) {
            pages.set(page, encode(&self.said[&page]));
        }
    }

    fn install(&mut self, pages: &Pages, changed: &[u32]) -> Result<(), InstallError> {
        let mut said = self.said.clone();
        for page in changed {
            match pages.page(*page) {
                Some(bytes) => {
                    let wrong = InstallError { page: *page, reason: "it is nothing that a client said" };
                    said.insert(*page, decode(bytes, 1 << 20).map_err(|_| wrong)?);
                }
                None => drop(said.remove(page)),
            }
        }
        self.said = said;
        Ok(())
    }
}
