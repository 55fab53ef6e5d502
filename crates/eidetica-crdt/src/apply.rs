//! (in progress)
use crate::*;
use eidetica_entry::Stamp;

/// What is known about the stamps of what is inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each is greater than every stamp ever inserted into this store, also of entries removed since.
    NewerThanAll,
    /// Nothing.
    Any,
}

/// Inserts what one entry writes.
pub fn insert<R: RowsMut>(
    rows: &mut R,
    stamp: Stamp,
    payload: &Payload,
    order: Order,
) -> Result<(), StateError<R::Error>> {
    apply_batch(rows, payload.kind(), &[(stamp, payload)], order)
}

/// Removes what one entry wrote: the exact inverse of [`insert`], whatever was inserted in between.
pub fn remove<R: RowsMut>(rows: &mut R, stamp: Stamp, payload: &Payload) -> Result<(), StateError<R::Error>> {
    let _ = (rows, stamp, payload);
    todo!()
}

/// Inserts what many entries write, sorted by path: every `Cur` row is read once.
///
/// Payloads of another kind than `kind` are left out.
pub fn apply_batch<R: RowsMut>(
    rows: &mut R,
    kind: StoreKind,
    batch: &[(Stamp, &Payload)],
    order: Order,
) -> Result<(), StateError<R::Error>> {
    let _ = (rows, kind, batch, order);
    todo!()
}
