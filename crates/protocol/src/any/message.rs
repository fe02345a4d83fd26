use crate::paxos::PaxosMessage;
use crate::pbft::PbftMessage;
use crate::speculation::SPECULATION_TAG;
use crate::zyzzyva::ZyzzyvaMessage;
use crate::{Message, Request, SignedPart};
use alloc::vec::Vec;
use borsh::de::EnumExt;
use borsh::io::{Read, Result, Write};
use borsh::{BorshDeserialize, BorshSerialize};

/// A message of any protocol. It is encoded as it is by its own: signatures are over that. The first byte of an
/// encoding tells them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyMessage {
    /// From 0 on.
    Pbft(PbftMessage),
    /// From 64 on.
    Paxos(PaxosMessage),
    /// From 128 on.
    Zyzzyva(ZyzzyvaMessage),
}

/// The first byte of the messages of Paxos, at least.
const PAXOS: u8 = 64;

impl BorshSerialize for AnyMessage {
    fn serialize<W: Write>(&self, writer: &mut W) -> Result<()> {
        match self {
            Self::Pbft(message) => message.serialize(writer),
            Self::Paxos(message) => message.serialize(writer),
            Self::Zyzzyva(message) => message.serialize(writer),
        }
    }
}

impl BorshDeserialize for AnyMessage {
    fn deserialize_reader<R: Read>(reader: &mut R) -> Result<Self> {
        match u8::deserialize_reader(reader)? {
            tag @ ..PAXOS => PbftMessage::deserialize_variant(reader, tag).map(Self::Pbft),
            tag @ PAXOS..SPECULATION_TAG => PaxosMessage::deserialize_variant(reader, tag).map(Self::Paxos),
            tag => ZyzzyvaMessage::deserialize_variant(reader, tag).map(Self::Zyzzyva),
        }
    }
}

impl Message for AnyMessage {
    fn signed_parts(&self) -> Vec<SignedPart> {
        match self {
            Self::Pbft(message) => message.signed_parts(),
            Self::Paxos(message) => message.signed_parts(),
            Self::Zyzzyva(message) => message.signed_parts(),
        }
    }

    fn requests_mut(&mut self) -> &mut [Request] {
        match self {
            Self::Pbft(message) => message.requests_mut(),
            Self::Paxos(message) => message.requests_mut(),
            Self::Zyzzyva(message) => message.requests_mut(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Pbft(message) => message.kind(),
            Self::Paxos(message) => message.kind(),
            Self::Zyzzyva(message) => message.kind(),
        }
    }

    fn contradiction(&self) -> Option<Self> {
        match self {
            Self::Pbft(message) => message.contradiction().map(Self::Pbft),
            Self::Paxos(message) => message.contradiction().map(Self::Paxos),
            Self::Zyzzyva(message) => message.contradiction().map(Self::Zyzzyva),
        }
    }
}

impl From<PbftMessage> for AnyMessage {
    fn from(message: PbftMessage) -> Self {
        Self::Pbft(message)
    }
}

impl From<PaxosMessage> for AnyMessage {
    fn from(message: PaxosMessage) -> Self {
        Self::Paxos(message)
    }
}

impl From<ZyzzyvaMessage> for AnyMessage {
    fn from(message: ZyzzyvaMessage) -> Self {
        Self::Zyzzyva(message)
    }
}

/// Gives back what is of another protocol.
impl TryFrom<AnyMessage> for PbftMessage {
    type Error = AnyMessage;

    fn try_from(message: AnyMessage) -> core::result::Result<Self, AnyMessage> {
        match message {
            AnyMessage::Pbft(message) => Ok(message),
            other => Err(other),
        }
    }
}

/// Gives back what is of another protocol.
impl TryFrom<AnyMessage> for PaxosMessage {
    type Error = AnyMessage;

    fn try_from(message: AnyMessage) -> core::result::Result<Self, AnyMessage> {
        match message {
            AnyMessage::Paxos(message) => Ok(message),
            other => Err(other),
        }
    }
}

/// Gives back what is of another protocol.
impl TryFrom<AnyMessage> for ZyzzyvaMessage {
    type Error = AnyMessage;

    fn try_from(message: AnyMessage) -> core::result::Result<Self, AnyMessage> {
        match message {
            AnyMessage::Zyzzyva(message) => Ok(message),
            other => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{paxos, pbft, zyzzyva};
    use althing_types::{Digest, Seq, View, decode, encode};

    #[test]
    fn a_message_is_encoded_as_by_its_own_protocol() {
        let (seq, state) = (Seq(5), Digest([3; 32]));
        let of_pbft = PbftMessage::Checkpoint(pbft::Checkpoint { seq, state });
        let of_paxos = PaxosMessage::Checkpoint(paxos::Checkpoint { seq, state });
        let of_zyzzyva = ZyzzyvaMessage::Checkpoint(zyzzyva::Checkpoint { seq, state });
        let any = [
            AnyMessage::from(of_pbft.clone()),
            AnyMessage::from(of_paxos.clone()),
            AnyMessage::from(of_zyzzyva.clone()),
        ];
        let own = [encode(&of_pbft), encode(&of_paxos), encode(&of_zyzzyva)];
        assert_eq!(any.clone().map(|message| encode(&message)), own);
        let is_said_twice = own[0] == own[1] || own[1] == own[2] || own[0] == own[2];
        assert!(!is_said_twice, "what is signed in one protocol is not said in another");
        for (message, bytes) in any.into_iter().zip(own) {
            assert_eq!(decode(&bytes, 1 << 10), Ok(message));
        }
    }

    #[test]
    fn the_first_byte_tells_the_protocol() {
        let last = encode(&PaxosMessage::FillTo { target: Seq(1) })[0];
        assert_eq!(encode(&PaxosMessage::Decided { seq: Seq(1), digest: Digest([4; 32]) })[0], PAXOS + 10);
        assert!(last < 128, "{last}");
        assert!(encode(&PbftMessage::Caught { clients: Vec::new() })[0] < PAXOS);
        let vote = paxos::Vote { seq: Seq(1), view: View(2), digest: Digest([4; 32]) };
        let mut bytes = encode(&PaxosMessage::Accepted(vote));
        assert!(decode::<AnyMessage>(&bytes, 1 << 10).is_ok());
        for unknown in [40, PAXOS - 1, last + 1, 127, 255] {
            bytes[0] = unknown;
            assert!(decode::<AnyMessage>(&bytes, 1 << 10).is_err(), "{unknown}");
        }
    }
}
