//! Values: JSON in and out, dotted paths, nesting.

use eidetica_crdt::{
    Doc, DocError, Edit, EditError, JsonError, List, Locator, MemRows, Order, Path, PathError,
    StoreKind, Value, get, insert, keys, limits, list_len, list_page, lower, resolve,
};
use eidetica_entry::{Height, Id, Stamp};
use serde_json::json;

use crate::line::{Line, at, set};

const NASTY: &[&str] = &[
    "",
    " ",
    ".",
    "..",
    "a.b",
    "\\",
    "\\e",
    "\\.",
    "\0",
    "\u{1}",
    "\0\u{1}\0",
    "a\0b",
    "\n\r\t",
    "\u{7f}",
    "\u{1b}[31mred\u{1b}[0m",
    "\u{202e}txt.exe",
    "\u{feff}",
    "\u{fffd}",
    "\u{10ffff}",
    "🦀🇦🇶",
    "e\u{301}",
    "é",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "'; DROP TABLE x; --",
    "null",
    "0",
    "-1",
    "1e309",
    "__proto__",
    "$bytes",
    "\"",
    "{\"a\":1}",
    "ﷺ",
    "a\u{0}",
    "a\u{0}\u{0}",
];

#[test]
fn nasty_strings_survive_as_keys_and_texts() {
    let doc: Doc = NASTY
        .iter()
        .enumerate()
        .map(|(i, text)| (*text, Value::from(NASTY[NASTY.len() - 1 - i])))
        .collect();
    let text = doc.to_json().to_string();
    assert_eq!(Doc::from_json_str(&text).unwrap(), doc);
    let mut line = Line::default();
    line.commit(
        1,
        1,
        &[Edit::Set {
            at: Locator::root(),
            value: Value::Map(doc.clone()),
        }],
    );
    let shown = get(&line.rows, &Path::root()).unwrap();
    assert_eq!(shown, Some(Value::Map(doc.clone())));
    // Rows are in the order of the keys, whatever bytes they have.
    let order = keys(&line.rows, &Path::root(), None, 999).unwrap();
    assert_eq!(order, doc.keys().collect::<Vec<_>>());
    for key in NASTY {
        let path = Path::of_keys([key]).unwrap();
        assert_eq!(get(&line.rows, &path).unwrap().as_ref(), doc.get_key(key));
        assert_eq!(Path::from_bytes(path.as_bytes()), Ok(path.clone()));
        assert_eq!(path.to_string().parse(), Ok(path.clone()), "{key:?}");
        let after = keys(&line.rows, &Path::root(), Some(key), 1).unwrap();
        assert_eq!(
            after.first().map(String::as_str),
            order.iter().find(|k| k.as_str() > *key).map(String::as_str)
        );
    }
}

#[test]
fn no_path_is_a_byte_prefix_of_one_that_is_not_below_it() {
    let mut paths: Vec<Path> = vec![Path::root()];
    for key in NASTY {
        for parent in ["", "a", "a\0"] {
            paths.push(Path::of_keys([parent, key]).unwrap());
        }
        paths.push(Path::of_keys([key]).unwrap());
    }
    for a in &paths {
        for b in &paths {
            let below = b.segments().take(a.depth()).eq(a.segments());
            assert_eq!(b.as_bytes().starts_with(a.as_bytes()), below, "{a:?} {b:?}");
            assert_eq!(a.cmp(b), a.segments().cmp(b.segments()), "{a:?} {b:?}");
        }
    }
}

#[test]
fn dotted_text_is_strict() {
    for text in [
        "a..b", ".", "a.", ".a", "a\\b", "\\", "\\ea", "a\\e", "a.\\",
    ] {
        assert!(
            matches!(text.parse::<Path>(), Err(PathError::Text { .. })),
            "{text}"
        );
    }
    assert_eq!("".parse::<Path>(), Ok(Path::root()));
    assert_eq!("\\u{41}".parse::<Path>(), "A".parse());
    let shown = Path::of_keys(["\u{1b}[31m\u{202e}"]).unwrap().to_string();
    assert_eq!(shown, "\\u{1b}[31m\\u{202e}");
    assert_eq!(
        "a\\.b.\\e.\\\\".parse::<Path>(),
        Path::of_keys(["a.b", "", "\\"])
    );
    assert_eq!(
        vec!["k"; limits::DEPTH + 1].join(".").parse::<Path>(),
        Err(PathError::TooDeep)
    );
}

#[test]
fn numbers_beyond_64_bits_are_refused_and_floats_stay() {
    let doc = Doc::from_json_str(
        r#"{"min": -9223372036854775808, "max": 9223372036854775807, "f": 1e300, "z": -0.0}"#,
    );
    let doc = doc.unwrap();
    assert_eq!(
        (doc.get_as("min"), doc.get_as("max")),
        (Some(i64::MIN), Some(i64::MAX))
    );
    assert_eq!(doc.get_as("f"), Some(1e300));
    assert!(doc.get_as::<f64>("z").unwrap().is_sign_negative());
    for number in ["9223372036854775808", "18446744073709551615"] {
        let refused = Doc::from_json_str(&format!("{{\"n\": {number}}}"));
        assert!(matches!(refused, Err(JsonError::Number { .. })), "{number}");
    }
    assert!(matches!(
        Doc::from_json_str("[]"),
        Err(JsonError::NotAnObject)
    ));
    assert!(matches!(Doc::from_json_str("{"), Err(JsonError::Syntax(_))));
}

#[test]
fn bytes_and_unusual_floats_have_a_json_form() {
    let doc: Doc = [
        ("b", Value::Bytes(vec![0, 255])),
        ("n", f64::NAN.into()),
        ("i", f64::INFINITY.into()),
    ]
    .into_iter()
    .collect();
    assert_eq!(doc.to_json(), json!({"b": "AP8=", "n": null, "i": null}));
}

#[test]
fn json_nested_a_million_deep_is_refused_in_a_small_stack() {
    let text = format!(
        "{{\"a\":{}{}}}",
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    let parse = move || Doc::from_json_str(&text).is_err();
    let thread = std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(parse)
        .unwrap();
    assert!(thread.join().unwrap());
    let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(Doc::from_json_str(&nested(limits::DEPTH - 1)).is_ok());
    assert!(matches!(
        Doc::from_json_str(&nested(limits::DEPTH)),
        Err(JsonError::TooDeep)
    ));
}

#[test]
fn a_program_may_nest_a_million_deep_but_not_store_it() {
    let run = || {
        let mut doc = Doc::new();
        let mut list = List::new();
        for _ in 0..1_000_000 {
            let mut outer = Doc::new();
            outer.set_doc("k", std::mem::take(&mut doc));
            doc = outer;
            let inner = Value::List(std::mem::take(&mut list));
            list.push(inner);
        }
        let edit = Edit::Set {
            at: at("a"),
            value: Value::Map(doc),
        };
        let refused = lower(&MemRows::new(), StoreKind::Doc, &[edit], 1);
        assert!(matches!(refused, Err(EditError::TooDeep)));
    };
    std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_path_a_million_deep_is_refused_in_a_small_stack() {
    let run = || {
        assert!(matches!(
            Path::from_bytes(&[1, 0].repeat(1_000_000)),
            Err(PathError::TooLong { .. })
        ));
        assert_eq!(
            Path::from_bytes(&[1, 0].repeat(limits::DEPTH + 1)),
            Err(PathError::TooDeep)
        );
        assert_eq!(
            vec!["k"; 1_000_000].join(".").parse::<Path>(),
            Err(PathError::TooDeep)
        );
        assert!(Doc::new().set(&vec!["k"; 1_000_000].join("."), 1).is_err());
    };
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn documents_take_dotted_paths() {
    let mut doc = Doc::new();
    doc.set_string("name", "tasks").set_doc("auth", Doc::new());
    doc.set_json("list", json!([{"x": 1}, 2])).unwrap();
    doc.set("list.0.y.z", true).unwrap();
    doc.set("list.2", "end").unwrap();
    doc.set("name.now.a", "map").unwrap();
    assert_eq!(doc.get_as::<&str>("name.now.a"), Some("map"));
    assert_eq!(doc.get_as::<bool>("list.0.y.z"), Some(true));
    assert_eq!(
        doc.get("list")
            .and_then(Value::as_list)
            .map(|list| list.len()),
        Some(3)
    );
    let index = doc.set("list.4", 1).unwrap_err();
    assert_eq!(
        index,
        DocError::NoIndex {
            step: "4".into(),
            len: 3
        }
    );
    assert!(matches!(
        doc.set("list.key", 1),
        Err(DocError::NoIndex { .. })
    ));
    assert!(matches!(doc.set("", 1), Err(DocError::EmptyPath)));
    assert_eq!(doc.remove("list.1"), Some(Value::Int(2)));
    assert_eq!(doc.get_as::<String>("list.1").as_deref(), Some("end"));
    assert_eq!(doc.remove("list.9"), None);
    doc.insert("a.b", 1);
    assert_eq!(
        (doc.get("a.b"), doc.get("a\\.b")),
        (None, Some(&Value::Int(1)))
    );
    assert_eq!(
        i64::try_from(&Value::Null).unwrap_err().to_string(),
        "the value is not a whole number"
    );
}

#[test]
fn lists_are_read_by_index_and_by_page() {
    let mut line = Line::default();
    line.commit(1, 1, &[set("l", json!([0, {"k": [1]}, 2, 3]))]);
    let list = "l".parse().unwrap();
    assert_eq!(list_len(&line.rows, &list).unwrap(), 4);
    let page = list_page(&line.rows, &list, 1, 2).unwrap();
    let items: Vec<_> = page
        .items
        .iter()
        .map(|(_, value)| value.to_json())
        .collect();
    assert_eq!(
        (items, page.more),
        (vec![json!({"k": [1]}), json!(2)], true)
    );
    assert!(!list_page(&line.rows, &list, 2, 2).unwrap().more);
    let inner = resolve(&line.rows, &at("l.1.k.0")).unwrap().unwrap();
    assert_eq!(get(&line.rows, &inner).unwrap(), Some(Value::Int(1)));
    assert_eq!(resolve(&line.rows, &at("l.4")).unwrap(), None);
    assert_eq!(resolve(&line.rows, &at("l.k")).unwrap(), None);
    assert_eq!(
        resolve(&line.rows, &at("no.0")).unwrap(),
        Some("no.0".parse().unwrap())
    );
    assert_eq!(
        list_page(&line.rows, &Path::root(), 0, 9).unwrap().items,
        []
    );
}

#[test]
fn a_counter_clamps_and_comes_back() {
    let mut line = Line::default();
    let inc = |by| crate::line::inc("n", by);
    line.commit(1, 1, &[inc(i64::MAX)])
        .commit(2, 2, &[inc(i64::MAX)]);
    assert_eq!(line.json(), json!({"n": i64::MAX}));
    line.commit(3, 3, &[inc(-i64::MAX)]);
    assert_eq!(
        get(&line.rows, &"n".parse().unwrap()).unwrap(),
        Some(Value::Counter(i64::MAX))
    );
    line.commit(4, 4, &[set("n", json!(0.5))])
        .commit(5, 5, &[inc(2)]);
    assert_eq!(line.json(), json!({"n": 2.5}));
}

#[test]
fn an_empty_payload_changes_nothing() {
    let payload = eidetica_crdt::Payload::new(StoreKind::Doc, None, Vec::new()).unwrap();
    let mut rows = MemRows::new();
    insert(
        &mut rows,
        Stamp::new(Height(1), Id::new([1; 32])),
        &payload,
        Order::Any,
    )
    .unwrap();
    assert_eq!(get(&rows, &Path::root()).unwrap(), None);
}
