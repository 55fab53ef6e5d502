//! Checking the manifests of a closed fjall database before fjall reads them.
//!
//! fjall 3 takes a keyspace without the file `current` for one that was never finished, and throws it
//! away; a database without the file `version` it takes for none. It asserts what it reads from a
//! manifest and makes room for as many sections as a table says it has, before it looks at any checksum.
//! A panic in there ends the process, since fjall holds locks and panics again while it lets go of them.
//!
//! So what fjall recorded is compared first: that all files that must be there are, the checksum of each
//! manifest, which stands in `current`, and that of each table's list of sections. With these whole fjall
//! gets to nothing that it does not check itself. Data blocks are not read here: their checksums are
//! checked when they are.
//!
//! Both kinds of file end in a list of sections and 38 bytes: the tag `SFA!`, version, kind of checksum,
//! checksum of the list (16), its position (8), its length (8). All numbers are little endian.

use std::fs::{self, File};
use std::io::{self, Read as _, SeekFrom};
use std::path::Path;

use eidetica_storage::Space;
use xxhash_rust::xxh3::xxh3_128;

use crate::journal;

/// The kind of checksum that `current` names last.
const XXH3: u8 = 0;
const TRAILER_BYTES: u64 = 38;
/// The first bytes of each trailer: tag, version, kind of checksum.
const TRAILER_START: &[u8; 6] = b"SFA!\x01\x00";
/// The first bytes of each list of sections; the number of sections follows in four.
const SECTIONS_START: &[u8; 4] = b"TOC!";
/// A table has seven sections at most, a manifest eight; this is room for some hundreds.
const MAX_SECTIONS_BYTES: u64 = 16 << 10;
/// What a manifest says of a table: number, kind of checksum, checksum, sequence number.
const TABLE_BYTES: usize = 8 + 1 + 16 + 8;

/// Checks the directory of a database that has all its keyspaces, or is still to be created.
///
/// Costs reading all manifests and about 300 bytes of each table.
///
/// # Errors
/// `InvalidData`, `NotFound` and `UnexpectedEof` if something is damaged or missing.
pub(crate) fn check(dir: &Path) -> io::Result<()> {
    if !dir.try_exists()? {
        return Ok(());
    }
    fs::metadata(dir.join("version"))?;
    if journal::list(dir)?.is_empty() {
        return Err(damaged(dir, "has no journal"));
    }
    let keyspaces = dir.join("keyspaces");
    let mut count = 0;
    for keyspace in fs::read_dir(&keyspaces)? {
        let keyspace = keyspace?;
        if keyspace.file_type()?.is_file() {
            continue;
        }
        let name = keyspace.file_name();
        if name
            .to_str()
            .and_then(|name| name.parse::<u64>().ok())
            .is_none()
        {
            return Err(damaged(&keyspace.path(), "is not a keyspace"));
        }
        check_keyspace(&keyspace.path())?;
        count += 1;
    }
    // One for each space and that of the names.
    if count <= Space::ALL.len() {
        return Err(damaged(&keyspaces, "lacks a keyspace"));
    }
    Ok(())
}

fn check_keyspace(dir: &Path) -> io::Result<()> {
    let current = dir.join("current");
    let (id, sum) =
        parse_current(&fs::read(&current)?).ok_or_else(|| damaged(&current, "is damaged"))?;
    let manifest = dir.join(format!("v{id}"));
    let content = fs::read(&manifest)?;
    if xxh3_128(&content) != sum {
        return Err(damaged(&manifest, "is damaged"));
    }
    let tables = tables(&content).ok_or_else(|| damaged(&manifest, "is of an unknown kind"))?;
    for table in tables {
        let path = dir.join("tables").join(table.to_string());
        read_sections(&mut File::open(&path)?)?.ok_or_else(|| damaged(&path, "is damaged"))?;
    }
    Ok(())
}

/// The number of the manifest and its checksum.
fn parse_current(current: &[u8]) -> Option<(u64, u128)> {
    let (id, rest) = current.split_first_chunk()?;
    let (sum, kind) = rest.split_first_chunk()?;
    (kind == [XXH3]).then_some((u64::from_le_bytes(*id), u128::from_le_bytes(*sum)))
}

/// The numbers of the tables in a sound manifest: those of each run of each level.
fn tables(manifest: &[u8]) -> Option<Vec<u64>> {
    let sections = read_sections(&mut io::Cursor::new(manifest)).ok()??;
    let (at, len) = find(&sections, b"tables")?;
    let mut rest = manifest.get(at..at.checked_add(len)?)?;
    let mut tables = Vec::new();
    for _level in 0..take(&mut rest).map(u8::from_le_bytes)? {
        for _run in 0..take(&mut rest).map(u8::from_le_bytes)? {
            for _table in 0..take(&mut rest).map(u32::from_le_bytes)? {
                let table: [u8; TABLE_BYTES] = take(&mut rest)?;
                tables.push(u64::from_le_bytes(*table.first_chunk()?));
            }
        }
    }
    Some(tables)
}

/// Position and length of a section.
fn find(sections: &[u8], wanted: &[u8]) -> Option<(usize, usize)> {
    let mut rest = sections.strip_prefix(SECTIONS_START)?;
    for _section in 0..take(&mut rest).map(u32::from_le_bytes)? {
        let at = take(&mut rest).map(u64::from_le_bytes)?;
        let len = take(&mut rest).map(u64::from_le_bytes)?;
        let name_len = take(&mut rest).map(u16::from_le_bytes)?;
        let (name, next) = rest.split_at_checked(name_len.into())?;
        if name == wanted {
            return Some((at.try_into().ok()?, len.try_into().ok()?));
        }
        rest = next;
    }
    None
}

/// Reads the list of sections at the end of a file, `None` if it is not what its checksum says.
fn read_sections(file: &mut (impl io::Read + io::Seek)) -> io::Result<Option<Vec<u8>>> {
    let end = file.seek(SeekFrom::End(0))?.saturating_sub(TRAILER_BYTES);
    file.seek(SeekFrom::Start(end))?;
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact(&mut trailer)?;
    let Some((sum, at)) = parse_trailer(&trailer) else {
        return Ok(None);
    };
    let len = end.checked_sub(at).filter(|&len| len <= MAX_SECTIONS_BYTES);
    let Some(len) = len else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(at))?;
    let mut sections = Vec::new();
    file.take(len).read_to_end(&mut sections)?;
    Ok((xxh3_128(&sections) == sum).then_some(sections))
}

/// Checksum and position of the list of sections.
fn parse_trailer(trailer: &[u8]) -> Option<(u128, u64)> {
    let mut rest = trailer.strip_prefix(TRAILER_START)?;
    let sum = take(&mut rest).map(u128::from_le_bytes)?;
    Some((sum, take(&mut rest).map(u64::from_le_bytes)?))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn damaged(path: &Path, how: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} {how}", path.display()),
    )
}
