//! The table of concurrent cases, case by case, each with both outcomes of the stamps.

use eidetica_crdt::{
    Edit, MemRows, Order, Path, StoreKind, get, insert, lower, remove, table_get, versions_at,
};
use eidetica_entry::{Height, Id, Stamp};
use serde_json::{Value as Json, json};

use crate::line::{Line, delete, fields, inc, put, set, shift};

/// What two replicas show after both edited the same document at once: first with the left one's stamp
/// below, then with it above.
fn both(base: &[Edit], left: &[Edit], right: &[Edit]) -> (Json, Json) {
    let mut start = Line::default();
    if !base.is_empty() {
        start.commit(1, 1, base);
    }
    let merged = |left_id, right_id| {
        let (mut l, mut r) = (start.clone(), start.clone());
        l.commit(2, left_id, left);
        r.commit(2, right_id, right);
        Line::merge(&[&l, &r]).json()
    };
    (merged(2, 3), merged(3, 2))
}

#[test]
fn a_value_against_a_child_of_it_is_decided_by_the_stamp() {
    let (child_later, value_later) = both(&[], &[set("a.b", json!(1))], &[set("a.b.c", json!(2))]);
    assert_eq!(child_later, json!({"a": {"b": {"c": 2}}}));
    assert_eq!(value_later, json!({"a": {"b": 1}}));
}

#[test]
fn a_value_that_a_child_hides_is_a_version() {
    let mut value = Line::default();
    let mut child = Line::default();
    value.commit(2, 2, &[set("a.b", json!(1))]);
    child.commit(2, 3, &[set("a.b.c", json!(2))]);
    let merged = Line::merge(&[&value, &child]);
    let versions = versions_at(&merged.rows, StoreKind::Doc, &"a.b".parse().unwrap(), 9).unwrap();
    assert_eq!(
        versions.iter().map(|w| w.stamp).collect::<Vec<_>>(),
        [value.log[0].0]
    );
}

#[test]
fn two_maps_where_nothing_was_both_stay() {
    let maps = both(
        &[],
        &[set("a", json!({"x": 1}))],
        &[set("a", json!({"y": 2}))],
    );
    assert_eq!(maps.0, json!({"a": {"x": 1, "y": 2}}));
    assert_eq!(maps.0, maps.1);
}

#[test]
fn two_lists_where_nothing_was_both_stay() {
    let (one, other) = both(&[], &[set("a", json!([1]))], &[set("a", json!([2]))]);
    for merged in [one, other] {
        let list = merged["a"].as_array().unwrap().clone();
        assert_eq!(list.len(), 2);
        assert!(list.contains(&json!(1)) && list.contains(&json!(2)));
    }
}

#[test]
fn deleting_a_map_against_setting_below_it() {
    let base = [set("a", json!({"b": {"old": 1}, "z": 1}))];
    let (child_later, delete_later) = both(&base, &[delete("a")], &[set("a.b.c", json!(2))]);
    assert_eq!(child_later, json!({"a": {"b": {"c": 2}}}));
    assert_eq!(delete_later, json!({}));
}

#[test]
fn deleting_a_map_against_inserting_into_a_list_in_it() {
    let base = [set("a", json!({"l": [1]}))];
    let (insert_later, delete_later) = both(&base, &[delete("a")], &[put("a.l", None, json!(2))]);
    assert_eq!(insert_later, json!({"a": {"l": [2]}}));
    assert_eq!(delete_later, json!({}));
}

#[test]
fn a_killed_element_is_gone_whatever_is_done_to_it() {
    let base = [set("l", json!([{"x": 1}, 2, 3]))];
    for other in [
        vec![set("l.0.x", json!(9))],
        vec![set("l.0", json!("new"))],
        vec![shift("l.0", 2)],
        vec![delete("l.0")],
    ] {
        let (one, two) = both(&base, &[delete("l.0")], &other);
        assert_eq!(one, json!({"l": [2, 3]}), "{other:?}");
        assert_eq!(two, one);
    }
}

#[test]
fn an_element_of_a_deleted_or_replaced_list_is_gone_whatever_is_done_to_it() {
    let base = [set("l", json!([1, 2]))];
    for (change, left) in [
        (delete("l"), json!({})),
        (set("l", json!([7])), json!({"l": [7]})),
    ] {
        for other in [set("l.0", json!("new")), shift("l.0", 1)] {
            let (one, two) = both(&base, std::slice::from_ref(&change), &[other]);
            assert_eq!((one, two), (left.clone(), left.clone()));
        }
    }
}

#[test]
fn increments_above_a_deletion_or_a_value_count() {
    let base = [inc("a.n", 10)];
    let (inc_later, delete_later) = both(&base, &[delete("a.n")], &[inc("a.n", 5)]);
    assert_eq!(
        (inc_later, delete_later),
        (json!({"a": {"n": 5}}), json!({"a": {}}))
    );
    let (inc_later, set_later) = both(&base, &[set("a.n", json!(100))], &[inc("a.n", 5)]);
    assert_eq!(
        (inc_later, set_later),
        (json!({"a": {"n": 105}}), json!({"a": {"n": 100}}))
    );
}

#[test]
fn concurrent_increments_add_up() {
    let (one, two) = both(&[inc("n", 1)], &[inc("n", 2)], &[inc("n", -4)]);
    assert_eq!((one, two), (json!({"n": -1}), json!({"n": -1})));
}

#[test]
fn a_deleted_table_row_is_deleted_whatever_is_done_to_its_fields() {
    let row = |json| Edit::RowInsert {
        key: "r".into(),
        fields: fields(json),
    };
    let field = |json| Edit::RowSet {
        key: "r".into(),
        fields: fields(json),
    };
    let gone = Edit::RowDelete { key: "r".into() };
    let stamp = |height, id| Stamp::new(Height(height), Id::new([id; 32]));
    for (delete_id, edit_id) in [(2, 3), (3, 2)] {
        let mut rows = MemRows::new();
        let lowered = |rows: &MemRows, edit: &Edit| {
            lower(rows, StoreKind::Table, std::slice::from_ref(edit), 1)
                .unwrap()
                .unwrap()
        };
        let base = lowered(&rows, &row(json!({"f": 1, "g": [1, {"h": 2}]})));
        insert(&mut rows, stamp(1, 1), &base, Order::Any).unwrap();
        let (delete, edit) = (
            lowered(&rows, &gone),
            lowered(&rows, &field(json!({"f": 2, "g": [1, {"h": 2}]}))),
        );
        assert_eq!(
            edit.writes().len(),
            1,
            "fields that have the value already are left alone"
        );
        insert(&mut rows, stamp(2, edit_id), &edit, Order::Any).unwrap();
        let shown = table_get(&rows, "r").unwrap().unwrap();
        assert_eq!(shown.to_json(), json!({"f": 2, "g": [1, {"h": 2}]}));
        insert(&mut rows, stamp(2, delete_id), &delete, Order::Any).unwrap();
        assert_eq!(table_get(&rows, "r").unwrap(), None);
        // And when the deletion turns out void, the edit is there again.
        remove(&mut rows, stamp(2, delete_id), &delete).unwrap();
        assert_eq!(table_get(&rows, "r").unwrap(), Some(shown));
    }
}

#[test]
fn emptying_a_container_against_filling_it_loses_neither() {
    let base = [set("a", json!({"x": 1}))];
    let (one, two) = both(&base, &[delete("a.x")], &[set("a.y", json!(2))]);
    assert_eq!((one, two), (json!({"a": {"y": 2}}), json!({"a": {"y": 2}})));
    let (one, two) = both(&base, &[delete("a.x")], &[delete("a.x")]);
    assert_eq!((one, two), (json!({"a": {}}), json!({"a": {}})));
}

#[test]
fn a_key_does_not_hide_a_list_and_its_elements() {
    // One replica makes a list where the other makes a map: keys show, and with them gone the list does.
    let mut list = Line::default();
    let mut map = Line::default();
    list.commit(1, 2, &[set("a", json!([1, 2]))]);
    map.commit(1, 3, &[set("a", json!({"k": 3}))]);
    let mut merged = Line::merge(&[&list, &map]);
    assert_eq!(merged.json(), json!({"a": {"k": 3}}));
    let (stamp, payload) = map.log[0].clone();
    remove(&mut merged.rows, stamp, &payload).unwrap();
    assert_eq!(
        get(&merged.rows, &Path::root()).unwrap().unwrap().to_json(),
        json!({"a": [1, 2]})
    );
}

#[test]
fn insertions_at_one_place_all_stay_and_stand_together() {
    let base = [set("l", json!([0, 9]))];
    let left = [put("l", Some(1), json!(1)), put("l", Some(2), json!(2))];
    let right = [put("l", Some(1), json!(3)), put("l", Some(2), json!(4))];
    let (one, two) = both(&base, &left, &right);
    for merged in [one, two] {
        let list: Vec<i64> = merged["l"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_i64().unwrap())
            .collect();
        let place = |n| list.iter().position(|m| *m == n).unwrap();
        assert_eq!((list.len(), place(0), place(9)), (6, 0, 5));
        assert!(place(1) < place(2) && place(3) < place(4));
    }
}
