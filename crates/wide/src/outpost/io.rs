use crate::machine::{Timer, Treachery};
use crate::message::Header;
use crate::parcel::Parcel;
use alloc::sync::Arc;
use alloc::vec::Vec;
use althing_crypto::site::SignatureShare;
use althing_replica::{Parts, Want};
use althing_types::{Digest, ReplicaId, Seq, SiteId, decode, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use core::time::Duration;

/// Names a timer of an outpost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutpostTimer {
    /// Runs always.
    Tick,
    /// One of the logical machine's.
    Machine(Timer),
    /// What was sent to this site has to be acknowledged.
    Watch(SiteId),
    /// What was sent has to be checked.
    Check,
}

/// As which client an outpost submits something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What happens in the site itself.
    Control,
    /// What comes from a site: each has a lane of its own, so that none keeps another from being ordered.
    From(SiteId),
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum OutpostInput {
    /// The outpost starts. Always the first.
    Start,
    /// The logical machine may have executed something.
    Observe,
    /// Bytes came from another server of the site, as the channel has shown.
    FromServer {
        /// Which.
        from: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes came from a server of another site, as the channel has shown.
    FromSite {
        /// Which site.
        site: SiteId,
        /// Which of its servers.
        server: ReplicaId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A timer expired.
    Timer(OutpostTimer),
    /// What was submitted last on this lane was executed.
    Completed(Lane),
    /// Somebody takes the server over, or does no more. For fault injection.
    TakeOver(Option<Treachery>),
}

/// Something to be done.
#[derive(Debug, Clone)]
pub enum OutpostOutput {
    /// Send to another server of the site. It may get lost.
    ToServer {
        /// Which.
        to: ReplicaId,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// Send to a server of another site. It may get lost.
    ToSite {
        /// Which site.
        site: SiteId,
        /// Which of its servers.
        server: ReplicaId,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// Hand in [`OutpostInput::Timer`] after this time. A timer that is running starts afresh.
    SetTimer {
        /// Which.
        timer: OutpostTimer,
        /// From now.
        after: Duration,
    },
    /// Submit an operation to the site's own group, then hand in [`OutpostInput::Completed`]. There is no other on
    /// this lane before that.
    Submit {
        /// As which client.
        lane: Lane,
        /// What.
        operation: Vec<u8>,
    },
    /// A server of the site has sent a wrong share of a signature.
    WrongShare(ReplicaId),
}

/// What the outposts of two sites say to each other.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum SiteMessage {
    /// One site says something to the other.
    Link(Parcel),
    /// The sender's site lacks this of a checkpoint.
    Fetch { seq: Seq, state: Digest, want: Want },
    /// This is what was asked for.
    Fetched(Parts),
}

/// The headers of the messages between the sites that [`OutpostOutput::ToSite`] carries, in their order; none where it
/// carries something else: for whoever watches the wide-area network.
#[must_use]
pub fn link_headers(bytes: &[u8]) -> Vec<Header> {
    const LINK: u8 = 0;
    let parcel = bytes.split_first().filter(|(kind, _)| **kind == LINK);
    let parcel = parcel.and_then(|(_, parcel)| decode::<Parcel>(parcel, parcel.len()).ok());
    parcel.map_or_else(Vec::new, |parcel| parcel.headers().copied().collect())
}

/// What a server that lies says to another of its site in the place of what [`OutpostOutput::ToServer`] carries: a share
/// that is wrong, or something that is no message. For fault injection.
#[must_use]
pub fn contradiction(bytes: &[u8]) -> Vec<u8> {
    match decode(bytes, LocalMessage::MAX_BYTES) {
        Ok(LocalMessage::Share { batch, share }) => {
            encode(&LocalMessage::Share { batch, share: share.contradiction() })
        }
        _ => bytes.iter().map(|byte| !byte).collect(),
    }
}

/// What the outposts of a site say to each other.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) enum LocalMessage {
    /// The sender's share of the signature over what was said during a local batch.
    Share { batch: Seq, share: SignatureShare },
    /// The sender needs shares over these batches.
    Ask { batches: Vec<Seq> },
    /// The sender receives what comes from this site, and returns acknowledgements.
    Receiving { site: SiteId },
}

impl LocalMessage {
    /// The most batches that one asks for.
    pub(super) const MAX_BATCHES: usize = 64;
    /// The longest encoding, in bytes.
    pub(super) const MAX_BYTES: usize = 16 * Self::MAX_BATCHES + SignatureShare::MAX_BYTES;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Kind;
    use althing_crypto::site::{SiteBatch, SiteDeal};
    use althing_crypto::{Domain, KeySeed};
    use althing_types::GroupId;

    #[test]
    fn who_lies_to_its_own_site_sends_a_wrong_share_or_nonsense() {
        let deal = SiteDeal::plain(1, &KeySeed::from([7; 32]));
        let said = SiteBatch::new(GroupId([1; 16]), SiteId(1), &[(Domain::Link, &b"said"[..])]).statement();
        let (batch, share) = (Seq(3), deal.secrets[0].share(&said));
        let lie = contradiction(&encode(&LocalMessage::Share { batch, share }));
        let Ok(LocalMessage::Share { batch: Seq(3), share }) = decode(&lie, lie.len()) else {
            panic!("it is a share for the same batch: {lie:?}")
        };
        assert!(!deal.shares.verify_share(ReplicaId(0), &said, &share));
        let nonsense = contradiction(&encode(&LocalMessage::Receiving { site: SiteId(1) }));
        assert!(decode::<LocalMessage>(&nonsense, nonsense.len()).is_err());
    }

    #[test]
    fn the_headers_of_messages_are_found_in_their_bytes() {
        let header = |number| Header {
            from: SiteId(1),
            to: SiteId(2),
            number,
            base: 3,
            acknowledged: 9,
            kind: Kind::Bundle,
        };
        let deal = SiteDeal::plain(1, &KeySeed::from([7; 32]));
        let batch = SiteBatch::new(GroupId([1; 16]), SiteId(1), &[(Domain::Link, &b"said"[..]); 3]);
        let shares = [(ReplicaId(0), deal.secrets[0].share(&batch.statement()))].into();
        let signature = deal.shares.combine(&batch.statement(), &shares).signature.expect("one is enough");
        let messages = [7, 8].map(|number| (header(number), alloc::vec![5; 100]));
        let parcel = Parcel::new(batch.range_proof(1..3, signature), messages.into());
        assert_eq!(link_headers(&encode(&SiteMessage::Link(parcel))), [header(7), header(8)]);
        let fetched = SiteMessage::Fetch { seq: Seq(1), state: Digest::NULL, want: Want::Pages(Vec::new()) };
        assert_eq!(link_headers(&encode(&fetched)), []);
        assert_eq!(link_headers(&[]), []);
    }
}
