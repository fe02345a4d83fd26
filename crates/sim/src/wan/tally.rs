use althing_crypto::Hasher;
use althing_replica::{Context, InstallError, Outcome, Pages, Service};
use althing_types::{ClientId, Digest, encode};

/// Executes updates by taking note of them: what two sites have executed can be compared.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// How many were executed before those that are noted: another's state was installed.
    base: u64,
    /// The digest of each update with all before it.
    noted: Vec<Digest>,
    last: Digest,
}

impl Tally {
    /// How many updates were executed.
    pub(super) fn executed(&self) -> u64 {
        self.base + self.noted.len() as u64
    }

    /// What was executed from the `from`th update on, as far as this one has executed it itself.
    pub(super) fn since(&self, from: u64) -> impl Iterator<Item = (u64, Digest)> {
        let skipped = usize::try_from(from.saturating_sub(self.base)).expect("a run has fewer updates");
        (self.base..).zip(self.noted.iter().copied()).skip(skipped)
    }
}

impl Service for Tally {
    fn execute(&mut self, operation: &[u8], context: &Context) -> Outcome {
        let mut hasher = Hasher::new("althing wan update");
        hasher.value(&(self.last, context.client, context.number));
        hasher.bytes(operation);
        self.last = hasher.finish();
        self.noted.push(self.last);
        Outcome::default()
    }

    fn query(&self, _: &[u8], _: ClientId) -> Option<Vec<u8>> {
        None
    }

    fn save(&mut self, pages: &mut Pages) {
        pages.set(0, encode(&(self.executed(), self.last)));
    }

    fn install(&mut self, pages: &Pages, _: &[u32]) -> Result<(), InstallError> {
        let wrong = InstallError { page: 0, reason: "it is no tally" };
        let page = pages.page(0).ok_or_else(|| wrong.clone())?;
        let (base, last) = althing_types::decode(page, 64).map_err(|_| wrong)?;
        (self.base, self.last) = (base, last);
        self.noted.clear();
        Ok(())
    }
}
