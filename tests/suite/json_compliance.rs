//! The rules of RFC 6901 (pointers), RFC 6902 (patches), RFC 7396 (merge patches) and RFC 9535 (queries), case by case.
#![allow(clippy::too_many_lines, reason = "the cases are tables")]

use crate::support::{in_memory, on_tokio};
use in_mem::prelude::*;
use serde_json::{Value as Json, json};

/// A fresh document for every case, and what became of it.
async fn changed<F, T>(run: &RunHandle, document: &Json, change: impl Fn(RunJson) -> F) -> Result<Json>
where
    F: Future<Output = Result<T>>,
{
    let json = run.json();
    json.delete("d").await?;
    json.create("d", document.clone()).await?;
    let result = change(json.clone()).await;
    let after = json.get("d", "").await?.unwrap();
    if result.is_err() {
        assert_eq!(after.to_string(), document.to_string(), "what failed has changed nothing");
    }
    result.map(|_| after)
}

#[test]
fn pointers() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        // RFC 6901, section 5, in spirit: every awkward key, and what an index may look like.
        let document = json!({
            "list": ["x", "y", ["z"]], "": 0, "s/l": 1, "p%c": 2, "h^t": 3, "b|r": 4, "bs\\": 5, "q\"t": 6, " ": 7,
            "t~e": 8, "~1": 9, "0": "zero", "obj": {"": {"": "deep"}, "1": "key"}, "ü": "u", "\u{0}": "nul",
        });
        run.json().create("d", document.clone()).await.unwrap();
        let cases = [
            ("", Some(document.clone())),
            ("/list", Some(json!(["x", "y", ["z"]]))),
            ("/list/0", Some(json!("x"))),
            ("/list/2/0", Some(json!("z"))),
            ("/", Some(json!(0))),
            ("/s~1l", Some(json!(1))),
            ("/p%c", Some(json!(2))),
            ("/h^t", Some(json!(3))),
            ("/b|r", Some(json!(4))),
            ("/bs\\", Some(json!(5))),
            ("/q\"t", Some(json!(6))),
            ("/ ", Some(json!(7))),
            ("/t~0e", Some(json!(8))),
            ("/~01", Some(json!(9))),
            ("/0", Some(json!("zero"))),
            ("/obj//", Some(json!("deep"))),
            ("/obj/1", Some(json!("key"))),
            ("/ü", Some(json!("u"))),
            ("/\u{0}", Some(json!("nul"))),
            ("/list/3", None),
            ("/list/-", None),
            ("/list/00", None),
            ("/list/01", None),
            ("/list/+1", None),
            ("/list/-1", None),
            ("/list/1e0", None),
            ("/list/1.0", None),
            ("/list/ 1", None),
            ("/list/99999999999999999999", None),
            ("/list/0/0", None),
            ("/none", None),
            ("//", None),
        ];
        for (pointer, expected) in cases {
            assert_eq!(run.json().get("d", pointer).await.unwrap(), expected, "{pointer:?}");
        }
        for bad in ["/~", "/~2", "/a~", "/~~0"] {
            assert!(matches!(run.json().get("d", bad).await, Err(Error::InvalidOperation(_))), "{bad:?}");
        }
    });
}

#[test]
fn patches() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let cases = [
            // add
            (json!({}), json!([{"op": "add", "path": "/a", "value": 1}]), Some(json!({"a": 1}))),
            (json!({"a": 1}), json!([{"op": "add", "path": "/a", "value": 2}]), Some(json!({"a": 2}))),
            (json!({"a": null}), json!([{"op": "add", "path": "/a", "value": 2}]), Some(json!({"a": 2}))),
            (json!({}), json!([{"op": "add", "path": "/", "value": 2}]), Some(json!({"": 2}))),
            (json!({}), json!([{"op": "add", "path": "/a/b", "value": 2}]), None),
            (json!([1, 2]), json!([{"op": "add", "path": "/0", "value": 0}]), Some(json!([0, 1, 2]))),
            (json!([1, 2]), json!([{"op": "add", "path": "/1", "value": 0}]), Some(json!([1, 0, 2]))),
            (json!([1, 2]), json!([{"op": "add", "path": "/2", "value": 0}]), Some(json!([1, 2, 0]))),
            (json!([1, 2]), json!([{"op": "add", "path": "/-", "value": [0]}]), Some(json!([1, 2, [0]]))),
            (json!([1, 2]), json!([{"op": "add", "path": "/3", "value": 0}]), None),
            (json!([1, 2]), json!([{"op": "add", "path": "/-1", "value": 0}]), None),
            (json!([1, 2]), json!([{"op": "add", "path": "/01", "value": 0}]), None),
            (json!([1, 2]), json!([{"op": "add", "path": "/x", "value": 0}]), None),
            (json!({"a": 1}), json!([{"op": "add", "path": "/a/b", "value": 0}]), None),
            (json!({"a": 1}), json!([{"op": "add", "path": "", "value": [1]}]), Some(json!([1]))),
            (json!({"0": 1}), json!([{"op": "add", "path": "/1", "value": 2}]), Some(json!({"0": 1, "1": 2}))),
            (json!({}), json!([{"op": "add", "path": "/a", "value": null}]), Some(json!({"a": null}))),
            // remove
            (json!({"a": 1, "b": 2, "c": 3}), json!([{"op": "remove", "path": "/a"}]), Some(json!({"b": 2, "c": 3}))),
            (json!([1, 2, 3]), json!([{"op": "remove", "path": "/1"}]), Some(json!([1, 3]))),
            (json!({"a": [{"b": 1}]}), json!([{"op": "remove", "path": "/a/0/b"}]), Some(json!({"a": [{}]}))),
            (json!({"a": 1}), json!([{"op": "remove", "path": "/b"}]), None),
            (json!([1]), json!([{"op": "remove", "path": "/1"}]), None),
            (json!([1]), json!([{"op": "remove", "path": "/-"}]), None),
            (json!([1]), json!([{"op": "remove", "path": "/00"}]), None),
            // replace
            (
                json!({"a": 1, "b": 2}),
                json!([{"op": "replace", "path": "/a", "value": [3]}]),
                Some(json!({"a": [3], "b": 2})),
            ),
            (json!([1, 2]), json!([{"op": "replace", "path": "/1", "value": null}]), Some(json!([1, null]))),
            (json!({"a": 1}), json!([{"op": "replace", "path": "", "value": 5}]), Some(json!(5))),
            (json!({"a": 1}), json!([{"op": "replace", "path": "/b", "value": 5}]), None),
            (json!([1]), json!([{"op": "replace", "path": "/1", "value": 5}]), None),
            (json!([1]), json!([{"op": "replace", "path": "/-", "value": 5}]), None),
            // move
            (
                json!({"a": {"b": 1}, "c": {}}),
                json!([{"op": "move", "from": "/a/b", "path": "/c/d"}]),
                Some(json!({"a": {}, "c": {"d": 1}})),
            ),
            (json!([1, 2, 3]), json!([{"op": "move", "from": "/0", "path": "/2"}]), Some(json!([2, 3, 1]))),
            (json!([1, 2, 3]), json!([{"op": "move", "from": "/2", "path": "/0"}]), Some(json!([3, 1, 2]))),
            (json!([1, 2, 3]), json!([{"op": "move", "from": "/0", "path": "/3"}]), None),
            (json!([1, 2, 3]), json!([{"op": "move", "from": "/0", "path": "/-"}]), Some(json!([2, 3, 1]))),
            (json!({"a": 1}), json!([{"op": "move", "from": "/a", "path": "/a"}]), Some(json!({"a": 1}))),
            (json!({"a": {"b": {}}}), json!([{"op": "move", "from": "/a", "path": "/a/b"}]), None),
            (json!({"a": {"b": 1}}), json!([{"op": "move", "from": "/a/b", "path": "/a"}]), Some(json!({"a": 1}))),
            (json!({"a": 1}), json!([{"op": "move", "from": "/x", "path": "/a"}]), None),
            (json!({"a": 1, "ab": 2}), json!([{"op": "move", "from": "/a", "path": "/ab"}]), Some(json!({"ab": 1}))),
            // copy
            (json!({"a": [1]}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), Some(json!({"a": [1], "b": [1]}))),
            (json!({"a": [1]}), json!([{"op": "copy", "from": "/a", "path": "/a/0"}]), Some(json!({"a": [[1], 1]}))),
            (json!({"a": 1}), json!([{"op": "copy", "from": "", "path": "/b"}]), Some(json!({"a": 1, "b": {"a": 1}}))),
            (json!({"a": 1}), json!([{"op": "copy", "from": "/x", "path": "/b"}]), None),
            // test
            (
                json!({"a": {"x": 1, "y": [2]}}),
                json!([{"op": "test", "path": "/a", "value": {"y": [2.0], "x": 1}}]),
                Some(json!({"a": {"x": 1, "y": [2]}})),
            ),
            (json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": "1"}]), None),
            (json!({"a": null}), json!([{"op": "test", "path": "/a", "value": null}]), Some(json!({"a": null}))),
            (json!({"a": null}), json!([{"op": "test", "path": "/b", "value": null}]), None),
            (json!([1, 2]), json!([{"op": "test", "path": "", "value": [2, 1]}]), None),
            (json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": {}}]), None),
            // in order, all or nothing
            (
                json!({"a": 1}),
                json!([{"op": "add", "path": "/b", "value": {}}, {"op": "add", "path": "/b/c", "value": 1}, {"op": "remove", "path": "/a"}]),
                Some(json!({"b": {"c": 1}})),
            ),
            (json!({"a": 1}), json!([{"op": "remove", "path": "/a"}, {"op": "test", "path": "/a", "value": 1}]), None),
            (
                json!({"a": 1}),
                json!([{"op": "add", "path": "", "value": {"b": 1}}, {"op": "add", "path": "/c", "value": 2}]),
                Some(json!({"b": 1, "c": 2})),
            ),
            (json!({"a": 1}), json!([]), Some(json!({"a": 1}))),
            (
                json!({"a/b": 1, "m~n": 2}),
                json!([{"op": "remove", "path": "/a~1b"}, {"op": "replace", "path": "/m~0n", "value": 3}]),
                Some(json!({"m~n": 3})),
            ),
            (
                json!({"a": 1}),
                json!([{"op": "add", "path": "/b", "value": 2, "unknown": true}]),
                Some(json!({"a": 1, "b": 2})),
            ),
        ];
        for (document, operations, expected) in cases {
            let patch: json_patch::Patch = serde_json::from_value(operations.clone()).unwrap();
            let after = changed(&run, &document, |json| json.patch("d", patch.clone())).await;
            let found = after.as_ref().ok().map(ToString::to_string);
            assert_eq!(found, expected.map(|expected| expected.to_string()), "{document} {operations} {after:?}");
        }
        for malformed in [
            json!([{"op": "spam", "path": "/a"}]),
            json!([{"op": "add", "path": "/a"}]),
            json!([{"op": "add", "value": 1}]),
            json!([{"op": "move", "path": "/a"}]),
            json!([{"op": "add", "path": "a", "value": 1}]),
            json!({"op": "add"}),
        ] {
            assert!(serde_json::from_value::<json_patch::Patch>(malformed.clone()).is_err(), "{malformed}");
        }
    });
}

#[test]
fn merge_patches() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": 1, "b": 2, "c": 3}), json!({"a": null}), json!({"b": 2, "c": 3})),
            (json!({"a": "b"}), json!({"none": null}), json!({"a": "b"})),
            (json!({"a": [1]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": [1, null]}), json!({"a": [1, null]})),
            (json!({"a": {"b": "c", "d": 1}}), json!({"a": {"b": "e", "d": null}}), json!({"a": {"b": "e"}})),
            (json!({"a": [{"b": 1}]}), json!({"a": [2]}), json!({"a": [2]})),
            (json!([1, 2]), json!([3]), json!([3])),
            (json!({"a": 1}), json!([null]), json!([null])),
            (json!({"a": 1}), json!(null), json!(null)),
            (json!({"a": 1}), json!("text"), json!("text")),
            (json!({"a": null}), json!({"b": 1}), json!({"a": null, "b": 1})),
            (json!([1]), json!({"a": 1, "b": null}), json!({"a": 1})),
            (json!({}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
            (json!({"a": 1}), json!({"a": {"b": {"c": null, "d": 2}}}), json!({"a": {"b": {"d": 2}}})),
            (json!({"a": {"b": 1}}), json!({"a": {}}), json!({"a": {"b": 1}})),
            (json!({"a": 1}), json!({}), json!({"a": 1})),
            (json!(5), json!({}), json!({})),
        ];
        for (document, patch, expected) in cases {
            let after = changed(&run, &document, |json| json.merge("d", patch.clone())).await.unwrap();
            assert_eq!(after.to_string(), expected.to_string(), "{document} {patch}");
        }
    });
}

#[test]
fn queries() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let document = json!({
            "items": [
                {"name": "pen", "price": 2, "tags": ["a", "b"]},
                {"name": "ink", "price": 8.5, "tags": []},
                {"name": "pad", "price": 8.5, "old": true},
                {"name": "ünï", "tags": null},
            ],
            "n": {"x": {"x": 1}, "y": [1, [2, 3]]},
            "k ey": 1, "'": 2, "": 3,
        });
        run.json().create("d", document.clone()).await.unwrap();
        let names = |names: &[&str]| names.iter().map(|name| json!(name)).collect::<Vec<_>>();
        let cases = [
            ("$", vec![document.clone()]),
            // names, wildcards, indexes, unions
            ("$.items[0].name", names(&["pen"])),
            ("$['k ey']", vec![json!(1)]),
            (r"$['\'']", vec![json!(2)]),
            ("$['']", vec![json!(3)]),
            (r#"$["n"]["x"]["x"]"#, vec![json!(1)]),
            (r"$.items[3]['name', 'none', 'tags']", vec![json!("ünï"), json!(null)]),
            ("$.items[-1].name", names(&["ünï"])),
            ("$.items[9]", vec![]),
            ("$.items[-9]", vec![]),
            ("$.items['0']", vec![]),
            ("$.n[0]", vec![]),
            ("$.items[*].name", names(&["pen", "ink", "pad", "ünï"])),
            ("$.n.y.*", vec![json!(1), json!([2, 3])]),
            ("$.items[2, 0, 2].name", names(&["pad", "pen", "pad"])),
            // slices
            ("$.items[1:3].name", names(&["ink", "pad"])),
            ("$.items[:2].name", names(&["pen", "ink"])),
            ("$.items[-2:].name", names(&["pad", "ünï"])),
            ("$.items[::2].name", names(&["pen", "pad"])),
            ("$.items[::-1].name", names(&["ünï", "pad", "ink", "pen"])),
            ("$.items[3:0:-2].name", names(&["ünï", "ink"])),
            ("$.items[::0]", vec![]),
            ("$.items[5:9]", vec![]),
            // descendants
            ("$..x", vec![json!({"x": 1}), json!(1)]),
            ("$.n.y..[0]", vec![json!(1), json!(2)]),
            ("$.n.y..*", vec![json!(1), json!([2, 3]), json!(2), json!(3)]),
            // filters
            ("$.items[?@.price == 8.5].name", names(&["ink", "pad"])),
            ("$.items[?@.price < 5].name", names(&["pen"])),
            ("$.items[?@.price >= 2 && !@.old].name", names(&["pen", "ink"])),
            ("$.items[?@.old || @.name == 'pen'].name", names(&["pen", "pad"])),
            ("$.items[?@.tags].name", names(&["pen", "ink", "ünï"])),
            ("$.items[?@.tags == null].name", names(&["ünï"])),
            ("$.items[?@.none == @.missing].name", names(&["pen", "ink", "pad", "ünï"])),
            ("$.items[?@.name > 'pb'].name", names(&["pen", "ünï"])),
            ("$.items[?@.price == 2.0].name", names(&["pen"])),
            ("$.items[?@.price == $.items[0].price].name", names(&["pen"])),
            ("$.items[?@.tags[?@ == 'b']].name", names(&["pen"])),
            ("$.items[?@.price < 'a']", vec![]),
            // functions
            ("$.items[?length(@.name) == 3].name", names(&["pen", "ink", "pad", "ünï"])),
            ("$.items[?length(@.tags) == 0].name", names(&["ink"])),
            ("$.items[?count(@.*) == 2].name", names(&["ünï"])),
            ("$.items[?match(@.name, 'p.*')].name", names(&["pen", "pad"])),
            ("$.items[?match(@.name, 'e')].name", names(&[])),
            ("$.items[?search(@.name, '[ae]n')].name", names(&["pen"])),
            ("$.items[?value(@..price) == 2].name", names(&["pen"])),
        ];
        for (query, expected) in cases {
            assert_eq!(run.json().query("d", query).await.unwrap(), expected, "{query}");
        }
        for malformed in [
            "",
            "items",
            "$.",
            "$..",
            "$[",
            "$[01]",
            "$[-0]",
            "$[1.0]",
            "$['a]",
            "$.items[?]",
            "$ ",
            " $",
            "$.items[?@.a = 1]",
            "$.items[?length(@.name)]",
            "$.items[?count(@.name) ]",
            "$.items[?nofunction(@.a)]",
            "$[9007199254740992]",
            "$.items[?@.a == @.*]",
            "$[1:2:3:4]",
            "$.1a",
            "$[\u{7}]",
        ] {
            let result = run.json().query("d", malformed).await;
            assert!(matches!(result, Err(Error::InvalidOperation(_))), "{malformed:?} {result:?}");
        }
    });
}
