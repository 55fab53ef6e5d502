//! The suite that every transport passes.
//!
//! Each law is an async function over a [`Fixture`]; [`transport_contract!`](crate::transport_contract) makes one
//! test of each. The functions spawn nothing and know no clock: both ends of a channel are driven by one future,
//! and "a little while" is the fixture's business.
