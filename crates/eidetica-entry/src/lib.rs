//! Entries: ids, canonical bytes, packs and DAG algorithms.
