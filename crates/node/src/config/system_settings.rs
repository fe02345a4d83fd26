use althing_replica::Limits;
use serde::{Deserialize, Serialize};

use super::error::Rule;

/// What stands around a message of the wide-area protocol where one request is in it, in bytes at most.
const REQUEST_OVERHEAD: usize = 512;

/// What stands around a message between sites that is put in order, in bytes at most.
const MESSAGE_OVERHEAD: usize = 4096;

/// Who carries updates, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisseminationKind {
    /// The leading site.
    Leader,
    /// Each site its own, with its clients' signatures.
    #[default]
    Origin,
    /// Each site its own, and it answers for its clients: their signatures stay at home. A site that is wholly
    /// Byzantine can then invent updates of its own clients.
    Vouched,
}

/// How sites speak to each other, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSystemSettings {
    /// Who carries updates.
    pub dissemination: DisseminationKind,
    /// How many bundles of its own a site may have under way, where each carries its own updates.
    pub bundles: u16,
    /// How long a bundle may be, in bytes; one with a single update may be longer.
    pub max_bundle_bytes: usize,
    /// Bundles leave while fewer bytes wait for as many sites as it takes to decide.
    pub bundle_window_bytes: u64,
    /// The longest update, in bytes.
    pub max_update_bytes: usize,
    /// The longest result, in bytes.
    pub max_reply_bytes: usize,
    /// The longest message between sites, in bytes.
    pub max_message_bytes: usize,
    /// How much may wait for a site that does not answer, in bytes.
    pub max_unacknowledged_bytes: u64,
    /// How long what was received may go without an acknowledgement.
    pub acknowledgement_delay_ms: u64,
    /// How long a virtual link may take until what it carries is acknowledged, beside what the bytes take.
    pub link_timeout_ms: u64,
    /// As how fast a virtual link has to be, in bytes a second.
    pub link_floor_bytes_per_s: u64,
    /// How long an update may wait before it is shown to all sites.
    pub relay_timeout_ms: u64,
    /// How often what may have been lost is asked for or sent again.
    pub tick_ms: u64,
    /// How many bytes may be under way to a site.
    pub window_bytes: u64,
    /// How many bytes a second each server of a site gives of its site's state, to all servers of other sites together.
    pub supply_bytes_per_s: u64,
}

impl Default for RawSystemSettings {
    fn default() -> Self {
        Self {
            dissemination: DisseminationKind::Origin,
            bundles: 4,
            max_bundle_bytes: 64 * 1024,
            bundle_window_bytes: 256 * 1024,
            max_update_bytes: 128 * 1024,
            max_reply_bytes: 128 * 1024,
            max_message_bytes: 768 * 1024,
            max_unacknowledged_bytes: 4 << 20,
            acknowledgement_delay_ms: 50,
            link_timeout_ms: 2000,
            link_floor_bytes_per_s: 20_000,
            relay_timeout_ms: 3000,
            tick_ms: 100,
            window_bytes: 256 * 1024,
            supply_bytes_per_s: 500_000,
        }
    }
}

impl RawSystemSettings {
    /// Whether all that is said fits into what has to carry it. What did not would be dropped, again and again.
    pub(super) fn check(&self, (batch_requests, batch_bytes): (usize, usize)) -> Result<(), Rule> {
        let group = Limits::default();
        let group = group.settings();
        let batch = batch_bytes
            .max(self.max_update_bytes)
            .saturating_add(batch_requests.saturating_mul(REQUEST_OVERHEAD))
            .saturating_add(MESSAGE_OVERHEAD);
        let bundle = self.max_bundle_bytes.max(self.max_update_bytes).saturating_add(MESSAGE_OVERHEAD);
        let message = self.max_message_bytes.saturating_add(MESSAGE_OVERHEAD);
        let table = [
            ("a batch (max_batch_bytes, with max_batch_requests)", batch, self.max_message_bytes),
            ("a bundle (max_bundle_bytes, or one of max_update_bytes)", bundle, self.max_message_bytes),
            ("a message (max_message_bytes)", message, group.max_operation_bytes),
            ("a result (max_reply_bytes)", self.max_reply_bytes.saturating_add(64), group.max_reply_bytes),
        ];
        for (what, bytes, most) in table {
            if bytes > most {
                return Err(Rule::TooLongForSite { what, bytes, most });
            }
        }
        let zero = [
            ("bundles", self.bundles == 0),
            ("bundle_window_bytes", self.bundle_window_bytes == 0),
            ("max_update_bytes", self.max_update_bytes == 0),
            ("relay_timeout_ms", self.relay_timeout_ms == 0),
            ("tick_ms", self.tick_ms == 0),
            ("window_bytes", self.window_bytes == 0),
            ("supply_bytes_per_s", self.supply_bytes_per_s == 0),
            ("max_unacknowledged_bytes", self.max_unacknowledged_bytes == 0),
        ];
        match zero.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(Rule::Zero(name)),
            None => Ok(()),
        }
    }
}
