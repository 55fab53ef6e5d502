//! The rules read as equations, and every solution of them tried.

use crate::{
    payload::{Record, Right, write},
    resolver::{Database, Entry},
};

/// All assignments of strengths to the control entries that satisfy every rule, up to `limit`.
pub fn solutions(database: &Database, limit: usize) -> Vec<Vec<Right>> {
    let control: Vec<&Entry> = database.control(database.all()).collect();
    let choices: Vec<Vec<Right>> = control
        .iter()
        .map(|entry| choices(database, entry))
        .collect();
    let mut found = Vec::new();
    let mut digits = vec![0; control.len()];
    let mut resolved = vec![0; database.entries.len()];
    while found.len() < limit {
        for ((entry, choices), digit) in control.iter().zip(&choices).zip(&digits) {
            resolved[entry.at] = choices[*digit];
        }
        let solves = |entry: &&Entry| database.strength(entry, &resolved) == resolved[entry.at];
        if control.iter().all(solves) {
            found.push(resolved.clone());
        }
        let Some(place) =
            (0..digits.len()).find(|place| digits[*place] + 1 < choices[*place].len())
        else {
            break;
        };
        digits[..place].fill(0);
        digits[place] += 1;
    }
    found
}

/// What an entry can amount to, and more: nothing, the rights that are named for its author, and those that these can be
/// lowered to.
fn choices(database: &Database, entry: &Entry) -> Vec<Right> {
    let mut choices = vec![0];
    if !entry.via.is_empty() {
        choices.extend(&database.levels);
    }
    let mut keys = vec![entry.key];
    let mut next = 0;
    while let Some(key) = keys.get(next).copied() {
        next += 1;
        for other in &database.entries {
            for record in other.records.iter().flatten() {
                match record {
                    Record::Grant { key: to, right } if *to == key => choices.push(*right),
                    Record::Revoke { key: of, to, .. } if *of == key => choices.push(*to),
                    Record::Wildcard(right) => choices.push(*right),
                    Record::Adopt(_) => choices.push(write(0)),
                    Record::Rotate(to) if *to == key && !keys.contains(&other.key) => {
                        keys.push(other.key)
                    }
                    _ => {}
                }
            }
        }
    }
    choices.sort_unstable();
    choices.dedup();
    choices
}
