//! Contracts, fault injection and simulation for tests.
