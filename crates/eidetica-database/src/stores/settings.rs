//! Settings: the database's name, and who may do what.

mod allowed;

use eidetica_auth::{
    AuthRecord, AuthState, Delegation, KeyName, Permission, Revocation, Right, SettingsError,
    Standing, VoidReason, check_public_key, section_to_json,
};
use eidetica_crdt::{Doc, Value};
use eidetica_entry::{Id, Ids, PublicKey};

pub use self::allowed::{Act, NotAllowed};
use crate::error::{Error, Result};
use crate::source::{Reader, Source};
use crate::stores::{DocStore, DocView};
use crate::{Database, Transaction};

const NAME: &str = "name";

/// Reads a database's settings.
#[derive(Clone)]
pub struct SettingsView<'a> {
    doc: DocView<'a>,
    authority: AuthState,
}

impl<'a> SettingsView<'a> {
    pub(crate) fn new(reader: Reader<'a>, authority: AuthState) -> Self {
        Self {
            doc: DocView::settings(reader),
            authority,
        }
    }

    /// The database's name; `None` if it has none.
    ///
    /// # Errors
    /// The engine's.
    pub fn name(&self) -> Result<Option<String>> {
        Ok(self
            .doc
            .get(NAME)?
            .and_then(|name| name.as_text().map(str::to_owned)))
    }

    /// One setting beside the authority records.
    ///
    /// # Errors
    /// See [`DocView::get`].
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        self.doc.get(path)
    }

    /// All settings beside the authority records.
    ///
    /// # Errors
    /// The engine's.
    pub fn get_all(&self) -> Result<Doc> {
        self.doc.get_all()
    }

    /// Who may do what, in the form in which people write it: names to
    /// `{"pubkey": .., "permissions": {"Write": 10}, "status": "Active"}`, and `*` for every key.
    ///
    /// # Errors
    /// None today.
    pub fn auth(&self) -> Result<Doc> {
        let section = serde_json::Value::Object(section_to_json(&self.authority));
        Doc::from_json(&section).map_err(|error| Error::Form {
            what: "the auth section",
            detail: error.to_string(),
        })
    }

    /// Who may do what.
    pub fn authority(&self) -> &AuthState {
        &self.authority
    }

    /// What a key may do, by a grant or by the wildcard.
    pub fn right_of(&self, key: &PublicKey) -> Option<Right> {
        self.authority.right_of(key)
    }

    /// What every key may do.
    pub fn wildcard(&self) -> Option<Permission> {
        self.authority.wildcard()
    }

    /// The databases whose keys are let in, by their ids: up to which right, and what they are called.
    pub fn delegations(&self) -> Vec<(Id, Permission, KeyName)> {
        let mut held: Vec<(Id, Permission, KeyName)> = Vec::new();
        for (id, delegation) in self.authority.delegations() {
            let record = AuthRecord::Delegate(delegation.clone());
            let Some(bound) = delegation.bound else {
                continue;
            };
            if self.authority.ended_by(&id, &record).is_none() {
                held.push((delegation.database, bound, delegation.name.clone()));
            }
        }
        held.sort_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        held.dedup_by_key(|(database, ..)| *database);
        held
    }

    /// All keys that have a right of their own.
    pub fn keys(&self) -> Vec<(PublicKey, Right, KeyName)> {
        let keys = self.authority.keys();
        keys.map(|(key, entry)| (*key, entry.right, entry.name.clone()))
            .collect()
    }
}

/// Changes a database's settings, in a transaction that an admin signs.
///
/// What the author of the transaction may not do is refused here, with an error that says why and who
/// could ([`Error::NotAllowed`]), by the state as it is now; the commit judges again, by the state as it
/// is then. A transaction without a key, on a fork, or by way of a delegation is judged there alone.
pub struct SettingsStore<'a> {
    doc: DocStore<'a>,
    transaction: &'a Transaction,
}

impl<'a> SettingsStore<'a> {
    pub(crate) fn new(transaction: &'a Transaction) -> Self {
        Self {
            doc: DocStore::settings(transaction),
            transaction,
        }
    }

    /// Names the database.
    ///
    /// # Errors
    /// Too many edits.
    pub fn set_name(&self, name: &str) -> Result<()> {
        self.doc.set(NAME, name)
    }

    /// Sets something beside the authority records; `name` is the database's name.
    ///
    /// # Errors
    /// See [`DocStore::set`].
    pub fn set(&self, path: &str, value: impl Into<Value>) -> Result<()> {
        self.doc.set(path, value)
    }

    /// Takes a setting beside the authority records away.
    ///
    /// # Errors
    /// See [`DocStore::delete`].
    pub fn delete(&self, path: &str) -> Result<()> {
        self.doc.delete(path)
    }

    /// Reads the settings as they are with the edits of this transaction.
    pub fn doc(&self) -> &DocView<'a> {
        &self.doc
    }

    /// Gives a right to a key: weaker than the author's own, except that an `Admin(0)` may make another
    /// one. Grants only add: of several the strongest counts, and [`revoke`](Self::revoke) lowers. After a
    /// revocation a grant counts again if its author is as strong as the revoker was.
    ///
    /// # Errors
    /// A name that is none, a key that is none, [`Error::NotAllowed`].
    pub fn grant(&self, key: PublicKey, permission: Permission, name: &str) -> Result<()> {
        let name = key_name("the name of a key", name)?;
        check_key(&key)?;
        self.check(Act::Grant(permission))?;
        self.record(AuthRecord::grant(key, permission, name));
        Ok(())
    }

    /// Takes from a key what is weaker than the author's right and stronger than
    /// [`to`](Revocation::to), for everything that is not in the [`cut`](Revocation::cut) or below it,
    /// however dated. Entries that the cut or what is replaced names become parents of this one.
    ///
    /// [`Database::preview_revocation`](crate::Database::preview_revocation) says before what becomes void.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], [`Error::NothingToTake`], [`Error::OwnKey`], [`Error::NoEntry`], and a reason
    /// that is none.
    pub fn revoke(&self, revocation: Revocation) -> Result<()> {
        self.check_revocation(&revocation)?;
        let named = revocation.cut.iter().flat_map(|cut| cut.iter());
        let named: Vec<Id> = named.chain(revocation.replaces.iter()).copied().collect();
        self.build_upon(&named)?;
        self.record(AuthRecord::Revoke(revocation));
        Ok(())
    }

    fn check_revocation(&self, revocation: &Revocation) -> Result<()> {
        let key = revocation.key;
        let Some((author, database)) = self.present() else {
            return Ok(());
        };
        if author == key {
            return Err(Error::OwnKey);
        }
        let state = database.authority()?;
        allowed::check(&state, author, Act::Change)?;
        for id in revocation.replaces.iter() {
            check_undo(&state, author, *id)?;
        }
        match state.right_of(&key) {
            Some(right) if revocation.to.is_some_and(|to| Right::from(to) >= right) => {
                Err(Error::NothingToTake { key })
            }
            Some(right) => allowed::check(&state, author, Act::Take { right, key }).map(drop),
            // Revoked already: another cut may be what is wanted.
            None if state.revocations(&key).next().is_some() => Ok(()),
            None => Err(Error::NothingToTake { key }),
        }
    }

    /// Gives up the author's own right, and weaker ones that it has by name. Entries that do not have this one in
    /// their past keep it: against a key that was stolen, only a stronger key's revocation helps.
    ///
    /// # Errors
    /// [`Error::NothingToTake`] where the author has no right by name; [`Error::LastOwner`] where nobody
    /// else could change everything any more: [`renounce_as_last_owner`](Self::renounce_as_last_owner)
    /// does it nevertheless.
    pub fn renounce(&self) -> Result<()> {
        if let Some((author, database)) = self.present() {
            let state = database.authority()?;
            let keys = state.keys().filter(|(_, entry)| is_owner(entry.right));
            let owners: Vec<PublicKey> = keys.map(|(key, _)| *key).collect();
            if owners == [author] {
                return Err(Error::LastOwner { key: author });
            }
        }
        self.renounce_as_last_owner()
    }

    /// [`renounce`](Self::renounce), even if no owner is left then: what the others may do stays as it is
    /// for ever.
    ///
    /// # Errors
    /// [`Error::NothingToTake`].
    pub fn renounce_as_last_owner(&self) -> Result<()> {
        self.check_explicit()?;
        self.record(AuthRecord::Renounce);
        Ok(())
    }

    /// Hands the author's own right to another key, as a remedy for age, not for theft: whoever stole the
    /// old key can do the same, and only a stronger key's revocation takes it from both.
    ///
    /// # Errors
    /// [`Error::NothingToTake`] where the author has no right by name, [`Error::OwnKey`], a name or key that
    /// is none.
    pub fn rotate(&self, to: PublicKey, name: &str) -> Result<()> {
        let name = key_name("the name of a key", name)?;
        check_key(&to)?;
        if self.transaction.author() == Some(to) {
            return Err(Error::OwnKey);
        }
        self.check_explicit()?;
        self.record(AuthRecord::Rotate { to, name });
        Ok(())
    }

    /// Sets what every key may do, at most `Write`; `None` turns it off. Takes from earlier settings what
    /// is more than this. It is added to what keys have by name, and never admits a revoked key again.
    ///
    /// # Errors
    /// [`Error::NotGrantable`] above `Write`, [`Error::NotAllowed`].
    pub fn set_wildcard(&self, permission: Option<Permission>) -> Result<()> {
        if let Some(permission) = permission.filter(|permission| permission.can_admin()) {
            return Err(Error::NotGrantable { permission });
        }
        self.check(Act::Change)?;
        self.record(AuthRecord::Wildcard(permission));
        Ok(())
    }

    /// Lets the keys of another database in, with what they have there, at most `bound`. `floor`: entries
    /// of that database, usually its tips, that members must have known from now on; a later call with newer
    /// ones takes from members what they lost there meanwhile.
    ///
    /// Whoever may read this database may read the settings of that one.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], [`Error::NoFrontier`] for an empty floor, and a name that is none.
    pub fn delegate(
        &self,
        database: Id,
        bound: Permission,
        floor: impl IntoIterator<Item = Id>,
        name: &str,
    ) -> Result<()> {
        self.check(Act::Delegate(bound))?;
        self.delegation(database, Some(bound), floor, name)
    }

    /// Turns a delegation off, from the floor on that it has now.
    ///
    /// # Errors
    /// [`Error::NotAllowed`], [`Error::NoDelegation`].
    pub fn undelegate(&self, database: Id) -> Result<()> {
        self.check(Act::Change)?;
        let state = self.transaction.database().authority()?;
        let held = state.delegations().map(|(_, delegation)| delegation);
        let held = held.filter(|delegation| delegation.database == database);
        let floor: Vec<Id> = held.flat_map(|held| held.floor.iter().copied()).collect();
        match floor.is_empty() {
            true => Err(Error::NoDelegation(database)),
            false => self.delegation(database, None, floor, ""),
        }
    }

    fn delegation(
        &self,
        database: Id,
        bound: Option<Permission>,
        floor: impl IntoIterator<Item = Id>,
        name: &str,
    ) -> Result<()> {
        let floor: Ids = floor.into_iter().collect();
        if floor.is_empty() {
            return Err(Error::NoFrontier);
        }
        self.record(AuthRecord::Delegate(Delegation {
            database,
            bound,
            floor,
            name: key_name("the name of a delegation", name)?,
        }));
        Ok(())
    }

    /// Lets single data entries count that a revocation made void, as if their authors had `Write(0)`
    /// there. They become parents of this entry.
    ///
    /// # Errors
    /// [`Error::NoEntry`]; [`Error::NotAdoptable`] for one that counts anyway or writes settings: those come
    /// back when the revocation is corrected; [`Error::NotAllowed`] where the revoker was stronger.
    pub fn adopt(&self, entries: impl IntoIterator<Item = Id>) -> Result<()> {
        let entries: Ids = entries.into_iter().collect();
        if let Some((author, database)) = self.present() {
            let state = database.authority()?;
            allowed::check(&state, author, Act::Change)?;
            for (entry, standing) in database.standings(&entries)? {
                let is_data = !entry.header().writes_settings();
                let Standing::Void(reason) = standing else {
                    return Err(Error::NotAdoptable(entry.id()));
                };
                let (true, VoidReason::Revoked { by } | VoidReason::Lowered { by, .. }) =
                    (is_data, reason)
                else {
                    return Err(Error::NotAdoptable(entry.id()));
                };
                check_undo(&state, author, by)?;
            }
        }
        self.build_upon(&entries)?;
        self.record(AuthRecord::Adopt { entries });
        Ok(())
    }

    /// Adds an authority record as it is; the commit judges it.
    pub fn record(&self, record: AuthRecord) {
        self.transaction.add_record(record);
    }

    /// Sees to it that these entries will be in the past of this one.
    fn build_upon(&self, ids: &[Id]) -> Result<()> {
        let ends = match &self.transaction.source {
            Source::AsOf(past) => Some(past.frontier()),
            _ => None,
        };
        let above = self.transaction.database().not_below(ids, ends)?;
        self.transaction.also_above(&above)
    }

    /// The author and the database, where the state of the settings as they are now decides.
    fn present(&self) -> Option<(PublicKey, &'a Database)> {
        match (&self.transaction.source, self.transaction.author()) {
            (Source::Database(database), Some(author)) => Some((author, database)),
            _ => None,
        }
    }

    fn check(&self, act: Act) -> Result<()> {
        match self.present() {
            Some((author, database)) => {
                allowed::check(&database.authority()?, author, act).map(drop)
            }
            None => Ok(()),
        }
    }

    fn check_explicit(&self) -> Result<()> {
        match self.present() {
            Some((key, database)) if database.authority()?.explicit_right_of(&key).is_none() => {
                Err(Error::NothingToTake { key })
            }
            _ => Ok(()),
        }
    }
}

/// Whether the author is strong enough to undo a revocation, if it is one that counts.
fn check_undo(state: &AuthState, author: PublicKey, revocation: Id) -> Result<()> {
    let Some(Standing::Effective(strength)) = state.settings_standing(&revocation) else {
        return Ok(());
    };
    let act = Act::Undo {
        revocation,
        strength,
    };
    allowed::check(state, author, act).map(drop)
}

/// Whether a key with this right can change everything that anybody can.
fn is_owner(right: Right) -> bool {
    right >= Right::from(Permission::Admin(0))
}

fn key_name(what: &'static str, name: &str) -> Result<KeyName> {
    KeyName::new(name).map_err(|error| Error::Form {
        what,
        detail: error.to_string(),
    })
}

fn check_key(key: &PublicKey) -> Result<()> {
    let wrong = |error| SettingsError::Key { key: *key, error };
    Ok(check_public_key(key).map_err(wrong)?)
}
