//! New keys, every so often.

use althing_replica::Input;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::ReplicaError;
use super::runtime::{NodeProtocol, Runtime};

/// Others believe a key for so many periods: where they are kept from hearing of the next, and longer
/// than it takes for a few announcements to get lost.
const KEY_LIFETIME_PERIODS: u32 = 5;

impl<P: NodeProtocol> Runtime<P> {
    /// Takes a new key, where it is time.
    pub(super) fn refresh_keys(&mut self) -> Result<(), ReplicaError> {
        let (Some(period), Some(at)) = (self.file.group().key_refresh(), self.refresh_at) else {
            return Ok(());
        };
        if at <= Instant::now() {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut seed[..]).map_err(ReplicaError::Random)?;
            self.handle(Input::Refresh { seed: (*seed).into(), lifetime: period * KEY_LIFETIME_PERIODS });
            self.refresh_at = Some(Instant::now() + period);
        }
        Ok(())
    }
}
