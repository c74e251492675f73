//! Path diff: where two JSON documents differ.
//!
//! - A difference is at a path (JSON Pointer, RFC 6901), which leads to the one side in the first document, to the other in
//!   the second, and nowhere where a side is missing.
//! - Objects differ member by member, arrays place by place; anything else, as a whole.

use std::collections::BTreeSet;

use serde_json::Value as Json;

/// One place at which two documents differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PathDiff {
    /// Empty: the whole document.
    pub(crate) path: String,
    pub(crate) a: Option<Json>,
    pub(crate) b: Option<Json>,
}

/// The places at which two documents differ, members in the order of their names; none if they are equal.
pub(crate) fn path_diff(a: &Json, b: &Json) -> Vec<PathDiff> {
    let mut found = Vec::new();
    compare(&mut String::new(), Some(a), Some(b), &mut found);
    found
}

fn compare(path: &mut String, a: Option<&Json>, b: Option<&Json>, found: &mut Vec<PathDiff>) {
    match (a, b) {
        (Some(Json::Object(a)), Some(Json::Object(b))) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                below(path, &escaped, |path| compare(path, a.get(name), b.get(name), found));
            }
        }
        (Some(Json::Array(a)), Some(Json::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                below(path, &index.to_string(), |path| compare(path, a.get(index), b.get(index), found));
            }
        }
        (a, b) if a != b => found.push(PathDiff { path: path.clone(), a: a.cloned(), b: b.cloned() }),
        _ => {}
    }
}

/// Looks one level deeper.
fn below(path: &mut String, segment: &str, look: impl FnOnce(&mut String)) {
    let len = path.len();
    path.push('/');
    path.push_str(segment);
    look(path);
    path.truncate(len);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shown(a: &Json, b: &Json) -> Vec<(String, Json, Json)> {
        let side = |side: Option<Json>| side.unwrap_or_else(|| json!("(missing)"));
        path_diff(a, b).into_iter().map(|diff| (diff.path, side(diff.a), side(diff.b))).collect()
    }

    #[test]
    fn only_what_differs_is_named_and_by_its_path() {
        let a = json!({"same": [1, {"x": 2}], "list": [1, 2, 3], "a/b": {"~": 1}, "gone": {"deep": 0}, "": null});
        let b = json!({"same": [1, {"x": 2}], "list": [1, 5], "a/b": {"~": 2}, "new": [], "": {}});
        let expected = [
            ("/".into(), json!(null), json!({})),
            ("/a~1b/~0".into(), json!(1), json!(2)),
            ("/gone".into(), json!({"deep": 0}), json!("(missing)")),
            ("/list/1".into(), json!(2), json!(5)),
            ("/list/2".into(), json!(3), json!("(missing)")),
            ("/new".into(), json!("(missing)"), json!([])),
        ];
        assert_eq!(shown(&a, &b), expected);
    }

    #[test]
    fn documents_of_another_kind_differ_as_a_whole() {
        for (a, b) in [(json!([1]), json!({"0": 1})), (json!("1"), json!(1)), (json!(1), json!(1.0))] {
            assert_eq!(shown(&a, &b), [(String::new(), a, b)]);
        }
        assert_eq!(shown(&json!({}), &json!({})), []);
    }

    fn documents() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![Just(Json::Null), (0..3).prop_map(Json::from), "[a~/]{0,2}".prop_map(Json::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("[a~/]{0,2}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        /// Each path leads to what is said to be there, and the other way round everything is mirrored.
        #[test]
        fn paths_lead_to_the_differences(a in documents(), b in documents()) {
            let found = path_diff(&a, &b);
            prop_assert_eq!(found.is_empty(), a == b);
            for diff in &found {
                prop_assert_eq!(a.pointer(&diff.path), diff.a.as_ref());
                prop_assert_eq!(b.pointer(&diff.path), diff.b.as_ref());
                prop_assert_ne!(&diff.a, &diff.b);
            }
            let mirrored: Vec<_> =
                path_diff(&b, &a).into_iter().map(|diff| PathDiff { a: diff.b, b: diff.a, ..diff }).collect();
            prop_assert_eq!(mirrored, found);
        }
    }
}
