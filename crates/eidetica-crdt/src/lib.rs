//! The register algebra: state as a set of writes.
