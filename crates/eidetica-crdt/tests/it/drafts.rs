//! A single writer sees what plain JSON would show: random edits against a plain JSON value.

use eidetica_crdt::{
    Draft, Edit, EditError, MemRows, Order, Path, Payload, Position, RowSpace, StoreKind, Value,
    Write, get, insert, limits, lower, table_get,
};
use eidetica_crdt::{ElemId, Init, OWN, Op, Scalar};
use eidetica_entry::{Height, Id, Stamp};
use serde_json::{Value as Json, json};

use crate::laws::run;
use crate::line::{at, delete, fields, inc, put, set, shift};
use crate::rng::{Rng, cases};

/// What an edit does to plain JSON; `Err` where it must be refused.
fn on_json(doc: &mut Json, edit: &Edit, path: &str) -> Result<(), ()> {
    let steps: Vec<&str> = path.split('.').collect();
    let (last, above) = steps.split_last().unwrap();
    match edit {
        Edit::Set { value, .. } => put_json(doc, &steps, value.to_json()),
        Edit::Increment { by, .. } => {
            let now = find(doc, &steps)?.map_or(json!(0), |v| v.clone());
            let now = now.as_i64().ok_or(())?;
            put_json(doc, &steps, json!(now + by))
        }
        Edit::ListInsert { index, value, .. } => {
            let list = match find(doc, &steps)? {
                None => {
                    (index.unwrap_or(0) == 0).then_some(()).ok_or(())?;
                    return put_json(doc, &steps, json!([value.to_json()]));
                }
                Some(found) => found.as_array_mut().ok_or(())?,
            };
            let index = index.unwrap_or(list.len());
            (index <= list.len())
                .then(|| list.insert(index, value.to_json()))
                .ok_or(())
        }
        Edit::Delete { .. } => {
            if find(doc, &steps)?.is_none() {
                return Ok(());
            }
            match find(doc, above)? {
                Some(Json::Object(map)) => drop(map.remove(*last)),
                Some(Json::Array(list)) => drop(list.remove(last.parse().unwrap())),
                _ => {}
            }
            Ok(())
        }
        Edit::ListMove { to, .. } => {
            find(doc, &steps)?.ok_or(())?;
            let list = find(doc, above)?.ok_or(())?.as_array_mut().ok_or(())?;
            (*to < list.len()).then_some(()).ok_or(())?;
            let item = list.remove(last.parse().unwrap());
            list.insert(*to, item);
            Ok(())
        }
        other => panic!("{other:?}"),
    }
}

/// What is at a path; `Err` for a step below a list that is no index of it.
fn find<'a>(doc: &'a mut Json, steps: &[&str]) -> Result<Option<&'a mut Json>, ()> {
    let mut at = Some(doc);
    for step in steps {
        at = match at {
            Some(Json::Array(list)) => Some(
                list.get_mut(step.parse::<usize>().map_err(drop)?)
                    .ok_or(())?,
            ),
            Some(Json::Object(map)) => map.get_mut(*step),
            _ => None,
        };
    }
    Ok(at)
}

fn put_json(doc: &mut Json, steps: &[&str], value: Json) -> Result<(), ()> {
    let (last, above) = steps.split_last().unwrap();
    find(doc, above)?;
    let mut at = doc;
    for step in above {
        if !at.is_object() && !at.is_array() {
            *at = json!({});
        }
        at = match at {
            Json::Array(list) => &mut list[step.parse::<usize>().unwrap()],
            at => at
                .as_object_mut()
                .unwrap()
                .entry(*step)
                .or_insert(Json::Null),
        };
    }
    match at {
        Json::Array(list) => {
            let index = last.parse::<usize>().map_err(drop)?;
            match index.cmp(&list.len()) {
                std::cmp::Ordering::Less => list[index] = value,
                std::cmp::Ordering::Equal => list.push(value),
                std::cmp::Ordering::Greater => return Err(()),
            }
        }
        at => {
            if !at.is_object() {
                *at = json!({});
            }
            at.as_object_mut()
                .unwrap()
                .insert((*last).to_owned(), value);
        }
    }
    Ok(())
}

fn random_edit(rng: &mut Rng) -> (Edit, String) {
    let steps = ["a", "b", "0", "1", "2"];
    let mut path = rng.pick(&["a", "b"]).to_string();
    for _ in 0..rng.below(3) {
        path = format!("{path}.{}", rng.pick(&steps));
    }
    let values = [
        json!(1),
        json!("t"),
        json!(null),
        json!({}),
        json!([]),
        json!([1, 2, 3]),
        json!({"a": {"b": 1}, "b": []}),
        json!([[1], {"a": []}]),
    ];
    let value = rng.pick(&values).clone();
    let index = if rng.one_in(3) {
        None
    } else {
        Some(rng.below(3))
    };
    let edit = match rng.below(8) {
        0 | 1 => delete(&path),
        2 => inc(&path, 2),
        3 | 4 => put(&path, index, value),
        5 => shift(&path, rng.below(3)),
        _ => set(&path, value),
    };
    (edit, path)
}

#[test]
fn edits_show_what_plain_json_would() {
    run(cases(1_000), |seed| {
        let mut rng = Rng::new(seed);
        let mut rows = MemRows::new();
        let mut model = json!({});
        let mut draft = Draft::new(StoreKind::Doc, seed);
        let mut height = 1;
        for _ in 0..20 {
            let (edit, path) = random_edit(&mut rng);
            let mut wanted = model.clone();
            let allowed = on_json(&mut wanted, &edit, &path);
            let done = draft.edit(&rows, &edit);
            assert_eq!(
                done.is_ok(),
                allowed.is_ok(),
                "{edit:?} on {model}: {done:?}"
            );
            if allowed.is_ok() {
                model = wanted;
            }
            let seen = get(&draft.view(&rows), &Path::root()).unwrap();
            assert_eq!(
                seen.map_or(json!({}), |v| v.to_json()),
                model,
                "after {edit:?}"
            );
            if rng.one_in(5) {
                let payload = draft.payload(None).unwrap();
                assert_eq!(Payload::decode(&payload.encode()).as_ref(), Ok(&payload));
                insert(
                    &mut rows,
                    Stamp::new(Height(height), Id::new([9; 32])),
                    &payload,
                    Order::NewerThanAll,
                )
                .unwrap();
                let shown = get(&rows, &Path::root()).unwrap();
                assert_eq!(shown.map_or(json!({}), |v| v.to_json()), model, "committed");
                draft = Draft::new(StoreKind::Doc, seed + height);
                height += 1;
            }
        }
    });
}

fn refused(edits: &[Edit]) -> EditError<std::convert::Infallible> {
    lower(&MemRows::new(), StoreKind::Doc, edits, 1).unwrap_err()
}

#[test]
fn edits_that_make_no_sense_are_typed_errors() {
    let list = set("l", json!([1]));
    let scalar = set("s", json!("text"));
    let key = refused(&[list.clone(), set("l.key", json!(1))]);
    assert!(
        matches!(&key, EditError::KeyBelowList { step, .. } if step == "key"),
        "{key}"
    );
    let index = refused(&[list.clone(), set("l.2", json!(1))]);
    assert!(
        matches!(&index, EditError::NoIndex { index: 2, .. }),
        "{index}"
    );
    let into_map = refused(&[set("m.k", json!(1)), put("m", None, json!(1))]);
    assert!(matches!(into_map, EditError::NotAList { .. }));
    assert!(matches!(
        refused(&[scalar.clone(), put("s", None, json!(1))]),
        EditError::NotAList { .. }
    ));
    assert!(matches!(
        refused(&[scalar, inc("s", 1)]),
        EditError::NotANumber { .. }
    ));
    assert!(matches!(
        refused(&[list, inc("l", 1)]),
        EditError::NotANumber { .. }
    ));
    assert!(matches!(
        refused(&[Edit::Set {
            at: at(""),
            value: 1.into()
        }]),
        EditError::Root
    ));
    assert!(matches!(refused(&[delete("")]), EditError::Root));
    let row = Edit::RowDelete { key: "r".into() };
    assert!(matches!(
        refused(std::slice::from_ref(&row)),
        EditError::WrongKind
    ));
    let gone = Edit::RowSet {
        key: "r".into(),
        fields: fields(json!({"f": 1})),
    };
    let error = lower(&MemRows::new(), StoreKind::Table, &[gone], 1).unwrap_err();
    assert!(
        matches!(&error, EditError::NoRow { key } if key == "r"),
        "{error}"
    );
}

#[test]
fn a_value_at_the_depth_limit_fits_and_one_deeper_does_not() {
    let nested = |levels| {
        (0..levels).fold(Value::Int(1), |inner, _| {
            Value::Map([("k", inner)].into_iter().collect())
        })
    };
    let edit = |levels| Edit::Set {
        at: at("a"),
        value: nested(levels),
    };
    let fits = lower(
        &MemRows::new(),
        StoreKind::Doc,
        &[edit(limits::DEPTH - 1)],
        1,
    )
    .unwrap()
    .unwrap();
    assert_eq!(Payload::decode(&fits.encode()), Ok(fits));
    assert!(matches!(
        refused(&[edit(limits::DEPTH)]),
        EditError::TooDeep
    ));
    let row = |levels| Edit::RowInsert {
        key: "r".into(),
        fields: [("f", nested(levels))].into_iter().collect(),
    };
    let fits = lower(&MemRows::new(), StoreKind::Table, &[row(limits::DEPTH)], 1)
        .unwrap()
        .unwrap();
    assert_eq!(Payload::decode(&fits.encode()), Ok(fits));
    let error = lower(
        &MemRows::new(),
        StoreKind::Table,
        &[row(limits::DEPTH + 1)],
        1,
    )
    .unwrap_err();
    assert!(matches!(error, EditError::TooDeep));
}

#[test]
fn a_replacement_clears_every_container_and_a_fresh_value_none() {
    let ops = |edits: &[Edit]| {
        let payload = lower(&MemRows::new(), StoreKind::Doc, edits, 1)
            .unwrap()
            .unwrap();
        payload
            .writes()
            .iter()
            .map(|w| (w.path.to_string(), w.op.clone()))
            .collect::<Vec<_>>()
    };
    let value = json!({"x": {"y": 1}, "e": {}});
    let fresh = ops(&[set("a", value.clone())]);
    assert_eq!(
        fresh,
        [
            ("a.e".into(), Op::Make(eidetica_crdt::Container::Map)),
            ("a.x.y".into(), Op::Set(Scalar::Int(1)))
        ]
    );
    let clear = Op::Clear(eidetica_crdt::Container::Map);
    let over = ops(&[set("a", json!(0)), set("a", value)]);
    let paths: Vec<_> = over
        .iter()
        .filter(|(_, op)| *op == clear)
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(paths, ["a", "a.e", "a.x"]);
}

/// A list whose elements stand at these positions.
fn list_at(positions: &[&[u8]]) -> MemRows {
    let list = Path::of_keys(["l"]).unwrap();
    let write = |(n, position): (usize, &&[u8])| Write {
        path: list
            .elem(ElemId {
                stamp: OWN,
                ordinal: n as u32,
            })
            .unwrap(),
        op: Op::Ins {
            position: Position::from_bytes(position).unwrap(),
            init: Init::Scalar(Scalar::Int(n as i64)),
        },
    };
    let writes = positions.iter().enumerate().map(write).collect();
    let payload = Payload::new(StoreKind::Doc, None, writes).unwrap();
    let mut rows = MemRows::new();
    insert(
        &mut rows,
        Stamp::new(Height(1), Id::new([1; 32])),
        &payload,
        Order::Any,
    )
    .unwrap();
    rows
}

#[test]
fn neighbours_without_room_between_them_are_moved_apart() {
    let top = [255; limits::POSITION_BYTES];
    let tight: [&[&[u8]]; 6] = [
        &[&[5], &[5], &[5], &[5]],
        &[&[5], &[5, 0], &[5, 0, 0], &[5, 0, 0, 0]],
        &[&top, &top, &top],
        &[&[0], &[0], &[0], &[255]],
        &[&[0], &[0, 0]],
        &[&[128], &[128, 1], &top, &top],
    ];
    for positions in tight {
        for index in 0..=positions.len() {
            let mut rows = list_at(positions);
            let mut wanted: Vec<usize> = (0..positions.len()).collect();
            wanted.insert(index, 99);
            let payload = lower(
                &rows,
                StoreKind::Doc,
                &[put("l", Some(index), json!(99))],
                3,
            )
            .unwrap()
            .unwrap();
            insert(
                &mut rows,
                Stamp::new(Height(2), Id::new([2; 32])),
                &payload,
                Order::NewerThanAll,
            )
            .unwrap();
            let shown = get(&rows, &"l".parse().unwrap())
                .unwrap()
                .unwrap()
                .to_json();
            assert_eq!(shown, json!(wanted), "{positions:?} at {index}");
        }
    }
}

#[test]
fn more_neighbours_than_may_be_moved_are_an_error() {
    let fits = vec![&[7u8][..]; limits::MOVED_NEIGHBOURS];
    assert!(
        lower(
            &list_at(&fits),
            StoreKind::Doc,
            &[put("l", Some(3), json!(0))],
            3
        )
        .is_ok()
    );
    let many = vec![&[7u8][..]; 2 * limits::MOVED_NEIGHBOURS + 3];
    let middle = put("l", Some(limits::MOVED_NEIGHBOURS + 1), json!(0));
    let error = lower(&list_at(&many), StoreKind::Doc, &[middle], 3).unwrap_err();
    assert!(matches!(error, EditError::NoRoom { .. }), "{error}");
    assert!(
        lower(
            &list_at(&many),
            StoreKind::Doc,
            &[put("l", None, json!(0))],
            3
        )
        .is_ok()
    );
}

#[test]
fn positions_stay_short_at_both_ends_and_grow_slowly_inside() {
    let mut longest = 0;
    for index in [None, Some(0), Some(1)] {
        let mut rows = MemRows::new();
        let mut draft = Draft::new(StoreKind::Doc, 5);
        draft.edit(&rows, &set("l", json!([1, 2]))).unwrap();
        for n in 0..300 {
            draft.edit(&rows, &put("l", index, json!(n))).unwrap();
        }
        let payload = draft.payload(None).unwrap();
        insert(
            &mut rows,
            Stamp::new(Height(1), Id::new([1; 32])),
            &payload,
            Order::NewerThanAll,
        )
        .unwrap();
        assert_eq!(rows.len(RowSpace::Pos), 302);
        longest = rows
            .iter(RowSpace::Pos)
            .map(|(key, _)| key.len())
            .max()
            .unwrap();
        if index != Some(1) {
            assert!(longest < 60, "{longest}");
        }
    }
    // Bytes 0 and 1 take two in a key.
    assert!(longest < 60 + 2 * limits::POSITION_BYTES, "{longest}");
}

#[test]
fn a_transaction_reads_its_own_rows() {
    let rows = MemRows::new();
    let mut draft = Draft::new(StoreKind::Table, 1);
    let row = |json| Edit::RowInsert {
        key: "r".into(),
        fields: fields(json),
    };
    draft.edit(&rows, &row(json!({"a": 1, "b": 2}))).unwrap();
    draft
        .edit(
            &rows,
            &Edit::RowSet {
                key: "r".into(),
                fields: fields(json!({"a": 5})),
            },
        )
        .unwrap();
    draft
        .edit(
            &rows,
            &Edit::FieldIncrement {
                key: "r".into(),
                field: "a".into(),
                by: 2,
            },
        )
        .unwrap();
    draft
        .edit(
            &rows,
            &Edit::FieldDelete {
                key: "r".into(),
                field: "b".into(),
            },
        )
        .unwrap();
    let seen = table_get(&draft.view(&rows), "r").unwrap().unwrap();
    assert_eq!(seen.to_json(), json!({"a": 7}));
    draft
        .edit(&rows, &Edit::RowDelete { key: "r".into() })
        .unwrap();
    assert_eq!(table_get(&draft.view(&rows), "r").unwrap(), None);
    draft.edit(&rows, &row(json!({"c": [1]}))).unwrap();
    assert_eq!(
        table_get(&draft.view(&rows), "r")
            .unwrap()
            .unwrap()
            .to_json(),
        json!({"c": [1]})
    );
    assert_eq!(draft.payload(None).unwrap().writes().len(), 2);
}
