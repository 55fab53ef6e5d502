//! Rows of a batch that share their memory: a memory table of millions of small rows is not to cost two allocations for
//! each.

use bytes::Bytes;
use eidetica_storage::{Space, Write};

/// Most bytes of keys and values in one allocation, or one longer row. Whoever reads one of its rows from a memory table and
/// keeps it keeps all of it.
const CHUNK_BYTES: usize = 16 << 10;

/// A write that owns its part of a chunk.
pub(crate) struct Row {
    pub(crate) space: Space,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// The writes of a batch, sorted by space. Rows of several spaces share nothing: their memory tables go at different times.
pub(crate) fn rows(writes: &[Write<'_>]) -> impl Iterator<Item = Row> {
    let mut taken = 0;
    let chunks = writes.chunk_by(move |before, next| {
        taken += len(before);
        let joins = before.space == next.space && taken + len(next) <= CHUNK_BYTES;
        taken *= usize::from(joins);
        joins
    });
    chunks.flat_map(|chunk| {
        let mut bytes = Bytes::from(joined(chunk));
        chunk.iter().map(move |write| Row {
            space: write.space,
            key: bytes.split_to(write.key.len()),
            value: write.value.map(|value| bytes.split_to(value.len())),
        })
    })
}

fn len(write: &Write<'_>) -> usize {
    write.key.len() + write.value.map_or(0, <[u8]>::len)
}

/// Keys and values, one after the other.
fn joined(chunk: &[Write<'_>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chunk.iter().map(len).sum());
    for write in chunk {
        bytes.extend_from_slice(write.key);
        bytes.extend_from_slice(write.value.unwrap_or_default());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_written_and_chunks_are_of_one_space_and_bounded() {
        let long = vec![7; CHUNK_BYTES + 1];
        let keys: Vec<[u8; 2]> = (0..2_000u16).map(u16::to_be_bytes).collect();
        let values: [Option<&[u8]>; 5] = [
            Some(b"a value"),
            None,
            Some(b""),
            Some(&long),
            Some(&[1; 99]),
        ];
        let writes: Vec<Write<'_>> = [Space::Log, Space::State]
            .into_iter()
            .flat_map(|space| keys.iter().map(move |key| (space, key)))
            .zip(values.into_iter().cycle())
            .map(|((space, key), value)| Write { space, key, value })
            .collect();
        let rows: Vec<Row> = rows(&writes).collect();
        assert_eq!(rows.len(), writes.len());
        // Rows that follow each other in memory are of one chunk.
        let mut begun = 0;
        for (at, (row, write)) in rows.iter().zip(&writes).enumerate() {
            let read = (row.space, &row.key[..], row.value.as_deref());
            assert_eq!(read, (write.space, write.key, write.value));
            let before = at.checked_sub(1).and_then(|at| rows.get(at));
            let end = |row: &Row| row.value.as_ref().unwrap_or(&row.key).as_ptr_range().end;
            let joins = before.is_some_and(|before| {
                before.space == row.space && std::ptr::eq(end(before), row.key.as_ptr())
            });
            begun = if joins { begun } else { at };
            let bytes: usize = writes[begun..=at].iter().map(len).sum();
            assert!(
                bytes <= CHUNK_BYTES || begun == at,
                "{bytes} bytes in one chunk"
            );
        }
    }
}
