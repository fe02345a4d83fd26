use althing_crypto::Identity;
use althing_replica::ReplyOutcome;
use althing_types::{ClientId, GroupId, RequestNumber, decode, encode};
use althing_wide::{Answer, SiteOperation, Update};

use super::InvokeError;
use crate::config::SystemConfig;

/// Makes updates of a system of sites of what a client of one of them asks, and reads what they come to.
pub(super) struct Updates {
    system: GroupId,
    client: ClientId,
    identity: Identity,
    max_update_bytes: usize,
    last: RequestNumber,
}

impl Updates {
    /// The updates of a client, with numbers above this one.
    pub(super) fn new(
        system: &SystemConfig,
        client: ClientId,
        identity: &Identity,
        above: RequestNumber,
    ) -> Self {
        Self {
            system: system.id(),
            client,
            identity: identity.clone(),
            max_update_bytes: system.settings().max_update_bytes,
            last: above,
        }
    }

    /// The operation of the site's group that has all sites order this one.
    ///
    /// # Errors
    /// [`InvokeError::UpdateTooLong`].
    pub(super) fn wrap(&mut self, operation: Vec<u8>) -> Result<Vec<u8>, InvokeError> {
        let (bytes, most) = (operation.len(), self.max_update_bytes);
        if bytes > most {
            return Err(InvokeError::UpdateTooLong { bytes, most });
        }
        self.last.0 += 1;
        let update = Update::new((self.system, self.client, &self.identity), self.last, operation);
        Ok(encode(&SiteOperation::Update(update)))
    }

    /// The result, from what the site's group has answered.
    ///
    /// # Errors
    /// As [`InvokeError`] says.
    pub(super) fn unwrap(&mut self, answer: &[u8]) -> Result<Vec<u8>, InvokeError> {
        match decode(answer, answer.len()).map_err(InvokeError::SiteAnswer)? {
            Answer::Executed(ReplyOutcome::Result(result)) => Ok(result),
            Answer::Executed(ReplyOutcome::TooLong { bytes }) => Err(InvokeError::ResultTooLong { bytes }),
            Answer::Superseded { last } => {
                // It was another program, or the clock was set back: the next one goes on above that.
                self.last = self.last.max(last);
                Err(InvokeError::Superseded)
            }
            Answer::Refused => Err(InvokeError::RefusedBySite),
        }
    }
}
