//! New keys, every so often.

use althing_replica::Input;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::ReplicaError;
use super::runtime::{NodeProtocol, Runtime};

impl<P: NodeProtocol> Runtime<P> {
    /// Takes a new key, where it is time.
    pub(super) fn refresh_keys(&mut self) -> Result<(), ReplicaError> {
        let group = self.file.group();
        let (Some(period), Some(lifetime), Some(at)) =
            (group.key_refresh(), group.key_lifetime(), self.refresh_at)
        else {
            return Ok(());
        };
        if at <= Instant::now() {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut seed[..]).map_err(ReplicaError::Random)?;
            self.handle(Input::Refresh { seed: (*seed).into(), lifetime });
            self.refresh_at = Some(Instant::now() + period);
        }
        Ok(())
    }
}
