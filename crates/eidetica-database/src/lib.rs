//! Databases, transactions, typed stores and ingest.
