//! The label of a data directory: whose it is, in which format, and whether it is complete.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use eidetica_storage::EngineError;

const TAG: &str = "eidetica-storage";
const MAX_BYTES: u64 = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Without data, or with data that nobody has been told of.
    New,
    /// With data.
    Ready,
}

/// What a label says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) engine: String,
    pub(crate) format: u32,
    pub(crate) state: State,
}

impl Label {
    /// Reads the label, `None` if the file is still empty.
    pub(crate) fn read(mut file: &File) -> Result<Option<Self>, EngineError> {
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.take(MAX_BYTES).read_to_end(&mut text))
            .map_err(|error| EngineError::io("reading the label", error))?;
        if text.is_empty() {
            return Ok(None);
        }
        let label = std::str::from_utf8(&text).ok().and_then(Self::parse);
        label
            .map(Some)
            .ok_or_else(|| EngineError::corrupt("the label of the data directory is unreadable"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text
            .strip_suffix('\n')?
            .strip_prefix(TAG)?
            .split_whitespace();
        let engine = words.next()?.to_owned();
        let format = words.next()?.parse().ok()?;
        let state = match words.next()? {
            "new" => State::New,
            "ready" => State::Ready,
            _ => return None,
        };
        words.next().is_none().then_some(Self {
            engine,
            format,
            state,
        })
    }

    /// Writes and syncs the label. Both states take the same room, so that one replaces the other in
    /// one small write.
    pub(crate) fn write(&self, mut file: &File) -> Result<(), EngineError> {
        let state = match self.state {
            State::New => "new  ",
            State::Ready => "ready",
        };
        let text = format!("{TAG} {} {} {state}\n", self.engine, self.format);
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_all())
            .map_err(|error| EngineError::io("writing the label", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_labels_are_read() {
        let label = |text: &str| Label::parse(text).map(|label| (label.format, label.state));
        assert_eq!(
            label("eidetica-storage redb 1 new  \n"),
            Some((1, State::New))
        );
        assert_eq!(
            label("eidetica-storage redb 7 ready\n"),
            Some((7, State::Ready))
        );
        for text in [
            "",
            "\n",
            "eidetica-storage redb 1 ready",
            "eidetica-storage redb 1 reads\n",
        ] {
            assert_eq!(label(text), None, "{text:?}");
        }
        assert_eq!(label("eidetica-storage redb x ready\n"), None);
        assert_eq!(label("eidetica-storage redb 1 ready more\n"), None);
        assert_eq!(label("somebody-else redb 1 ready\n"), None);
    }
}
