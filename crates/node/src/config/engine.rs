use std::time::Duration;

use althing_replica::{EngineSettings, RequestAuthPolicy};
use serde::{Deserialize, Serialize};

/// How clients authenticate requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestAuthKind {
    /// A MAC for each replica; signed only when it has to be sent again.
    #[default]
    Macs,
    /// Signed always.
    Signatures,
}

impl From<RequestAuthKind> for RequestAuthPolicy {
    fn from(kind: RequestAuthKind) -> Self {
        match kind {
            RequestAuthKind::Macs => Self::MacsOrSignature,
            RequestAuthKind::Signatures => Self::SignatureOnly,
        }
    }
}

impl From<RequestAuthPolicy> for RequestAuthKind {
    fn from(policy: RequestAuthPolicy) -> Self {
        match policy {
            RequestAuthPolicy::MacsOrSignature => Self::Macs,
            RequestAuthPolicy::SignatureOnly => Self::Signatures,
        }
    }
}

/// What the replicas of a group go by whatever they run, as it is written: each by its name at the top of a group file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEngine {
    /// Requests that are accepted and not yet executed, over all clients.
    pub max_outstanding: u32,
    /// How long an accepted request counts as outstanding when others want its place.
    pub outstanding_expiry_ms: u64,
    /// How clients authenticate requests.
    pub request_auth: RequestAuthKind,
}

impl Default for RawEngine {
    fn default() -> Self {
        Self::from(&EngineSettings::default())
    }
}

/// As far as whole milliseconds go.
impl From<&EngineSettings> for RawEngine {
    fn from(settings: &EngineSettings) -> Self {
        Self {
            max_outstanding: settings.max_outstanding_requests,
            outstanding_expiry_ms: u64::try_from(settings.outstanding_expiry.as_millis()).unwrap_or(u64::MAX),
            request_auth: settings.request_auth.into(),
        }
    }
}

impl RawEngine {
    /// What is written, as replicas take it: not yet checked.
    #[must_use]
    pub fn settings(&self) -> EngineSettings {
        EngineSettings {
            max_outstanding_requests: self.max_outstanding,
            outstanding_expiry: Duration::from_millis(self.outstanding_expiry_ms),
            request_auth: self.request_auth.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_replicas_take() {
        assert_eq!(RawEngine::default().settings(), EngineSettings::default());
        let request_auth = RequestAuthKind::Signatures;
        let raw = RawEngine { max_outstanding: 7, outstanding_expiry_ms: 30, request_auth };
        assert_eq!(RawEngine::from(&raw.settings()), raw);
    }
}
