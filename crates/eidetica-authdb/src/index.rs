//! Where the latest operation of each key is: recent ones in memory, older ones in sorted runs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::files::Files;
use crate::run::{Entries, Run, RunInfo, Slot, Tag, Writer};
use crate::{Error, limits};

/// Tags are hashes under a secret seed already.
#[derive(Default)]
pub(crate) struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write_u128(&mut self, tag: u128) {
        self.0 = tag as u64;
    }
}

/// The index of one database.
#[derive(Default)]
pub(crate) struct Index {
    recent: HashMap<Tag, Slot, BuildHasherDefault<TagHasher>>,
    /// What the changes since the last commit replaced.
    undo: Vec<(Tag, Option<Slot>)>,
    /// The oldest first; levels do not rise from one to the next.
    runs: Vec<Run>,
}

impl Index {
    pub(crate) fn open(files: &Files, runs: &[RunInfo]) -> Result<Self, Error> {
        let runs = runs.iter().map(|info| Run::open(files, *info));
        Ok(Self {
            runs: runs.collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    pub(crate) fn infos(&self) -> Vec<RunInfo> {
        self.runs.iter().map(|run| run.info).collect()
    }

    /// The latest operation of a key, if there is one.
    pub(crate) fn get(&self, files: &Files, tag: Tag) -> Result<Option<Slot>, Error> {
        if let Some(slot) = self.recent.get(&tag) {
            return Ok(Some(*slot));
        }
        for run in self.runs.iter().rev() {
            if let Some(slot) = run.get(files, tag)? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// The same for many keys. Each run is asked about all of them in one go, so that the time that memory takes for
    /// one is not waited for by the next, and no page is looked up twice.
    pub(crate) fn get_many(&self, files: &Files, tags: &[Tag]) -> Result<Vec<Option<Slot>>, Error> {
        let recent = tags.iter().map(|tag| self.recent.get(tag).copied());
        let mut found: Vec<Option<Slot>> = recent.collect();
        let unknown = found.iter().zip(tags).enumerate();
        let unknown = unknown.filter(|(_, (slot, _))| slot.is_none());
        let mut asked: Vec<(Tag, usize)> = unknown.map(|(at, (_, tag))| (*tag, at)).collect();
        for run in self.runs.iter().rev() {
            for (at, slot) in run.get_many(files, &asked)? {
                if let Some(found) = found.get_mut(at) {
                    *found = Some(slot);
                }
            }
            asked.retain(|(_, at)| found.get(*at).is_some_and(Option::is_none));
        }
        Ok(found)
    }

    pub(crate) fn put(&mut self, changes: Vec<(Tag, Slot)>) {
        self.recent.reserve(changes.len());
        let recent = &mut self.recent;
        let put = |(tag, slot)| (tag, recent.insert(tag, slot));
        self.undo.extend(changes.into_iter().map(put));
    }

    /// Takes back what was put since the last [`Index::keep`].
    pub(crate) fn rewind(&mut self) {
        while let Some((tag, before)) = self.undo.pop() {
            match before {
                Some(slot) => self.recent.insert(tag, slot),
                None => self.recent.remove(&tag),
            };
        }
    }

    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// The runs that there will be when the recent entries are written out as a run, and levels that are
    /// full are merged. Entries for which `keep` says no are left out. Writes and syncs files of new
    /// numbers only; nothing changes before [`Index::adopt`].
    pub(crate) fn sealed(
        &self,
        files: &Files,
        next_id: &mut u64,
        keep: &impl Fn(Slot) -> bool,
    ) -> Result<Vec<Run>, Error> {
        let recent = self.recent.iter().map(|(tag, slot)| (*tag, *slot));
        let recent = sorted(recent.collect());
        let mut runs = self.runs.clone();
        let mut writer = Writer::new(files, *next_id, recent.len() as u64)?;
        for (tag, slot) in recent {
            if keep(slot) {
                writer.push(tag, slot)?;
            }
        }
        runs.push(writer.finish(*next_id, 0)?);
        *next_id += 1;
        // The level rises in each round, so that there are as many rounds as levels at most.
        while let Some(from) = full_level(&runs) {
            let merged = merge(
                files,
                runs.get(from..).unwrap_or_default(),
                *next_id,
                from == 0,
                keep,
            )?;
            *next_id += 1;
            runs.truncate(from);
            runs.push(merged);
        }
        Ok(runs)
    }

    /// Takes runs that hold what was recent.
    pub(crate) fn adopt(&mut self, runs: Vec<Run>) {
        self.runs = runs;
        self.recent.clear();
        self.undo.clear();
    }
}

/// Entries in the order of their tags. Tags are hashes, so that a bucket for each holds few.
fn sorted(entries: Vec<(Tag, Slot)>) -> Vec<(Tag, Slot)> {
    let bits = entries.len().max(2).ilog2();
    let bucket = |tag: Tag| (tag.0 >> (u128::BITS - bits)) as usize;
    let mut next = vec![0; (1 << bits) + 1];
    for (tag, _) in &entries {
        if let Some(count) = next.get_mut(bucket(*tag) + 1) {
            *count += 1;
        }
    }
    let mut before = 0;
    for count in &mut next {
        before += *count;
        *count = before;
    }
    let mut sorted = entries.clone();
    for (tag, slot) in entries {
        let Some(next) = next.get_mut(bucket(tag)) else {
            continue;
        };
        if let Some(place) = sorted.get_mut(*next) {
            *place = (tag, slot);
            *next += 1;
        }
    }
    let mut start = 0;
    for end in next {
        if let Some(few) = sorted.get_mut(start..end) {
            few.sort_unstable_by_key(|(tag, _)| *tag);
        }
        start = end;
    }
    sorted
}

/// The first of the youngest runs of one level, if they are as many as a level may have.
fn full_level(runs: &[Run]) -> Option<usize> {
    let level = runs.last()?.info.level;
    let same = runs
        .iter()
        .rev()
        .take_while(|run| run.info.level == level)
        .count();
    (same >= limits::RUNS_PER_LEVEL).then(|| runs.len() - same)
}

/// Merges runs, the oldest first, into one of the next level. If nothing older remains, deletions are left
/// out.
fn merge(
    files: &Files,
    runs: &[Run],
    id: u64,
    oldest: bool,
    keep: &impl Fn(Slot) -> bool,
) -> Result<Run, Error> {
    let level = runs.last().map_or(0, |run| run.info.level);
    let most = runs.iter().map(|run| run.info.entries).sum();
    let mut writer = Writer::new(files, id, most)?;
    let mut inputs: Vec<Entries<'_>> = runs
        .iter()
        .map(|run| run.entries(files))
        .collect::<Result<_, _>>()?;
    let mut heads: Vec<Option<(Tag, Slot)>> = inputs
        .iter_mut()
        .map(Entries::next)
        .collect::<Result<_, _>>()?;
    while let Some(tag) = heads.iter().flatten().map(|(tag, _)| *tag).min() {
        let mut newest = None;
        for (head, input) in heads.iter_mut().zip(&mut inputs) {
            if let Some((found, slot)) = *head
                && found == tag
            {
                newest = Some(slot);
                *head = input.next()?;
            }
        }
        if let Some(slot) = newest.filter(|slot| keep(*slot) && (slot.is_live() || !oldest)) {
            writer.push(tag, slot)?;
        }
    }
    writer.finish(id, level + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_however_they_fall() {
        for count in 0..200u64 {
            let tags = (0..count).map(|number| {
                let hash = blake3::hash(&number.to_le_bytes());
                u128::from_le_bytes(*hash.as_bytes().first_chunk().unwrap())
            });
            // Those of hashes, and all in one bucket.
            for tags in [
                tags.collect::<Vec<_>>(),
                (0..u128::from(count)).rev().collect(),
            ] {
                let entries: Vec<_> = tags.iter().map(|tag| (Tag(*tag), Slot::live(7))).collect();
                let mut expected = entries.clone();
                expected.sort_by_key(|(tag, _)| *tag);
                assert_eq!(sorted(entries), expected);
            }
        }
    }
}
