use crate::MAX_PAGE_BYTES;
use crate::client_table::MAX_REPLY_BYTES;
use crate::membership::MAX_LINKS_BYTES;
use crate::transfer::MAX_ENGINE_MESSAGE_BYTES;
use althing_types::Quorums;
use core::time::Duration;
use thiserror::Error;

/// Bounds on what a replica takes, keeps and gives, not yet checked. [`Default`] suits a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// The longest operation of a client. Equal at all replicas and clients of a group.
    pub max_operation_bytes: usize,
    /// The longest result of an operation and the longest emission. Equal at all replicas and
    /// clients of a group.
    pub max_reply_bytes: usize,
    /// The longest message among replicas.
    pub max_message_bytes: usize,
    /// The most requests inside one message among replicas.
    pub max_requests_per_message: usize,
    /// How long state transfer waits for one answer.
    pub transfer_timeout: Duration,
    /// State served to one other replica in a second, in bytes.
    pub transfer_bytes_per_second: u64,
    /// How long a key that was replaced stays good for what is in flight.
    pub key_grace: Duration,
    /// How long one member that does not know of this replica's key waits to be told again.
    pub key_repeat: Duration,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            max_operation_bytes: 1 << 20,
            max_reply_bytes: 1 << 20,
            max_message_bytes: 32 << 20,
            max_requests_per_message: 4096,
            transfer_timeout: Duration::from_millis(500),
            transfer_bytes_per_second: 64 << 20,
            key_grace: Duration::from_secs(2),
            key_repeat: Duration::from_millis(50),
        }
    }
}

/// Bounds that can't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LimitsError {
    /// A bound that must not be zero is.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A reply must fit into the replicated client table.
    #[error("max_reply_bytes is {bytes}, but must be at most {MAX_REPLY_BYTES}")]
    ReplyTooLong {
        /// The bound given.
        bytes: usize,
    },
    /// A message must be able to carry an operation and a piece of the state.
    #[error("max_message_bytes is {bytes}, but must be at least {least}")]
    MessageTooShort {
        /// The bound given.
        bytes: usize,
        /// The least that works with the other bounds.
        least: usize,
    },
    /// State transfer could not serve a single answer.
    #[error("transfer_bytes_per_second is {bytes}, but must be at least {MAX_ENGINE_MESSAGE_BYTES}")]
    TransferTooSlow {
        /// The bound given.
        bytes: u64,
    },
}

/// Checked bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits(LimitSettings);

/// What a frame adds to what it carries: ids, numbers, and a MAC or a signature by each of the largest group.
const FRAME_OVERHEAD: usize = 256 + 80 * Quorums::MAX_REPLICAS;

impl Limits {
    /// Checks `settings`.
    ///
    /// # Errors
    /// One variant of [`LimitsError`] a rule.
    pub fn new(settings: LimitSettings) -> Result<Self, LimitsError> {
        for (name, is_zero) in [
            ("max_operation_bytes", settings.max_operation_bytes == 0),
            ("max_requests_per_message", settings.max_requests_per_message == 0),
            ("transfer_timeout", settings.transfer_timeout.is_zero()),
        ] {
            if is_zero {
                return Err(LimitsError::Zero(name));
            }
        }
        if settings.max_reply_bytes > MAX_REPLY_BYTES {
            return Err(LimitsError::ReplyTooLong { bytes: settings.max_reply_bytes });
        }
        let least = settings.max_operation_bytes.saturating_add(MAX_PAGE_BYTES).max(MAX_ENGINE_MESSAGE_BYTES);
        if settings.max_message_bytes < least {
            return Err(LimitsError::MessageTooShort { bytes: settings.max_message_bytes, least });
        }
        if settings.transfer_bytes_per_second < MAX_ENGINE_MESSAGE_BYTES as u64 {
            return Err(LimitsError::TransferTooSlow { bytes: settings.transfer_bytes_per_second });
        }
        Ok(Self(settings))
    }

    /// The settings that were checked.
    #[must_use]
    pub fn settings(&self) -> &LimitSettings {
        &self.0
    }

    /// The longest frame that a replica may send to a replica.
    #[must_use]
    pub fn max_replica_frame_bytes(&self) -> usize {
        self.0.max_message_bytes + FRAME_OVERHEAD
    }

    /// The longest frame that a client may send to a replica.
    #[must_use]
    pub fn max_client_frame_bytes(&self) -> usize {
        self.0.max_operation_bytes + FRAME_OVERHEAD
    }

    /// The longest frame that a replica may send to a client.
    #[must_use]
    pub fn max_reply_frame_bytes(&self) -> usize {
        self.0.max_reply_bytes.max(MAX_LINKS_BYTES) + FRAME_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_error() {
        let with = |change: fn(&mut LimitSettings)| {
            let mut settings = LimitSettings::default();
            change(&mut settings);
            Limits::new(settings).unwrap_err()
        };
        assert_eq!(with(|s| s.max_operation_bytes = 0), LimitsError::Zero("max_operation_bytes"));
        assert_eq!(with(|s| s.max_reply_bytes = 3 << 20), LimitsError::ReplyTooLong { bytes: 3 << 20 });
        assert!(matches!(with(|s| s.max_message_bytes = 5), LimitsError::MessageTooShort { bytes: 5, .. }));
        assert_eq!(with(|s| s.transfer_bytes_per_second = 9), LimitsError::TransferTooSlow { bytes: 9 });
        assert_eq!(Limits::new(LimitSettings::default()), Ok(Limits::default()));
    }
}
