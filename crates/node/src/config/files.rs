use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use althing_crypto::{Identity, KeyError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::error::{ConfigError, Rule};

/// The longest file of a deployment in bytes: the largest group has some ten thousand clients.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Mode bits that let others than the owner in.
const OTHERS: u32 = 0o077;

/// Reads a JSON file of bounded length.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = read_bounded(path)?;
    serde_json::from_slice(&text).map_err(|source| ConfigError::Form { path: path.to_owned(), source })
}

/// Writes a JSON file, in whole or not at all.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Write { path: path.to_owned(), source };
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| failed(e.into()))?;
    text.push(b'\n');
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory_of(path)
    };
    write().map_err(failed)
}

/// Makes the entry of a file in its directory durable: without the files around it, a log that survives
/// the power failing is of no use.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Creates a directory that only its owner can enter, with those above it.
pub(crate) fn create_directory(path: &Path) -> Result<(), ConfigError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| sync_directory_of(path))
        .map_err(|source| ConfigError::Write { path: path.to_owned(), source })
}

/// A new identity from the system's randomness.
pub(crate) fn generate_identity() -> Result<Identity, ConfigError> {
    let mut secret = Zeroizing::new([0; 64]);
    getrandom::fill(&mut secret[..]).map_err(ConfigError::Random)?;
    Ok(Identity::from_secret_bytes(&secret))
}

/// Writes a secret key to a new file that only its owner can read.
pub(crate) fn write_secret(path: &Path, identity: &Identity) -> Result<(), ConfigError> {
    write_new(path, 0o600, identity.to_secret_text().as_bytes())
}

/// Writes a new file of this mode, in whole or not at all: what is there already is never overwritten.
pub(super) fn write_new(path: &Path, mode: u32, text: &[u8]) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    let mut write = || -> io::Result<()> {
        file.write_all(text)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        sync_directory_of(path)
    };
    write().map_err(|source| {
        drop(fs::remove_file(path));
        failed(source)
    })
}

/// Reads a secret key, from a file that nobody else can read.
pub(super) fn read_secret<T>(config: &Path, path: &Path) -> Result<T, ConfigError>
where
    T: FromStr<Err = KeyError>,
{
    let rule = ConfigError::rule(config);
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(read_error)?.mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(rule(Rule::OpenSecret { path: path.to_owned(), mode }));
    }
    let text = Zeroizing::new(read_bounded(path)?);
    let text =
        std::str::from_utf8(&text).map_err(|e| read_error(io::Error::new(io::ErrorKind::InvalidData, e)))?;
    text.parse().map_err(|source| rule(Rule::SecretKey { path: path.to_owned(), source }))
}

/// `path` as it is meant in the file `config`: relative to the directory of that file.
pub(super) fn relative_to(config: &Path, path: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(path)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut content = Vec::new();
    let file = File::open(path).map_err(read_error)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(read_error)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned(), limit: MAX_FILE_BYTES });
    }
    Ok(content)
}
