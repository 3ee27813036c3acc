//! Where the ensemble is, where in it the cluster lives, and as whom this node comes: checked when it is read.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// ZooKeeper keeps this name for itself.
const RESERVED: &str = "zookeeper";
/// An identity is no longer than this.
const IDENTITY_BYTES_MAX: u64 = 4096;

/// `HOST:PORT[,HOST:PORT...][/CHROOT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperAddress {
    servers: Vec<String>,
    /// With a slash before it.
    chroot: Option<String>,
}

/// Why an address was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A server.
    #[error(
        "`{0}` is no HOST:PORT; expected HOST:PORT[,HOST:PORT...][/CHROOT], such as zk1:2181,zk2:2181,zk3:2181/splitbrain"
    )]
    Server(String),
    /// The chroot.
    #[error(
        "`{0}` is no chroot; expected names after slashes, such as /splitbrain or /stores/blue, and not /{RESERVED}"
    )]
    Chroot(String),
}

impl ZooKeeperAddress {
    /// The path below which the cluster lives, if it is not the root.
    #[must_use]
    pub fn chroot(&self) -> Option<&str> {
        self.chroot.as_deref()
    }
}

impl FromStr for ZooKeeperAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (servers, chroot) = match text.find('/') {
            Some(slash) => text.split_at(slash),
            None => (text, ""),
        };
        let servers = servers.split(',').map(|server| match is_server(server) {
            true => Ok(server.to_owned()),
            false => Err(AddressError::Server(server.to_owned())),
        });
        let servers = servers.collect::<Result<Vec<String>, AddressError>>()?;
        let chroot = match chroot {
            "" | "/" => None,
            path if is_chroot(path) => Some(path.to_owned()),
            path => return Err(AddressError::Chroot(path.to_owned())),
        };
        Ok(Self { servers, chroot })
    }
}

fn is_server(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_six = |c: char| c.is_ascii_hexdigit() || ":.%".contains(c);
        let host_is_good = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(six) => !six.is_empty() && six.chars().all(is_six),
            None => !host.is_empty() && host.chars().all(is_plain),
        };
        host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn is_chroot(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let names: Vec<&str> = path.split('/').skip(1).collect();
    let is_name = |name: &&str| !["", ".", ".."].contains(name) && name.chars().all(is_plain);
    names.iter().all(is_name) && names.first() != Some(&RESERVED)
}

impl fmt::Display for ZooKeeperAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.servers.join(","))?;
        f.write_str(self.chroot.as_deref().unwrap_or_default())
    }
}

/// As whom a node comes: a user and a password, from a file. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    secret: String,
}

/// Why an identity was refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read.
    #[error("cannot read the ZooKeeper identity from {file}: {source}")]
    Io {
        /// Which.
        file: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is not of the form.
    #[error("{file} holds no ZooKeeper identity; expected one line, USER:PASSWORD")]
    Form {
        /// Which.
        file: String,
    },
}

impl Identity {
    /// Reads `USER:PASSWORD` from the first line of a file.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, and tells nothing of what it holds.
    pub fn from_file(path: &Path) -> Result<Self, IdentityError> {
        let file = path.display().to_string();
        let text = std::fs::metadata(path).and_then(|metadata| {
            match metadata.len() > IDENTITY_BYTES_MAX {
                true => Ok(String::new()),
                false => std::fs::read_to_string(path),
            }
        });
        match text {
            Err(source) => Err(IdentityError::Io { file, source }),
            Ok(text) => Self::parse(&text).ok_or(IdentityError::Form { file }),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (user, password) = line.split_once(':')?;
        let is_good = !user.is_empty() && !password.is_empty() && !line.contains('\n');
        is_good.then(|| Self {
            secret: line.to_owned(),
        })
    }

    pub(super) fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_servers_and_perhaps_a_chroot() {
        for (text, chroot) in [
            ("127.0.0.1:2181", None),
            ("zk-1.lan:2181,zk_2:2182,[::1]:2183", None),
            ("a:1,b:2/splitbrain", Some("/splitbrain")),
            ("a:1/stores/blue", Some("/stores/blue")),
        ] {
            let address: ZooKeeperAddress = text.parse().unwrap();
            assert_eq!(address.chroot(), chroot);
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("a:1/".parse(), "a:1".parse::<ZooKeeperAddress>());
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for bad in [
            "",
            "zk",
            "zk:0",
            "zk:65536",
            ":2181",
            "a:1,",
            "a:1,,b:2",
            "a:1 ",
            "http://a:1",
            "[]:1",
        ] {
            let refused = bad.parse::<ZooKeeperAddress>().unwrap_err();
            assert!(
                matches!(refused, AddressError::Server(_)),
                "{bad}: {refused}"
            );
        }
        for bad in [
            "a:1//",
            "a:1/x/",
            "a:1/x//y",
            "a:1/..",
            "a:1/x y",
            "a:1/zookeeper/x",
            "a:1/x,b:2",
        ] {
            let refused = bad.parse::<ZooKeeperAddress>().unwrap_err();
            assert!(
                matches!(refused, AddressError::Chroot(_)),
                "{bad}: {refused}"
            );
        }
    }

    #[test]
    fn an_identity_is_one_line_and_is_never_printed() {
        let identity = Identity::parse("kv:se:cret\n").unwrap();
        assert_eq!(identity.secret(), b"kv:se:cret");
        assert!(!format!("{identity:?}").contains("cret"));
        for bad in ["", "kv", "kv:", ":secret", "kv:a\nkv:b"] {
            assert!(Identity::parse(bad).is_none(), "{bad}");
        }
    }
}
