//! Keys, signatures, sealed secrets and authority rules.
//!
//! - [`SecretKey`] signs; [`verify`] and [`verify_batch`] verify, by one rule with equal verdicts;
//!   [`check_public_key`] refuses keys that are none.
//! - [`PasswordSealed`] and [`VaultKey`] keep secrets at rest.
//! - [`Permission`] and [`Right`] say what a key may do; [`AuthRecord`] and [`SettingsPayload`] say
//!   it in a database's settings; [`AuthState`] is what follows at a frontier; [`judge`] decides
//!   about one entry.
//! - [`DeviceClaim`], [`SignedRequest`] and [`InviteProof`] are what peers show and ask each other.
//!
//! Nothing here does I/O, reads a clock or draws randomness of its own. Everything that decodes
//! strangers' bytes is bounded by [`limits`] and accepts canonical bytes only.

mod claim;
mod codec;
mod delegation;
mod form;
mod invite;
mod judge;
mod key;
pub mod limits;
mod lookup;
mod name;
mod permission;
mod record;
mod request;
mod seal;
mod standing;
mod state;
mod verify;

pub use claim::{ClaimError, DeviceClaim, Scope};
pub use codec::CodecError;
pub use delegation::{Pinned, Pins};
pub use form::{FormError, records_from_json, section_to_json};
pub use invite::InviteProof;
pub use judge::{Reject, SettingsWrite, Sound, Verdict, judge};
pub use key::{KeyError, SecretKey, check_public_key};
pub use lookup::{Below, Lookup, Missing, NothingBelow};
pub use name::{KeyName, NameError};
pub use permission::{IntoPermission, Permission, PermissionTextError, Right};
pub use record::{AuthRecord, Delegation, Revocation, SettingsError, SettingsPayload};
pub use request::{AccessRequest, RequestError, RequestId, SignedRequest};
pub use seal::{KdfParams, PasswordSealed, SealError, Sealed, VaultKey};
pub use standing::{Changes, Cut, Standing, Subject, VoidReason};
pub use state::{AuthState, KeyEntry};
pub use verify::{Signed, verify, verify_batch};
