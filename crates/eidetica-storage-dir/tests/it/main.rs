//! Data directories of made-up engines: whose they are, and in which format.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

use eidetica_storage::EngineError;
use eidetica_storage_dir::{DataDir, engine_of};

/// An engine of one file, whose text is its format and what was done to it.
fn open(dir: &Path, format: u32) -> Result<String, EngineError> {
    open_with(dir, format, |path, text| {
        let before = fs::read_to_string(path).unwrap();
        // A crash may have come after the step and before the label.
        if !before.ends_with(text) {
            fs::write(path, before + text).unwrap();
        }
        Ok(())
    })
}

fn open_with(
    dir: &Path,
    format: u32,
    step: impl Fn(&Path, &str) -> Result<(), EngineError>,
) -> Result<String, EngineError> {
    let mut dir = DataDir::claim(dir, "made-up", format)?;
    dir.upgrade(1, |path| step(path, ", 2"))?;
    dir.upgrade(2, |path| step(path, ", 3"))?;
    dir.open(|path| {
        if !path.exists() {
            fs::write(path, format!("made as {format}")).unwrap();
        }
        Ok(fs::read_to_string(path).unwrap())
    })
}

fn label(dir: &Path) -> String {
    fs::read_to_string(dir.join("eidetica")).unwrap()
}

#[test]
fn an_older_directory_is_brought_up_step_by_step() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    assert_eq!(open(&dir, 1).unwrap(), "made as 1");
    assert_eq!(open(&dir, 2).unwrap(), "made as 1, 2");
    assert_eq!(label(&dir), "eidetica-storage made-up 2 ready\n");
    assert_eq!(open(&dir, 3).unwrap(), "made as 1, 2, 3");
    assert_eq!(open(&dir, 3).unwrap(), "made as 1, 2, 3");
    // From the first one at once, and a new one without steps.
    let other = temp.path().join("other");
    open(&other, 1).unwrap();
    assert_eq!(open(&other, 3).unwrap(), "made as 1, 2, 3");
    assert_eq!(open(&temp.path().join("new"), 3).unwrap(), "made as 3");
}

#[test]
fn a_step_that_fails_is_done_again() {
    let temp = tempfile::tempdir().unwrap();
    open(temp.path(), 1).unwrap();
    // The second step is done, and its answer lost.
    let failed = open_with(temp.path(), 3, |path, text| {
        let before = fs::read_to_string(path).unwrap();
        fs::write(path, before + text).unwrap();
        match text {
            ", 3" => Err(EngineError::corrupt("the power is gone")),
            _ => Ok(()),
        }
    });
    assert!(matches!(failed, Err(EngineError::Corrupt { .. })));
    assert_eq!(label(temp.path()), "eidetica-storage made-up 2 ready\n");
    assert_eq!(open(temp.path(), 3).unwrap(), "made as 1, 2, 3");
}

#[test]
fn formats_that_no_step_leads_from_or_to_are_refused_with_both_numbers() {
    let temp = tempfile::tempdir().unwrap();
    open(temp.path(), 3).unwrap();
    let newer = open(temp.path(), 2).unwrap_err();
    assert!(matches!(
        newer,
        EngineError::NewerFormat {
            found: 3,
            supported: 2
        }
    ));
    let said = newer.to_string();
    assert!(
        said.contains("format 3") && said.contains("up to 2") && said.contains("newer"),
        "{said}"
    );
    let older = open(temp.path(), 9).unwrap_err();
    assert!(matches!(
        older,
        EngineError::OlderFormat {
            found: 3,
            supported: 9
        }
    ));
    assert_eq!(open(temp.path(), 3).unwrap(), "made as 3");
}

#[test]
fn a_directory_says_whose_it_is() {
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(engine_of(temp.path()).unwrap(), None);
    assert_eq!(engine_of(&temp.path().join("nowhere")).unwrap(), None);
    open(temp.path(), 1).unwrap();
    assert_eq!(engine_of(temp.path()).unwrap().as_deref(), Some("made-up"));
    // Also while somebody has it.
    let _held = DataDir::claim(temp.path(), "made-up", 1).unwrap();
    assert_eq!(engine_of(temp.path()).unwrap().as_deref(), Some("made-up"));
    fs::write(temp.path().join("eidetica"), "somebody else's").unwrap();
    assert!(matches!(
        engine_of(temp.path()),
        Err(EngineError::Corrupt { .. })
    ));
    let file = temp.path().join("file");
    fs::write(&file, "a file").unwrap();
    assert_eq!(engine_of(&file).unwrap(), None);
}
