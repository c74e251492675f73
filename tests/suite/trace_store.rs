//! Traces: every operation and its edges.

use crate::support::{BUFFERED, directory, in_memory, on_tokio, open};
use futures::StreamExt;
use in_mem::prelude::*;

/// One of every type.
fn every_type() -> Vec<TraceType> {
    let text = |text: &str| text.to_owned();
    vec![
        TraceType::ToolCall {
            tool_name: text("grep"),
            arguments: vec!["-n", "x"].into(),
            result: Some("3 lines".into()),
            duration_ms: Some(u64::MAX),
        },
        TraceType::Decision {
            question: text("which?"),
            options: vec![text("a"), text("b")],
            chosen: text("a"),
            reasoning: None,
        },
        TraceType::Query { query_type: text("web"), query: text("rust"), results_count: Some(3) },
        TraceType::Thought { content: text("so"), confidence: Some(0.5) },
        TraceType::Error { error_type: text("io"), message: text("gone"), recoverable: true },
        TraceType::Custom { name: text("plan"), data: 1.into() },
    ]
}

async fn record(run: &RunHandle, name: &str, tags: &[&str]) -> String {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    run.traces().record(name.into(), tags, Value::Null).await.unwrap()
}

async fn child(run: &RunHandle, parent: &str, name: &str) -> String {
    run.traces().record_child(parent, name.into(), vec![], Value::Null).await.unwrap()
}

fn ids(traces: &[Trace]) -> Vec<&str> {
    traces.iter().map(|trace| trace.id.as_str()).collect()
}

#[test]
fn a_trace_of_any_type_is_read_back_as_it_was_even_from_disk() {
    on_tokio(async {
        let directory = directory();
        let run = RunId::new();
        let database = open(directory.path(), BUFFERED, 2).await;
        let mut recorded = Vec::new();
        for trace_type in every_type() {
            let tags = vec!["one".to_owned(), "two".to_owned()];
            let id = database.traces().record(run, trace_type.clone(), tags.clone(), "more").await.unwrap();
            let trace = database.traces().get(run, &id).await.unwrap().unwrap();
            assert_eq!((&trace.id, &trace.trace_type, &trace.tags), (&id, &trace_type, &tags));
            assert_eq!((&trace.parent_id, &trace.metadata), (&None, &Value::from("more")));
            let text = serde_json::to_string(&trace).unwrap();
            assert_eq!(serde_json::from_str::<Trace>(&text).unwrap(), trace);
            recorded.push(trace);
        }
        assert!(recorded.is_sorted_by(|a, b| a.id < b.id && a.timestamp <= b.timestamp));
        database.close().await.unwrap();
        let database = open(directory.path(), BUFFERED, 1).await;
        let traces = database.traces();
        assert_eq!(traces.query_by_time(run, i64::MIN..i64::MAX).await.unwrap(), recorded);
        assert_eq!(traces.count(run).await.unwrap(), 6);
        assert_eq!(traces.query_by_tag(run, "two").await.unwrap(), recorded);
        let id = traces.record(run, "later".into(), vec![], Value::Null).await.unwrap();
        assert!(id > recorded[5].id, "ids go on rising after reopening");
        let mut call = every_type().remove(0);
        if let TraceType::ToolCall { result, .. } = &mut call {
            *result = Some(Value::Null);
        }
        let id = traces.record(run, call.clone(), vec![], Value::Null).await.unwrap();
        database.close().await.unwrap();
        let database = open(directory.path(), BUFFERED, 2).await;
        let read = database.traces().get(run, id).await.unwrap().unwrap();
        assert_eq!(read.trace_type, call, "the result null is not the same as no result");
    });
}

#[test]
fn traces_are_found_by_exactly_their_kind() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let mut types = every_type();
        for name in ["ToolCall", "plan", "planning", "Custom", "Custom:plan"] {
            types.push(TraceType::from(name));
        }
        for trace_type in &types {
            run.traces().record(trace_type.clone(), vec![], Value::Null).await.unwrap();
        }
        let kinds = async |kind: &str| {
            let found = run.traces().query_by_type(kind).await.unwrap();
            assert!(found.is_sorted_by(|a, b| a.id < b.id));
            found.iter().map(|trace| trace.trace_type.kind()).collect::<Vec<_>>()
        };
        for kind in ["ToolCall", "Decision", "Query", "Thought", "Error"] {
            assert_eq!(kinds(kind).await, [kind]);
        }
        assert_eq!(kinds("Custom:ToolCall").await, ["Custom:ToolCall"]);
        assert_eq!(kinds("Custom:plan").await, ["Custom:plan", "Custom:plan"]);
        assert_eq!(kinds("Custom:Custom").await, ["Custom:Custom"]);
        assert_eq!(kinds("Custom:Custom:plan").await, ["Custom:Custom:plan"]);
        assert_eq!(kinds("Custom").await.len(), 6);
        assert!(kinds("plan").await.is_empty());
        assert!(kinds("Custom:").await.is_empty());
        assert!(kinds("toolcall").await.is_empty());
    });
}

#[test]
fn a_tag_matches_itself_and_nothing_that_looks_like_it() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let tagged = [
            record(&run, "t", &["a"]).await,
            record(&run, "t", &["a__b"]).await,
            record(&run, "t", &["a", "b", "a"]).await,
            record(&run, "t", &["a\u{0}"]).await,
            record(&run, "t", &[]).await,
        ];
        let found = async |tag: &str| {
            let found = database.traces().query_by_tag(run.id(), tag).await.unwrap();
            found.into_iter().map(|trace| tagged.iter().position(|id| *id == trace.id).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found("a").await, [0, 2]);
        assert_eq!(found("a__b").await, [1]);
        assert_eq!(found("b").await, [2]);
        assert_eq!(found("a\u{0}").await, [3]);
        assert!(found("a__").await.is_empty());
        assert_eq!(run.traces().get(&tagged[2]).await.unwrap().unwrap().tags, ["a", "b", "a"]);
    });
}

#[test]
fn traces_are_found_by_their_time_from_start_up_to_but_not_including_end() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        for _ in 0..50 {
            record(&run, "t", &[]).await;
        }
        let all = run.traces().query_by_time(i64::MIN..i64::MAX).await.unwrap();
        assert_eq!(all.len(), 50);
        let (first, middle, last) = (all[0].timestamp, all[25].timestamp, all[49].timestamp);
        let outside = [-5..0, i64::MIN..first, last + 1..i64::MAX];
        for range in [first..last, first..last + 1, middle..middle, middle..middle + 1, middle..i64::MAX]
            .into_iter()
            .chain(outside)
        {
            let expected: Vec<_> = all.iter().filter(|trace| range.contains(&trace.timestamp)).cloned().collect();
            assert_eq!(run.traces().query_by_time(range).await.unwrap(), expected);
        }
        let (start, end) = (last, first);
        assert!(run.traces().query_by_time(start..end).await.unwrap().is_empty());
    });
}

#[test]
fn traces_form_trees() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let traces = run.traces();
        let root = record(&run, "root", &[]).await;
        let left = child(&run, &root, "left").await;
        let other_root = record(&run, "other", &[]).await;
        let right = child(&run, &root, "right").await;
        let leaf = child(&run, &left, "leaf").await;
        assert_eq!(ids(&traces.get_roots().await.unwrap()), [&root, &other_root]);
        assert_eq!(ids(&traces.get_children(&root).await.unwrap()), [&left, &right]);
        assert_eq!(ids(&traces.get_children(&left).await.unwrap()), [&leaf]);
        assert!(traces.get_children(&leaf).await.unwrap().is_empty());
        assert!(traces.get_children("nothing").await.unwrap().is_empty());
        assert_eq!(traces.get(&leaf).await.unwrap().unwrap().parent_id, Some(left.clone()));
        let tree = database.traces().get_tree(run.id(), &root).await.unwrap().unwrap();
        let shape = |tree: &TraceTree| tree.children.iter().map(|child| child.trace.id.clone()).collect::<Vec<_>>();
        assert_eq!((&tree.trace.id, shape(&tree)), (&root, vec![left.clone(), right]));
        assert_eq!((shape(&tree.children[0]), shape(&tree.children[1])), (vec![leaf], vec![]));
        let tree = traces.get_tree(&left).await.unwrap().unwrap();
        assert_eq!((tree.trace.parent_id, tree.children.len()), (Some(root), 1));
        assert_eq!(traces.get_tree(&other_root).await.unwrap().unwrap().children, []);
        assert_eq!(traces.get_tree("0000000000000001").await.unwrap(), None);
        assert_eq!(traces.count().await.unwrap(), 5);
    });
}

#[test]
fn a_tree_too_deep_to_be_one_answer_is_refused_and_can_still_be_walked() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let root = record(&run, "t", &[]).await;
        let mut parent = root.clone();
        for _ in 0..4_999 {
            parent = child(&run, &parent, "t").await;
        }
        let tree = tokio::task::spawn_blocking({
            let tree = run.traces().get_tree(&root).await.unwrap().unwrap();
            move || {
                let mut depth = 1;
                let mut at = &tree;
                while let Some(child) = at.children.first() {
                    depth += 1;
                    at = child;
                }
                depth
            }
        });
        assert_eq!(tree.await.unwrap(), 5_000);
        child(&run, &parent, "t").await;
        let refused = run.traces().get_tree(&root).await;
        assert!(matches!(refused, Err(Error::InvalidOperation(_))), "{refused:?}");
        assert_eq!(run.traces().get_children(&root).await.unwrap().len(), 1);
    });
}

#[test]
fn a_stream_gives_every_trace_as_it_was_when_it_began() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        assert_eq!(run.traces().stream().count().await, 0);
        let mut recorded = Vec::new();
        for _ in 0..600 {
            recorded.push(record(&run, "t", &[]).await);
        }
        let mut stream = run.traces().stream();
        let mut found = vec![stream.next().await.unwrap().unwrap()];
        for _ in 0..300 {
            record(&run, "late", &[]).await;
        }
        found.extend(stream.map(Result::unwrap).collect::<Vec<_>>().await);
        assert_eq!(ids(&found), recorded);
        assert_eq!(run.traces().stream().count().await, 900);
    });
}

#[test]
fn recordings_of_many_tasks_never_conflict_and_no_two_share_an_id() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let root = record(&run, "root", &[]).await;
        let tasks = (0..20).map(|task: u64| {
            let (database, run, root) = (database.clone(), run.clone(), root.clone());
            tokio::spawn(async move {
                for _ in 0..20 {
                    child(&run, &root, "child").await;
                    let once = TransactionOptions { max_retries: 0, ..TransactionOptions::default() };
                    let recorded = database.transaction_with(run.id(), once, async |txn| {
                        txn.trace_record_with("t", vec!["in a transaction".into()], task).await
                    });
                    recorded.await.unwrap();
                }
            })
        });
        futures::future::try_join_all(tasks).await.unwrap();
        assert_eq!(run.traces().count().await.unwrap(), 801);
        let children = run.traces().get_children(&root).await.unwrap();
        assert_eq!(children.len(), 400);
        assert!(children.is_sorted_by(|a, b| a.id < b.id));
        assert_eq!(database.traces().query_by_tag(run.id(), "in a transaction").await.unwrap().len(), 400);
    });
}

#[test]
fn runs_do_not_see_each_others_traces() {
    on_tokio(async {
        let (database, run) = in_memory().await;
        let other = database.start_run(RunOptions::default()).await.unwrap();
        let id = record(&run, "t", &["a"]).await;
        assert_eq!(other.traces().get(&id).await.unwrap(), None);
        assert!(other.traces().query_by_tag("a").await.unwrap().is_empty());
        assert!(other.traces().get_roots().await.unwrap().is_empty());
    });
}

#[test]
fn traces_are_in_the_order_in_which_they_were_recorded_not_in_that_in_which_they_were_made() {
    on_tokio(async {
        let (_database, run) = in_memory().await;
        let second = run.traces().record("second".into(), vec![], Value::Null);
        let first = run.traces().record("first".into(), vec![], Value::Null);
        first.await.unwrap();
        second.await.unwrap();
        let kinds: Vec<String> =
            run.traces().get_roots().await.unwrap().iter().map(|root| root.trace_type.kind()).collect();
        assert_eq!(kinds, ["Custom:first", "Custom:second"]);
    });
}
