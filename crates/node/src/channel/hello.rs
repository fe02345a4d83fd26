use althing_types::{GroupId, Principal};

use super::error::ChannelError;

const MAGIC: [u8; 8] = *b"ALTHING\n";
/// The version of what this program says over channels: of the channel protocol, and of all messages of replicas,
/// clients and sites. It is raised with every change of how any of them is encoded (`formats_tests`).
pub(super) const VERSION: u16 = 7;

/// Length of an encoded [`Hello`] in bytes.
pub const HELLO_LEN: usize = 28;

/// As what a dialler comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A replica of the same group.
    Replica,
    /// A client of the group.
    Client,
}

impl From<Principal> for Role {
    fn from(principal: Principal) -> Self {
        match principal {
            Principal::Replica(_) => Self::Replica,
            Principal::Client(_) => Self::Client,
        }
    }
}

/// What a dialler sends first, in clear: it lets a wrong address or group be refused by name. It
/// is the prologue of the handshake, which fails if anything of it is altered.
///
/// ```text
/// magic "ALTHING\n" | version u16 | role u8 | 0 u8 | group 16
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The dialler's role.
    pub role: Role,
    /// The group dialled.
    pub group: GroupId,
}

impl Hello {
    /// The bytes sent.
    #[must_use]
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let mut bytes = [0; HELLO_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = match self.role {
            Role::Replica => 0,
            Role::Client => 1,
        };
        bytes[12..].copy_from_slice(&self.group.0);
        bytes
    }

    /// Reads a hello.
    ///
    /// # Errors
    /// When the bytes are no hello, or of another version of the protocol.
    pub fn decode(bytes: &[u8; HELLO_LEN]) -> Result<Self, ChannelError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(ChannelError::NotAlthing);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(ChannelError::Version { found: version });
        }
        let role = match (bytes[10], bytes[11]) {
            (0, 0) => Role::Replica,
            (1, 0) => Role::Client,
            (found, _) => return Err(ChannelError::Role { found }),
        };
        let mut group = GroupId::default();
        group.0.copy_from_slice(&bytes[12..]);
        Ok(Self { role, group })
    }
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod formats;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_said_is_heard() {
        for role in [Role::Replica, Role::Client] {
            let hello = Hello { role, group: GroupId([7; 16]) };
            assert_eq!(Hello::decode(&hello.encode()).unwrap(), hello);
        }
    }

    #[test]
    fn other_protocols_versions_and_roles_are_named() {
        let hello = Hello { role: Role::Client, group: GroupId::default() }.encode();
        let error = Hello::decode(b"GET / HTTP/1.1\r\nHost: althin").unwrap_err();
        assert!(matches!(error, ChannelError::NotAlthing));
        let mut newer = hello;
        newer[8] = 9;
        assert!(matches!(Hello::decode(&newer), Err(ChannelError::Version { found: 9 })));
        let mut odd = hello;
        odd[10] = 2;
        assert!(matches!(Hello::decode(&odd), Err(ChannelError::Role { found: 2 })));
    }

    proptest! {
        #[test]
        fn decoding_is_canonical(bytes in any::<[u8; HELLO_LEN]>()) {
            let mut bytes = bytes;
            bytes[..8].copy_from_slice(&MAGIC);
            let (role, zero) = (bytes[10] % 3, bytes[11] % 2);
            bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
            bytes[10..12].copy_from_slice(&[role, zero]);
            if let Ok(hello) = Hello::decode(&bytes) {
                prop_assert_eq!(hello.encode(), bytes);
            }
        }
    }
}
