//! Recomputing a path from its writes, and carrying a change to what is below.

use eidetica_entry::Stamp;

use super::{Context, Outcome, State};
use crate::cell::{
    Cell, Incs, below, parse_op, parse_ver, ver_key, ver_path, ver_range, with_byte,
};
use crate::mem::Pages;
use crate::path::KEY;
use crate::{Op, Path, Position, RowSpace, RowsMut, Segment, Slot, StoreKind, limits};

impl<R: RowsMut> State<'_, R> {
    /// Recomputes a path after a change that is `added`, `removed`, or made in `Ver` already, and what
    /// is below as far as that changes too.
    pub(super) fn resettle(
        &mut self,
        path: &Path,
        added: Option<(Stamp, &Op)>,
        removed: Option<(Stamp, &Op)>,
    ) -> Outcome<(), R> {
        let context = self.context(path)?;
        let mut cell = self.cell(path)?;
        let open_before = if self.is_gate(path) {
            cell.value.is_some()
        } else {
            context.open
        };
        if let Some((stamp, op)) = removed {
            if cell
                .value
                .as_ref()
                .is_some_and(|(shown, _)| *shown == stamp)
            {
                cell.value = None;
                self.store(path, cell.clone())?;
            } else {
                self.ver_delete(path, op.slot(), stamp)?;
            }
        }
        let (cover, after) = self.settle(path, context, cell, added)?;
        let removed = removed
            .filter(|(_, op)| op.covers())
            .map(|(stamp, _)| stamp);
        let before = Context {
            floor: context.floor.max(cover).max(removed),
            open: open_before,
        };
        self.forget_frames(path);
        self.propagate(path, before, after)
    }

    /// Recomputes one path from its writes in `Ver`, the one in its `cell`, and `added`, which is in no
    /// row yet. Returns its greatest cover, `added` not counted, and the context for its children.
    pub(super) fn settle(
        &mut self,
        path: &Path,
        context: Context,
        old: Cell,
        added: Option<(Stamp, &Op)>,
    ) -> Outcome<(Option<Stamp>, Context), R> {
        let heads = self.heads(path)?;
        let added = added.map(|(stamp, op)| (stamp, op.clone()));
        let candidates = [&old.value, &added, &heads.cover, &heads.make];
        let inserted = self.insertion(path, candidates)?;
        let exists = path.last_elem().is_none_or(|elem| {
            inserted.is_some() && heads.kill < Some(elem.stamp) && Some(elem.stamp) >= context.floor
        });
        let here = Context {
            floor: context.floor,
            open: context.open && exists,
        };

        let newest = candidates
            .into_iter()
            .flatten()
            .max_by_key(|(stamp, _)| *stamp);
        let shown = |(stamp, op): &&(Stamp, Op)| here.admits(*stamp) && !matches!(op, Op::Delete);
        let value = newest.filter(shown).cloned();
        let cover_before = covering(&old.value).max(covering(&heads.cover));
        let floor = here.floor.max(cover_before).max(covering(&added));
        let incs = if here.open && heads.inc {
            self.sum_incs(path, floor)?
        } else {
            None
        };
        let places = inserted.into_iter().chain(heads.place);
        let place = places
            .max_by_key(|(stamp, _)| *stamp)
            .filter(|_| value.is_some());
        let open = if self.is_gate(path) {
            value.is_some()
        } else {
            here.open
        };

        self.replace(path, old, added, Cell { value, incs, place })?;
        Ok((cover_before, Context { floor, open }))
    }

    /// Puts a new cell in the place of an old one, and every write where it belongs then.
    pub(super) fn replace(
        &mut self,
        path: &Path,
        old: Cell,
        added: Option<(Stamp, Op)>,
        new: Cell,
    ) -> Outcome<(), R> {
        self.move_place(path, old.place.as_ref(), new.place.as_ref())?;
        let unchanged = old == new;
        self.move_value(path, old.value, added, &new.value)?;
        if unchanged {
            Ok(())
        } else {
            self.store(path, new)
        }
    }

    /// Brings the writes that are not in `Ver` to where they belong now that `value` is shown.
    pub(super) fn move_value(
        &mut self,
        path: &Path,
        old: Option<(Stamp, Op)>,
        added: Option<(Stamp, Op)>,
        value: &Option<(Stamp, Op)>,
    ) -> Outcome<(), R> {
        let stamp_of = |write: &Option<(Stamp, Op)>| write.as_ref().map(|(stamp, _)| *stamp);
        let outside = [stamp_of(&old), stamp_of(&added)];
        if let Some((stamp, op)) = value
            && !outside.contains(&Some(*stamp))
        {
            self.ver_delete(path, op.slot(), *stamp)?;
        }
        for (stamp, op) in [old, added].into_iter().flatten() {
            if Some(stamp) != stamp_of(value) {
                self.ver_put(path, stamp, &op)?;
            }
        }
        Ok(())
    }

    pub(super) fn move_place(
        &mut self,
        path: &Path,
        old: Option<&(Stamp, Position)>,
        new: Option<&(Stamp, Position)>,
    ) -> Outcome<(), R> {
        let Some(elem) = path.last_elem().filter(|_| old != new) else {
            return Ok(());
        };
        if let Some((_, position)) = old {
            self.pos_delete(path, position, &elem)?;
        }
        if let Some((_, position)) = new {
            self.pos_put(path, position, &elem)?;
        }
        Ok(())
    }

    /// Stamp and position of an element's insertion, if the path is an element's and that is in a row.
    pub(super) fn insertion(
        &mut self,
        path: &Path,
        candidates: [&Option<(Stamp, Op)>; 4],
    ) -> Outcome<Option<(Stamp, Position)>, R> {
        let Some(elem) = path.last_elem() else {
            return Ok(None);
        };
        let place = |(stamp, op): &(Stamp, Op)| match op {
            Op::Ins { position, .. } if *stamp == elem.stamp => Some((*stamp, position.clone())),
            _ => None,
        };
        if let Some(found) = candidates.into_iter().flatten().find_map(place) {
            return Ok(Some(found));
        }
        let key = ver_key(path, Slot::Cover, &elem.stamp);
        match self.rows.get(RowSpace::Ver, &key)? {
            Some(value) => Ok(place(&(elem.stamp, parse_op(&key, &value)?))),
            None => Ok(None),
        }
    }

    /// The live increments of a path whose floor is known.
    pub(super) fn sum_incs(
        &mut self,
        path: &Path,
        floor: Option<Stamp>,
    ) -> Outcome<Option<Incs>, R> {
        let (start, end) = ver_range(path, Slot::Inc as u8, Slot::Inc as u8 + 1);
        let mut pages = Pages::new(RowSpace::Ver, start, end, false, limits::SCAN_ROWS);
        let mut incs = None;
        while let Some((key, value)) = pages.next(&*self.rows)? {
            let (stamp, op) = parse_ver(&key, &value)?;
            if Some(stamp) < floor {
                break;
            }
            if let Op::Inc(by) = op {
                incs.get_or_insert(Incs {
                    sum: 0,
                    greatest: stamp,
                })
                .sum += i128::from(by);
            }
        }
        Ok(incs)
    }

    /// Carries a changed context to the live rows below a path.
    pub(super) fn propagate(
        &mut self,
        path: &Path,
        before: Context,
        after: Context,
    ) -> Outcome<(), R> {
        match (before.open, after.open) {
            (false, false) => Ok(()),
            (true, false) => self.sink(path, None),
            (false, true) => self.rebuild(path),
            (true, true) if after.floor > before.floor => self.sink(path, after.floor),
            (true, true) if after.floor < before.floor => self.rebuild(path),
            (true, true) => Ok(()),
        }
    }

    /// Takes out of `Cur` what is strictly below a path and older than `floor`; everything without one.
    /// Visits the live rows below the path.
    pub(super) fn sink(&mut self, path: &Path, floor: Option<Stamp>) -> Outcome<(), R> {
        if self
            .loaded
            .as_ref()
            .is_some_and(|loaded| loaded.childless && loaded.root == *path)
        {
            return Ok(());
        }
        let skip = path.as_bytes().len();
        let mut after = with_byte(path, KEY);
        loop {
            let (page, more) = self.cells_below(path, &after)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = with_byte(last, 0);
            for (path, cell) in page {
                match floor {
                    Some(floor) if !has_older_elem(&path, skip, floor) => {
                        self.lift(&path, cell, floor)?
                    }
                    _ => self.bury(&path, cell)?,
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Takes out of a live cell what is older than a floor.
    pub(super) fn lift(&mut self, path: &Path, mut cell: Cell, floor: Stamp) -> Outcome<(), R> {
        if cell
            .incs
            .as_ref()
            .is_some_and(|incs| incs.greatest >= floor)
        {
            let context = self.context(path)?;
            return self.settle(path, context, cell, None).map(|_| ());
        }
        let had_incs = cell.incs.take().is_some();
        match cell.value.take() {
            Some((stamp, op)) if stamp < floor => self.ver_put(path, stamp, &op)?,
            value if !had_incs => {
                cell.value = value;
                return Ok(());
            }
            value => cell.value = value,
        }
        self.store(path, cell)
    }

    /// Takes everything out of a live cell.
    pub(super) fn bury(&mut self, path: &Path, cell: Cell) -> Outcome<(), R> {
        if let (Some(elem), Some((_, position))) = (path.last_elem(), &cell.place) {
            self.pos_delete(path, position, &elem)?;
        }
        if let Some((stamp, op)) = &cell.value {
            self.ver_put(path, *stamp, op)?;
        }
        self.store(path, Cell::default())
    }

    /// Recomputes every path strictly below one, in order, so that each finds its prefixes done.
    /// Visits all of them, live or not.
    pub(super) fn rebuild(&mut self, path: &Path) -> Outcome<(), R> {
        if let Some(loaded) = &mut self.loaded {
            loaded.childless = false;
        }
        let (start, end) = below(path);
        let mut cur = Pages::new(
            RowSpace::Cur,
            start.clone(),
            end.clone(),
            false,
            limits::SCAN_ROWS,
        );
        let mut ver = Pages::new(RowSpace::Ver, start.clone(), end, false, limits::SCAN_ROWS);
        let mut from = start;
        loop {
            let live = match self.kind {
                StoreKind::Doc => cur
                    .peek(&*self.rows)?
                    .map(|(key, _)| Path::from_trusted(key)),
                StoreKind::Table => self.next_loaded(path, &from),
            };
            let written = match ver.peek(&*self.rows)? {
                Some((key, _)) => Some(ver_path(key)?),
                None => None,
            };
            let Some(next) = live.into_iter().chain(written).min() else {
                return Ok(());
            };
            let context = self.context(&next)?;
            let cell = self.cell(&next)?;
            let (_, inside) = self.settle(&next, context, cell, None)?;
            self.push_frame(&next, inside);
            from = with_byte(&next, KEY);
            cur.seek(&from);
            ver.seek(&from);
        }
    }
}

/// The stamp of a write that covers.
fn covering(write: &Option<(Stamp, Op)>) -> Option<Stamp> {
    write
        .as_ref()
        .filter(|(_, op)| op.covers())
        .map(|(stamp, _)| *stamp)
}

/// Whether an element below the first `skip` bytes of a path was inserted before `floor`.
fn has_older_elem(path: &Path, skip: usize, floor: Stamp) -> bool {
    let rest = Path::from_trusted(path.as_bytes().get(skip..).unwrap_or_default());
    rest.segments()
        .any(|segment| matches!(segment, Segment::Elem(elem) if elem.stamp < floor))
}
