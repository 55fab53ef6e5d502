//! A decentralized, local-first database.
