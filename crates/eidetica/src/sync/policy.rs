//! What the users of an instance decide about synchronization, as the node asks it.

use std::sync::Arc;

use eidetica_auth::SecretKey;
use eidetica_engine::Wishes;
use eidetica_entry::{Id, PublicKey};
use eidetica_node::{Policy, PolicyChanges};
use eidetica_protocol::Unavailable;

use crate::{Instance, KeyRef, instance::WeakInstance};

/// Asks the instance, as long as there is one.
pub(crate) struct InstancePolicy(pub(crate) WeakInstance);

impl Policy for InstancePolicy {
    fn offers(&self, database: &Id) -> bool {
        let enabled = |instance: &Instance| {
            let wishes = instance.accounts().wishes(database);
            wishes.is_none_or(|wishes| wishes.enabled)
        };
        self.0.with(enabled).unwrap_or(false)
    }

    fn wishes(&self) -> Vec<(Id, Wishes)> {
        let all = |instance: &Instance| instance.accounts().all_wishes();
        self.0.with(all).unwrap_or_default()
    }

    fn follow(&self) -> Result<PolicyChanges, Unavailable> {
        let follow = |instance: &Instance| -> crate::Result<PolicyChanges> {
            let accounts = instance.accounts();
            let Some((changed, claims)) = accounts.follow(|| instance.own_claims())? else {
                return Ok(PolicyChanges::default());
            };
            let wishes = changed.into_iter().map(|id| (id, accounts.wishes(&id)));
            Ok(PolicyChanges {
                wishes: wishes.collect(),
                claims,
            })
        };
        let followed = self.0.with(follow).unwrap_or(Ok(PolicyChanges::default()));
        followed.map_err(|error| Unavailable(error.to_string()))
    }

    fn unlocked(&self, key: &PublicKey) -> Option<Arc<SecretKey>> {
        let find = |instance: &Instance| instance.find_key(&KeyRef::Id((*key).into()), None).ok();
        self.0.with(find).flatten()
    }
}
