use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use althing_crypto::site::{ShareKey, SharesError, SiteDeal, SitePublic, SiteSecret, SiteShares};
use althing_crypto::{KeyError, KeySeed};
use althing_types::{Quorums, QuorumsError, ReplicaId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{ConfigError, Rule};
use super::files::{create_directory, read_json, read_secret, write_new};

/// A site's public keys as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSiteKeys {
    /// The site's name.
    pub name: String,
    /// How many servers it has.
    pub servers: usize,
    /// How many of them may be Byzantine: one less than sign together. Left out where none lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f: Option<usize>,
    /// The key that other sites know it by, as text.
    pub public_key: String,
    /// What the shares of each server are checked with, by number, as text. None where none lies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub share_keys: Vec<String>,
}

impl RawSiteKeys {
    /// How the key is shared, if the keys belong together.
    ///
    /// # Errors
    /// The [`Rule`] that they break.
    pub fn shares(&self) -> Result<SiteShares, Rule> {
        check_name(&self.name)?;
        let public: SitePublic = parsed(&self.public_key, || format!("site {}", self.name))?;
        let Some(f) = self.f else {
            check_servers(self.servers)?;
            if public.is_threshold() {
                return Err(Rule::SiteWithoutF);
            }
            if !self.share_keys.is_empty() {
                return Err(SharesError::Kind.into());
            }
            return Ok(SiteShares::plain(public, self.servers)?);
        };
        let quorums = Quorums::byzantine(self.servers, f)?;
        let keys = self.share_keys.iter().enumerate();
        let keys = keys.map(|(server, key)| parsed::<ShareKey>(key, || format!("server {server}")));
        Ok(SiteShares::new(public, quorums, keys.collect::<Result<_, _>>()?)?)
    }
}

/// A site's public keys, which belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteKeysFile {
    path: PathBuf,
    name: String,
    shares: SiteShares,
}

impl SiteKeysFile {
    /// Reads and checks a file with a site's public keys.
    ///
    /// # Errors
    /// [`ConfigError`]: the file can't be read, or its keys don't belong together.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let raw: RawSiteKeys = read_json(path)?;
        let shares = raw.shares().map_err(ConfigError::rule(path))?;
        Ok(Self { path: path.to_owned(), name: raw.name, shares })
    }

    /// The site's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its key is shared.
    #[must_use]
    pub fn shares(&self) -> &SiteShares {
        &self.shares
    }

    /// Reads the secret of `server`, from a file that nobody else can read.
    ///
    /// # Errors
    /// [`ConfigError`]: the file can't be read, or what is in it is not that server's secret.
    pub fn load_secret(&self, server: ReplicaId, path: &Path) -> Result<SiteSecret, ConfigError> {
        let secret: SiteSecret = read_secret(&self.path, path)?;
        if !self.shares.is_share_of(server, &secret) {
            let (site, path) = (self.name.clone(), path.to_owned());
            return Err(ConfigError::rule(&self.path)(Rule::WrongSiteSecret { path, server, site }));
        }
        Ok(secret)
    }
}

fn parsed<T: FromStr<Err = KeyError>>(text: &str, who: impl Fn() -> String) -> Result<T, Rule> {
    text.parse().map_err(|source| Rule::PublicKey { who: who(), source })
}

/// Names become file names.
fn check_name(name: &str) -> Result<(), Rule> {
    let is_apt = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_apt) {
        return Err(Rule::Name(name.to_owned()));
    }
    Ok(())
}

fn check_servers(servers: usize) -> Result<(), Rule> {
    match servers {
        0 => Err(Rule::Zero("servers")),
        1..=Quorums::MAX_REPLICAS => Ok(()),
        n => Err(QuorumsError::TooManyReplicas { n }.into()),
    }
}

/// Where the keys of a site were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DealtSite {
    /// The key that other sites know it by.
    pub public: SitePublic,
    /// The file with its public keys ([`SiteKeysFile`]).
    pub public_file: PathBuf,
    /// The file with each server's secret, by number.
    pub secret_files: Vec<PathBuf>,
}

/// Deals the keys of a site, and writes them into `directory`: `NAME.site.json` with what all may know, and
/// `NAME-I.site.key` with what server I alone may. With `f` a threshold key, without it a plain one.
///
/// # Errors
/// [`ConfigError`]: the site is impossible, or a file can't be written; one that is there is left alone. None
/// of this site's files are left behind then.
pub fn deal_site(
    directory: &Path,
    name: &str,
    servers: usize,
    f: Option<usize>,
) -> Result<DealtSite, ConfigError> {
    let public_file = directory.join(format!("{name}.site.json"));
    check_name(name).map_err(ConfigError::rule(&public_file))?;
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).map_err(ConfigError::Random)?;
    let deal = deal(servers, f, &KeySeed::from(*seed)).map_err(ConfigError::rule(&public_file))?;
    create_directory(directory)?;
    let public = *deal.shares.public();
    let share_keys = deal.shares.keys().map(|key| key.to_string()).collect();
    let raw = RawSiteKeys { name: name.to_owned(), servers, f, public_key: public.to_string(), share_keys };
    let mut written = Vec::new();
    if let Err(error) = write_all(directory, &raw, &deal.secrets, &mut written) {
        // Half a site is of no use, and its files would be in the way of the next try.
        written.iter().for_each(|path| drop(fs::remove_file(path)));
        return Err(error);
    }
    written.pop();
    Ok(DealtSite { public, public_file, secret_files: written })
}

fn deal(servers: usize, f: Option<usize>, seed: &KeySeed) -> Result<SiteDeal, Rule> {
    let Some(f) = f else {
        check_servers(servers)?;
        return Ok(SiteDeal::plain(servers, seed));
    };
    Ok(SiteDeal::threshold(Quorums::byzantine(servers, f)?, seed))
}

/// Writes the secrets, then the rest, and notes what is written.
fn write_all(
    directory: &Path,
    raw: &RawSiteKeys,
    secrets: &[SiteSecret],
    written: &mut Vec<PathBuf>,
) -> Result<(), ConfigError> {
    for (server, secret) in secrets.iter().enumerate() {
        let path = directory.join(format!("{}-{server}.site.key", raw.name));
        write_new(&path, 0o600, secret.to_secret_text().as_bytes())?;
        written.push(path);
    }
    let path = directory.join(format!("{}.site.json", raw.name));
    let failed = |source: serde_json::Error| ConfigError::Write { path: path.clone(), source: source.into() };
    let text = serde_json::to_vec_pretty(raw).map_err(failed)?;
    write_new(&path, 0o644, &text)?;
    written.push(path);
    Ok(())
}
