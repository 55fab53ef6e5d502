//! A full disk: a real file system that is too small, and grows before the check.

use std::path::Path;
use std::process::{Command, Stdio};

use eidetica_testkit::EngineKind;

use crate::site::Site;

/// Mounts a small file system in a mount namespace of its own, fills it, enlarges it and checks what is there.
const SCRIPT: &str = r#"
    mkdir -p "$DIR" && mount -t tmpfs -o size=$SIZE,mode=700 tmpfs "$DIR" || exit 90
    "$PROGRAM" fill --site "$SITE" --journal "$JOURNAL" || code=$?
    [ "$code" = 3 ] || { echo "filling the disk ended by $code"; exit 91; }
    mount -o remount,size=1g "$DIR" || exit 92
    exec "$PROGRAM" check --site "$SITE" --journal "$JOURNAL"
"#;

/// Why a full disk cannot be had here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable(pub String);

/// Fills a disk of `mib` MiB. How many acknowledgements were kept.
///
/// # Errors
/// What did not hold.
pub fn fill(
    program: &Path,
    kind: EngineKind,
    mib: u32,
) -> anyhow::Result<Result<u64, Unavailable>> {
    let dir = tempfile::tempdir()?;
    let (mount, journal) = (dir.path().join("disk"), dir.path().join("journal"));
    let site = Site::dir(kind, &mount.join("data"));
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", SCRIPT])
        .env("DIR", &mount)
        .env("SIZE", format!("{mib}m"))
        .env("PROGRAM", program)
        .env("SITE", site.to_string())
        .env("JOURNAL", &journal)
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return Ok(Err(Unavailable(format!("no unshare: {error}")))),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(Ok(crate::promise::Promises::read(&journal)?.count())),
        Some(90..=92) if !said.contains("filling") => {
            Ok(Err(Unavailable(format!("cannot mount: {complained}"))))
        }
        None | Some(_) if complained.contains("unshare") => {
            Ok(Err(Unavailable(complained.into_owned())))
        }
        _ => anyhow::bail!("{}: {said}{complained}", output.status),
    }
}
