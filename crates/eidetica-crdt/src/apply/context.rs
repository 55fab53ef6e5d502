//! What the prefixes of a path mean for it, remembered from one path to the next.

use eidetica_entry::Stamp;

use super::{Order, Outcome, State};
use crate::cell::Cell;
use crate::path::{ends, last_start};
use crate::{Path, RowsMut, StoreKind};

/// What a path's prefixes mean for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Context {
    /// The greatest cover of a strict prefix: what is older is not live.
    pub(super) floor: Option<Stamp>,
    /// Whether every element on the way exists, and the table row is shown.
    pub(super) open: bool,
}

impl Context {
    pub(super) const ROOT: Self = Self {
        floor: None,
        open: true,
    };

    /// Whether a write with this stamp is live as far as the prefixes go.
    pub(super) fn admits(&self, stamp: Stamp) -> bool {
        self.open && Some(stamp) >= self.floor
    }
}
impl<R: RowsMut> State<'_, R> {
    /// Whether the children of a path depend on its being shown: elements and table rows.
    pub(super) fn is_gate(&self, path: &Path) -> bool {
        match self.kind {
            StoreKind::Doc => path.last_elem().is_some(),
            StoreKind::Table => is_row(path),
        }
    }

    /// The context that a path's strict prefixes give it.
    pub(super) fn context(&mut self, path: &Path) -> Outcome<Context, R> {
        let bytes = path.as_bytes();
        let Some(parent) = last_start(bytes) else {
            return Ok(Context::ROOT);
        };
        let common = self
            .at
            .iter()
            .zip(bytes)
            .take_while(|(a, b)| a == b)
            .count();
        self.frames.retain(|(len, _)| *len <= common);
        let done = self.frames.last().map(|(len, _)| *len);
        if done < Some(parent) {
            self.at = bytes.to_vec();
        }
        let prefixes = std::iter::once(0).chain(ends(bytes));
        for end in prefixes
            .skip_while(|end| Some(*end) <= done)
            .take_while(|end| *end <= parent)
        {
            let prefix = Path::from_trusted(bytes.get(..end).unwrap_or_default());
            let above = self
                .frames
                .last()
                .map_or(Context::ROOT, |(_, context)| *context);
            let inside = self.inside(&prefix, above)?;
            self.frames.push((end, inside));
        }
        let mut frames = self.frames.iter().rev();
        Ok(frames
            .find(|(len, _)| *len <= parent)
            .map_or(Context::ROOT, |(_, context)| *context))
    }

    /// Remembers the context that the path just handled gives its children.
    pub(super) fn push_frame(&mut self, path: &Path, inside: Context) {
        let len = path.as_bytes().len();
        self.frames.retain(|(end, _)| *end < len);
        self.frames.push((len, inside));
        self.at = path.as_bytes().to_vec();
    }

    /// The context that a path gives its children, from what it is given itself.
    pub(super) fn inside(&mut self, path: &Path, above: Context) -> Outcome<Context, R> {
        let gate = self.is_gate(path);
        if self.order == Order::NewerThanAll && !gate {
            return Ok(above);
        }
        let cell = self.cell(path)?;
        let open = above.open && (!gate || cell.value.is_some());
        let floor = match self.order {
            Order::NewerThanAll => above.floor,
            Order::Any => above.floor.max(self.cover(path, &cell)?),
        };
        Ok(Context { floor, open })
    }

    /// What a path means for increments at the path itself.
    pub(super) fn at_path(&mut self, path: &Path, cell: &Cell) -> Outcome<Context, R> {
        let above = self.context(path)?;
        let exists = path.last_elem().is_none() || cell.value.is_some();
        let cover = match self.order {
            Order::NewerThanAll => None,
            Order::Any => self.cover(path, cell)?,
        };
        Ok(Context {
            floor: above.floor.max(cover),
            open: above.open && exists,
        })
    }

    /// Drops what is remembered about a path and what is below it.
    pub(super) fn forget_frames(&mut self, path: &Path) {
        if self.at.starts_with(path.as_bytes()) {
            let len = path.as_bytes().len();
            self.frames.retain(|(end, _)| *end < len);
        }
    }

    /// Whether nothing can stand at a path or below it but what this batch has put there.
    pub(super) fn is_fresh(&self, path: &Path) -> bool {
        self.order == Order::NewerThanAll
            && self
                .fresh
                .as_ref()
                .is_some_and(|fresh| path != fresh && path.starts_with(fresh))
    }
}

/// Whether a path in a table is a row's.
fn is_row(path: &Path) -> bool {
    ends(path.as_bytes()).next() == Some(path.as_bytes().len())
}
