use althing_types::nanos;
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;
use thiserror::Error;

/// Which authentication of a client's request a replica takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub enum RequestAuthPolicy {
    /// A MAC vector or a signature.
    #[default]
    MacsOrSignature,
    /// A signature: no client can then show some replicas a valid request and others an invalid one.
    SignatureOnly,
}

/// What all replicas of a group go by whatever protocol they run. Where members change it is a part of the epoch,
/// beside the settings of the protocol. [`Default`] suits a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct EngineSettings {
    /// Requests that are accepted and not yet executed, over all clients; one more is answered with "busy".
    pub max_outstanding_requests: u32,
    /// How long an accepted request counts as outstanding when others want its place.
    #[borsh(serialize_with = "nanos::serialize", deserialize_with = "nanos::deserialize")]
    pub outstanding_expiry: Duration,
    /// Which requests replicas take, and how clients make them.
    pub request_auth: RequestAuthPolicy,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            max_outstanding_requests: 4096,
            outstanding_expiry: Duration::from_secs(10),
            request_auth: RequestAuthPolicy::default(),
        }
    }
}

/// The engine can't go by such settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, BorshSerialize, BorshDeserialize)]
pub enum EngineSettingsError {
    /// No request would ever be accepted, or more than fit into memory.
    #[error("max_outstanding is {0}, but must be from 1 to {most}", most = EngineSettings::MOST_OUTSTANDING)]
    Outstanding(u32),
    /// Places would be taken away as soon as they are given, or as good as never.
    #[error("outstanding_expiry is {0} ms, but must be from 1 ms to an hour")]
    Expiry(u64),
}

impl EngineSettings {
    /// The most requests that may be outstanding.
    pub const MOST_OUTSTANDING: u32 = 1 << 20;

    const LEAST_EXPIRY: Duration = Duration::from_millis(1);
    const LONGEST_EXPIRY: Duration = Duration::from_secs(3600);

    /// Whether replicas can go by them.
    ///
    /// # Errors
    /// One variant of [`EngineSettingsError`] a rule.
    pub fn check(&self) -> Result<(), EngineSettingsError> {
        if !(1..=Self::MOST_OUTSTANDING).contains(&self.max_outstanding_requests) {
            return Err(EngineSettingsError::Outstanding(self.max_outstanding_requests));
        }
        if !(Self::LEAST_EXPIRY..=Self::LONGEST_EXPIRY).contains(&self.outstanding_expiry) {
            let ms = u64::try_from(self.outstanding_expiry.as_millis()).unwrap_or(u64::MAX);
            return Err(EngineSettingsError::Expiry(ms));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_error() {
        let with = |change: fn(&mut EngineSettings)| {
            let mut settings = EngineSettings::default();
            change(&mut settings);
            settings.check()
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|s| s.max_outstanding_requests = 0), Err(EngineSettingsError::Outstanding(0)));
        let more = EngineSettings::MOST_OUTSTANDING + 1;
        assert_eq!(
            with(|s| s.max_outstanding_requests = EngineSettings::MOST_OUTSTANDING + 1),
            Err(EngineSettingsError::Outstanding(more))
        );
        assert_eq!(with(|s| s.outstanding_expiry = Duration::ZERO), Err(EngineSettingsError::Expiry(0)));
        let longer = Err(EngineSettingsError::Expiry(3_601_000));
        assert_eq!(with(|s| s.outstanding_expiry = Duration::from_secs(3601)), longer);
    }
}
