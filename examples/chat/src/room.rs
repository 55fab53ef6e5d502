//! One room in its database: messages are rows of a table, one entry each.
//!
//! **Who** wrote a message is not in the row: it is the author of the entry that wrote it, whose signature was verified
//! when the entry came in. **Where** it stands is not in the row either: messages stand in the order of their entries'
//! stamps (height, then id). An entry is higher than all that its author had seen, so an answer stands below its question
//! on every replica, whatever anybody's clock says.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use eidetica::auth::Right;
use eidetica::crdt::Value;
use eidetica::{Database, Entry, Height, Id, Instance, PublicKey};
use serde::Serialize;

use crate::error::Result;
use crate::limits;
use crate::model::{Member, Message};

const MESSAGES: &str = "messages";
const TEXT: &str = "text";

/// The form of a row.
#[derive(Serialize)]
struct Row<'a> {
    text: &'a str,
}

/// A room that is here.
pub(crate) struct Room {
    database: Database,
    /// How many of the newest messages are wanted.
    limit: usize,
    /// Messages that were verified before, by row key.
    verified: HashMap<String, Message>,
    changed: Arc<AtomicBool>,
}

impl Room {
    /// Opens a room. `wake` is called when something came in or was written.
    pub(crate) fn open(
        database: Database,
        wake: impl Fn() + Send + Sync + Clone + 'static,
    ) -> Result<Self> {
        let changed = Arc::new(AtomicBool::new(true));
        let on_write = {
            let changed = Arc::clone(&changed);
            move |_: &Entry, _: &Database, _: &Instance| {
                changed.store(true, Ordering::Release);
                wake();
                Ok(())
            }
        };
        database.on_local_write(on_write.clone())?;
        database.on_remote_write(on_write)?;
        Ok(Self {
            database,
            limit: limits::PAGE,
            verified: HashMap::new(),
            changed,
        })
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    pub(crate) fn id(&self) -> Id {
        self.database.root_id()
    }

    /// The room's name; empty if it has none.
    pub(crate) fn name(&self) -> Result<String> {
        Ok(self.database.name()?.unwrap_or_default())
    }

    /// Whether there is something new since this was last asked.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// Asks for more messages from now on.
    pub(crate) fn want_more(&mut self) {
        self.limit = (self.limit + limits::PAGE).min(limits::MESSAGES);
        self.changed.store(true, Ordering::Release);
    }

    /// Writes a message.
    pub(crate) fn send(&self, text: &str) -> Result<()> {
        let op = self.database.new_transaction()?;
        op.table::<Row<'_>>(MESSAGES)?
            .insert(self.new_key()?, &Row { text })?;
        op.commit()?;
        Ok(())
    }

    /// Rows are kept in the order of their keys, so a key begins with the height of its entry: the newest messages are
    /// the last rows. It is an index and no proof: the order that is shown is that of the entries.
    fn new_key(&self) -> Result<String> {
        let height = self.highest()?.0 + 1;
        Ok(format!("{height:016x}-{:016x}", rand::random::<u64>()))
    }

    /// The height of what was written last.
    pub(crate) fn highest(&self) -> Result<Height> {
        let tips = self.database.tips()?;
        Ok(tips
            .iter()
            .map(|tip| tip.height)
            .max()
            .unwrap_or(Height::ROOT))
    }

    /// The newest messages, oldest first, and whether there are older ones.
    pub(crate) fn messages(&mut self) -> Result<(Vec<Message>, bool)> {
        // No honest key claims more than the height that there is.
        let end = format!("{:016x}~", self.highest()?.0);
        let table = self.database.table::<Row<'_>>(MESSAGES)?;
        let newest = table
            .rows()
            .range(..end.as_str())
            .reverse()
            .limit(self.limit + 1);
        // Maps, not `Row`s: a member may write rows of any form, and those must not hide the others.
        let mut rows: Vec<_> = newest.docs().collect::<Result<_, _>>()?;
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let mut messages = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            if let Some(text) = row.get(TEXT).and_then(Value::as_text) {
                messages.extend(self.verify(key, text)?);
            }
        }
        messages.sort_by(|a, b| (a.stamp, &a.key).cmp(&(b.stamp, &b.key)));
        self.verified = messages
            .iter()
            .map(|message| (message.key.clone(), message.clone()))
            .collect();
        Ok((messages, more))
    }

    /// The message in a row, with the author of the entry that wrote the text.
    fn verify(&self, key: String, text: &str) -> Result<Option<Message>> {
        if let Some(known) = self.verified.get(&key).filter(|known| known.text == text) {
            return Ok(Some(known.clone()));
        }
        let versions = self.database.field_versions(MESSAGES, &key, TEXT, 1)?;
        let Some(version) = versions.into_iter().next() else {
            return Ok(None);
        };
        let entry = self.database.get(&version.stamp.id)?;
        let text = version.value.as_ref().and_then(|value| value.as_text());
        Ok(entry.zip(text).map(|(entry, text)| Message {
            key,
            stamp: version.stamp,
            author: entry.header().author.key,
            time_ms: entry.header().timestamp_ms,
            text: text.to_owned(),
        }))
    }

    /// Who may do what here. Recovery keys write nothing and are left out.
    pub(crate) fn members(&self) -> Result<Vec<Member>> {
        let keys = self.database.settings()?.keys();
        let people = keys
            .into_iter()
            .filter_map(|(key, right, name)| match right {
                Right::Permission(permission) => Some(Member {
                    key,
                    name: name.to_string(),
                    permission: Some(permission),
                }),
                _ => None,
            });
        Ok(people.collect())
    }

    /// Authors of messages who are no members any more.
    pub(crate) fn former_members(
        &self,
        messages: &[Message],
        members: &[Member],
    ) -> Result<Vec<Member>> {
        let is_member = |key: &PublicKey| members.iter().any(|member| member.key == *key);
        let mut authors: Vec<PublicKey> = messages.iter().map(|message| message.author).collect();
        authors.sort_unstable();
        authors.dedup();
        let gone = authors.into_iter().filter(|key| !is_member(key));
        gone.map(|key| {
            let name = self.database.find_member(key)?.name.to_string();
            Ok(Member {
                key,
                name,
                permission: None,
            })
        })
        .collect()
    }
}
