//! (in progress)
use crate::*;

/// Feeds the canonical bytes of what a store shows to `sink`, in pieces: the input of the state hash.
pub fn hash_visible<R: Rows>(
    rows: &R,
    kind: StoreKind,
    sink: &mut impl FnMut(&[u8]),
) -> Result<(), StateError<R::Error>> {
    let _ = (rows, kind, sink);
    todo!()
}
