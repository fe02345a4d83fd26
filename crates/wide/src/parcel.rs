//! What carries messages from site to site.

use crate::message::{Header, Kind, LinkMessage, body_digest};
use alloc::vec::Vec;
use althing_crypto::Domain;
use althing_crypto::site::{SiteKeys, SiteRangeProof};
use althing_types::{GroupId, SiteId};
use borsh::{BorshDeserialize, BorshSerialize, io};

/// Messages of one batch from one site to another that follow each other, with one proof for all of them.
///
/// They have one signature and one part of a Merkle tree, and their headers are not repeated where they agree. Whoever
/// opens it has messages that stand for themselves, each with its own proof. As it is encoded it can't mix sites or leave
/// out a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    proof: SiteRangeProof,
    messages: Vec<(Header, Vec<u8>)>,
}

/// What may change from one header to the next: what the sender has forgotten, and what it has received.
type Standing = (u64, u64);

impl Parcel {
    /// The most messages of a parcel.
    pub const MAX_MESSAGES: usize = 512;

    /// What a parcel takes beside its messages, in bytes at most: sites, first number and proof.
    pub(crate) const OVERHEAD_BYTES: usize = 12 + SiteRangeProof::MAX_BYTES;

    /// What a message in it takes beside its body, in bytes at most.
    pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 1 + 16 + 1 + 4;

    /// By how much a parcel of one message is longer than the message by itself, in bytes.
    pub(crate) const EXCESS_BYTES: usize = 5;

    /// A parcel of these messages, headers and bodies, of which `proof` shows that they were said.
    ///
    /// # Panics
    /// If they are not as many as the proof covers or more than [`Self::MAX_MESSAGES`], or do not follow each other from
    /// one site to another.
    #[must_use]
    pub fn new(proof: SiteRangeProof, messages: Vec<(Header, Vec<u8>)>) -> Self {
        assert!(messages.len() == proof.range.count(), "as many messages as the proof covers");
        assert!(messages.len() <= Self::MAX_MESSAGES, "{} messages", messages.len());
        let is_next = |pair: &[(Header, Vec<u8>)]| {
            let (one, next) = (&pair[0].0, &pair[1].0);
            let ends = |header: &Header| (header.from, header.to);
            one.number > 0 && one.number.checked_add(1) == Some(next.number) && ends(one) == ends(next)
        };
        assert!(messages.windows(2).all(is_next), "messages of a link that follow each other");
        Self { proof, messages }
    }

    /// Who says all this, and to whom.
    #[must_use]
    pub fn ends(&self) -> (SiteId, SiteId) {
        (self.first().from, self.first().to)
    }

    /// The headers of its messages, in their order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = &Header> {
        self.messages.iter().map(|(header, _)| header)
    }

    /// Its messages, if the site that it names has said all of them; else none is worth anything.
    #[must_use]
    pub fn open(self, keys: &SiteKeys) -> Option<impl ExactSizeIterator<Item = LinkMessage> + use<>> {
        let messages = self.presume(keys.system())?;
        // They share the signature.
        messages[0].is_genuine(keys).then(|| messages.into_iter())
    }

    /// The same before that is checked: one of them is enough to find out. `None` where that could not be.
    #[must_use]
    pub(crate) fn presume(self, system: GroupId) -> Option<Vec<LinkMessage>> {
        let statements = self.messages.iter().map(|(header, body)| header.statement(body_digest(body)));
        let statements: Vec<Vec<u8>> = statements.collect();
        let said: Vec<_> = statements.iter().map(|statement| (Domain::Link, &statement[..])).collect();
        let tree = self.proof.tree(system, &said)?;
        let presumed = self.proof.proofs(tree).zip(self.messages);
        Some(presumed.map(|(proof, (header, body))| LinkMessage { header, proof, body }).collect())
    }

    fn first(&self) -> &Header {
        &self.messages[0].0
    }
}

/// One that goes by itself.
impl From<LinkMessage> for Parcel {
    fn from(message: LinkMessage) -> Self {
        Self { proof: message.proof.into(), messages: [(message.header, message.body)].into() }
    }
}

impl BorshSerialize for Parcel {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        let first = self.first();
        (first.from, first.to, first.number).serialize(writer)?;
        self.proof.serialize(writer)?;
        let mut known = None;
        for (header, body) in &self.messages {
            let standing: Standing = (header.base, header.acknowledged);
            let news = Some(standing).filter(|standing| known.replace(*standing) != Some(*standing));
            (news, header.kind).serialize(writer)?;
            body.serialize(writer)?;
        }
        Ok(())
    }
}

impl BorshDeserialize for Parcel {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let refused = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let (from, to, first) = <(SiteId, SiteId, u64)>::deserialize_reader(reader)?;
        let proof = SiteRangeProof::deserialize_reader(reader)?;
        let count = proof.range.count();
        if count > Self::MAX_MESSAGES {
            return Err(refused("too many messages in a parcel"));
        }
        if first == 0 && count > 1 {
            return Err(refused("messages without numbers follow nothing"));
        }
        let mut known: Option<Standing> = None;
        let mut messages = Vec::with_capacity(count);
        for index in 0..count as u64 {
            let number = first.checked_add(index).ok_or_else(|| refused("beyond all numbers"))?;
            let (news, kind) = <(Option<Standing>, Kind)>::deserialize_reader(reader)?;
            let standing = news.or(known).filter(|_| news != known);
            let (base, acknowledged) = standing.ok_or_else(|| refused("a header is left out or repeated"))?;
            known = standing;
            let header = Header { from, to, number, base, acknowledged, kind };
            messages.push((header, Vec::deserialize_reader(reader)?));
        }
        Ok(Self { proof, messages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_crypto::KeySeed;
    use althing_crypto::site::{SiteBatch, SiteDeal, SiteProof, SiteSignature};
    use althing_types::{DecodeError, ReplicaId, decode, encode};
    use proptest::prelude::*;

    const SYSTEM: GroupId = GroupId([1; 16]);
    const FROM: SiteId = SiteId(0);
    const TO: SiteId = SiteId(1);
    /// Where among what the site says at once the messages begin.
    const START: usize = 3;

    fn header(number: u64, (base, acknowledged): Standing) -> Header {
        Header { from: FROM, to: TO, number, base, acknowledged, kind: Kind::Protocol }
    }

    fn deal() -> SiteDeal {
        SiteDeal::plain(1, &KeySeed::from([7; 32]))
    }

    fn keys() -> SiteKeys {
        SiteKeys::new(SYSTEM, [*deal().shares.public(), *deal().shares.public()].into())
    }

    /// The batch with these messages among others, and its signature.
    fn signed(messages: &[(Header, Vec<u8>)]) -> (SiteBatch, SiteSignature) {
        let statements = messages.iter().map(|(header, body)| header.statement(body_digest(body)));
        let others = || core::iter::repeat_n(b"to others".to_vec(), START);
        let said: Vec<Vec<u8>> = others().chain(statements).chain(others()).collect();
        let said: Vec<_> = said.iter().map(|said| (Domain::Link, &said[..])).collect();
        let (batch, deal) = (SiteBatch::new(SYSTEM, FROM, &said), deal());
        let shares = [(ReplicaId(0), deal.secrets[0].share(&batch.statement()))].into();
        let combined = deal.shares.combine(&batch.statement(), &shares);
        (batch, combined.signature.expect("one server is enough"))
    }

    fn parcel(messages: Vec<(Header, Vec<u8>)>) -> Parcel {
        let (batch, signature) = signed(&messages);
        Parcel::new(batch.range_proof(START..START + messages.len(), signature), messages)
    }

    /// Three messages; between the first two something was acknowledged.
    fn three() -> Vec<(Header, Vec<u8>)> {
        let standings = [(2, 5), (2, 6), (2, 6)];
        let said = (7..).zip(standings).map(|(number, standing)| (header(number, standing), vec_of(number)));
        said.collect()
    }

    fn vec_of(number: u64) -> Vec<u8> {
        alloc::vec![number.to_le_bytes()[0]; 10]
    }

    fn decoded(bytes: &[u8]) -> Result<Parcel, DecodeError> {
        decode(bytes, 1 << 20)
    }

    #[test]
    fn what_comes_out_of_a_parcel_stands_for_itself() {
        let messages = three();
        let (batch, signature) = signed(&messages);
        let parcel = parcel(messages.clone());
        assert_eq!((parcel.ends(), parcel.headers().len()), ((FROM, TO), 3));
        let receiver = keys();
        let opened: Vec<LinkMessage> = parcel.open(&receiver).expect("it is signed").collect();
        assert_eq!(receiver.checked(), 1);
        for (index, (message, (header, body))) in opened.iter().zip(messages).enumerate() {
            let proof: SiteProof = batch.proof(START + index, signature);
            assert_eq!(message, &LinkMessage { header, proof, body });
            assert!(message.is_genuine(&keys()), "whoever has seen nothing else");
            let alone = Parcel::from(message.clone());
            assert!(alone.open(&keys()).expect("it is signed").eq([message.clone()]));
        }
    }

    #[test]
    fn together_messages_take_less_and_alone_hardly_more() {
        let (bytes, messages) = (encode(&parcel(three())), three());
        let alone: Vec<LinkMessage> = decoded(&bytes).unwrap().open(&keys()).unwrap().collect();
        let bytes_alone: usize = alone.iter().map(|message| encode(message).len()).sum();
        // Two signatures, the siblings of one at least, and what headers have in common.
        assert!(bytes.len() + 2 * 65 + 2 * 96 + 2 * 12 + 16 <= bytes_alone, "{}, {bytes_alone}", bytes.len());
        let most = Parcel::OVERHEAD_BYTES + 3 * (Parcel::MESSAGE_OVERHEAD_BYTES + messages[0].1.len());
        assert!(bytes.len() <= most);
        for message in alone {
            let bytes = encode(&message).len();
            assert_eq!(encode(&Parcel::from(message)).len(), bytes + Parcel::EXCESS_BYTES);
        }
    }

    #[test]
    fn what_was_not_said_like_this_is_worth_nothing() {
        let good = parcel(three());
        assert!(good.clone().open(&keys()).is_some());
        type Change = fn(&mut Parcel);
        let changes: [(&str, Change); 7] = [
            ("another body", |parcel| parcel.messages[1].1.push(0)),
            ("bodies exchanged", |parcel| parcel.messages.swap(0, 2)),
            ("another kind", |parcel| parcel.messages[2].0.kind = Kind::Statement),
            ("received more", |parcel| parcel.messages[0].0.acknowledged += 1),
            ("later numbers", |parcel| parcel.messages.iter_mut().for_each(|it| it.0.number += 1)),
            ("to another site", |parcel| parcel.messages.iter_mut().for_each(|it| it.0.to = SiteId(2))),
            ("of another site", |parcel| parcel.messages.iter_mut().for_each(|it| it.0.from = SiteId(1))),
        ];
        for (what, change) in changes {
            let mut parcel = good.clone();
            change(&mut parcel);
            assert!(parcel.open(&keys()).is_none(), "{what}");
        }
        let fewer = Parcel { messages: good.messages[..2].to_vec(), ..good };
        assert!(fewer.open(&keys()).is_none(), "one is left out");
    }

    #[test]
    fn a_parcel_that_nobody_would_make_is_refused() {
        let good = parcel(three());
        assert_eq!(decoded(&encode(&good)), Ok(good.clone()));
        let malformed = Err(DecodeError::Malformed);
        let numbered = |number: u64| {
            let mut bytes = encode(&good);
            bytes[4..12].copy_from_slice(&number.to_le_bytes());
            decoded(&bytes).map(|_| ())
        };
        assert_eq!(numbered(8), Ok(()));
        assert_eq!(numbered(u64::MAX - 2), Ok(()));
        assert_eq!(numbered(u64::MAX - 1), malformed, "beyond all numbers");
        assert_eq!(numbered(0), malformed, "what has no number goes alone");
        let head = encode(&(FROM, TO, 7u64, &good.proof));
        let item = |news: Option<Standing>| encode(&(news, Kind::Protocol, vec_of(7)));
        let made = |news: [Option<Standing>; 3]| {
            decoded(&[head.clone(), news.map(item).concat()].concat()).map(|_| ())
        };
        assert_eq!(made([Some((2, 5)), None, Some((2, 6))]), Ok(()));
        assert_eq!(made([None, None, Some((2, 6))]), malformed, "it does not begin");
        assert_eq!(made([Some((2, 5)), None, Some((2, 5))]), malformed, "what is known already");
        let short = [head, item(Some((2, 5)))].concat();
        assert_eq!(decoded(&short).map(|_| ()), malformed, "fewer than the proof covers");
        let many = |count: u64| (1..=count).map(|number| (header(number, (1, 0)), Vec::new())).collect();
        let most = Parcel::MAX_MESSAGES as u64;
        let bytes = encode(&parcel(many(most)));
        assert!(decoded(&bytes).is_ok_and(|it| it.open(&keys()).is_some()));
        let (batch, signature) = signed(&many(most + 1));
        let proof = batch.range_proof(START..START + 513, signature);
        assert_eq!(decoded(&encode(&Parcel { proof, messages: many(most + 1) })), malformed.map(|()| good));
    }

    proptest! {
        #[test]
        fn nothing_of_a_parcel_can_be_changed(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let good = parcel(three());
            let mut bytes = encode(&good);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(tampered) = decoded(&bytes) {
                prop_assert_eq!(encode(&tampered), bytes);
                prop_assert!(tampered.open(&keys()).is_none(), "byte {}", at);
            }
        }
    }
}
