//! Key files, and who is talked to.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use eidetica_auth::SecretKey;
use eidetica_entry::PublicKey;
use eidetica_statesync_net::Identity;

use crate::limits;
use crate::options::{Key, PeerOptions};

/// The secret key in a file, which is made, readable by its owner alone, if there is none.
///
/// # Errors
/// The file cannot be read or made, others can read it, or there is something else in it.
pub fn secret(path: &Path) -> anyhow::Result<SecretKey> {
    let shown = path.display();
    match File::open(path) {
        Ok(file) => read(&file).with_context(|| format!("cannot use the key file {shown}")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(path).with_context(|| format!("cannot make the key file {shown}"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the key file {shown}")),
    }
}

fn read(file: &File) -> anyhow::Result<SecretKey> {
    check_private(file)?;
    let mut text = String::new();
    file.take(limits::KEY_FILE).read_to_string(&mut text)?;
    Ok(SecretKey::from_text(text.trim())?)
}

#[cfg(unix)]
fn check_private(file: &File) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(
            "others than its owner can read it (mode {:o}): chmod 600",
            mode & 0o777
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &File) -> anyhow::Result<()> {
    Ok(())
}

/// The file is there as a whole or not at all, and stays when the power fails once its key was shown.
fn make(path: &Path) -> anyhow::Result<SecretKey> {
    let secret = SecretKey::generate(&mut rand::rng());
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(new)?;
    writeln!(file, "{}", *secret.expose_text())?;
    file.sync_all()?;
    std::fs::rename(new, path)?;
    #[cfg(unix)]
    {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(secret)
}

/// Who this side is and whom it talks to, if it proves keys at all.
///
/// # Errors
/// Those of [`secret`]; nobody is allowed.
pub fn identity(options: &PeerOptions) -> anyhow::Result<Option<Identity>> {
    let Some(path) = &options.identity else {
        return Ok(None);
    };
    let secret = secret(path)?;
    let key = secret.public();
    tracing::info!(%key, "this side's identity");
    if options.allow.is_empty() {
        bail!(
            "nobody is allowed to connect: say whom to talk to with --allow KEY (the key of this side is {key})"
        );
    }
    let allowed: Vec<PublicKey> = options.allow.iter().map(|Key(key)| *key).collect();
    Ok(Some(Identity::new(secret, &allowed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        // What a crash has left of another attempt.
        let leftover = dir.path().join("key.new");
        std::fs::write(&leftover, "").unwrap();
        let made = secret(&path).unwrap().public();
        assert_eq!(secret(&path).unwrap().public(), made);
        assert!(!leftover.exists());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode =
                |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            mode(0o640).unwrap();
            let error = format!("{:#}", secret(&path).unwrap_err());
            assert!(error.contains("mode 640"), "{error}");
            mode(0o600).unwrap();
        }
        std::fs::write(&path, "something else").unwrap();
        let error = format!("{:#}", secret(&path).unwrap_err());
        assert!(error.contains("ed25519-secret:"), "{error}");
    }

    #[test]
    fn an_identity_needs_peers() {
        let dir = tempfile::tempdir().unwrap();
        let identity_file = Some(dir.path().join("key"));
        let alone = PeerOptions {
            identity: identity_file.clone(),
            allow: Vec::new(),
        };
        let error = identity(&alone).unwrap_err().to_string();
        assert!(
            error.contains("--allow") && error.contains("ed25519:"),
            "{error}"
        );
        let peer = Key(SecretKey::from_bytes(&[7; 32]).public());
        let both = PeerOptions {
            identity: identity_file,
            allow: vec![peer],
        };
        assert!(identity(&both).unwrap().is_some());
        assert!(identity(&PeerOptions::default()).unwrap().is_none());
    }
}
