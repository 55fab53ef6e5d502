//! Invites: whoever holds the secret of one may redeem it for a right, without an administrator's looking.
//!
//! An invite is a key of its own. Its public half names it and is all that the issuer keeps; its secret half travels in a
//! ticket. To redeem it is to sign the request for access with it, so that what is seen of a redemption lets nobody else
//! redeem anything.

use eidetica_entry::{PublicKey, Signature};
use serde::{Deserialize, Serialize};

use crate::{key::SecretKey, request::SignedRequest, verify::verify};

const TAG: &[u8] = b"eidetica/invite/v1\0";

/// Shows that whoever made a request for access holds the secret of an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteProof {
    /// The invite: the public half of its secret.
    pub invite: PublicKey,
    signature: Signature,
}

impl InviteProof {
    /// The proof for this request.
    pub fn make(invite: &SecretKey, request: &SignedRequest) -> Self {
        Self {
            invite: invite.public(),
            signature: invite.sign(&message(request)),
        }
    }

    /// Whether it is for this request, made by whoever holds the invite.
    pub fn is_of(&self, request: &SignedRequest) -> bool {
        verify(&self.invite, &message(request), &self.signature)
    }
}

/// All of the request, its own signature too.
fn message(request: &SignedRequest) -> Vec<u8> {
    [TAG, &request.encode()].concat()
}
