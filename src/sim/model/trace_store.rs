//! What commands of traces answer.

use std::rc::Rc;
use std::sync::Arc;

use super::{Desk, Refusal, Run};
use crate::base::run_id::RunId;
use crate::base::trace::{Trace, TraceTree, TraceType};
use crate::primitive::command::TraceCommand;
use crate::primitive::output::Output;

impl Desk<'_> {
    pub(super) fn trace(&mut self, run: RunId, command: &TraceCommand) -> Result<Output, Refusal> {
        let state = self.run(run);
        let those = |keep: &dyn Fn(u64, &Trace) -> bool| {
            let kept = state.traces.iter().filter(|(number, trace)| keep(**number, trace));
            Output::Traces(kept.map(|(_, trace)| trace.clone()).collect())
        };
        Ok(match command {
            TraceCommand::Record { number, trace } => {
                let state = self.writable(run)?;
                if trace.parent_id.as_ref().is_some_and(|parent| find(&state, parent).is_none()) {
                    return Err(Refusal::NotFound);
                }
                Output::TraceId(self.record(run, state, *number, (**trace).clone()))
            }
            TraceCommand::Get { id } => Output::Trace(find(&state, id)),
            TraceCommand::ByKind { kind } => those(&|_, trace| match &trace.trace_type {
                TraceType::Custom { name, .. } => kind == "Custom" || *kind == format!("Custom:{name}"),
                other => *kind == other.kind(),
            }),
            TraceCommand::ByTag { tag } => those(&|_, trace| trace.tags.contains(tag)),
            TraceCommand::ByTime { range } => those(&|_, trace| range.contains(&trace.timestamp)),
            TraceCommand::Children { id } => those(&|_, trace| trace.parent_id.as_ref() == Some(id)),
            TraceCommand::Roots => those(&|_, trace| trace.parent_id.is_none()),
            TraceCommand::Tree { id } => Output::Tree(find(&state, id).map(|root| Box::new(tree(&state, &root)))),
            TraceCommand::Count => Output::Count(state.traces.len() as u64),
            TraceCommand::Page { after, limit } => {
                let page = state.traces.range(after + 1..).take(*limit);
                Output::Traces(page.map(|(_, trace)| trace.clone()).collect())
            }
        })
    }

    fn record(&mut self, run: RunId, mut state: Run, number: u64, mut trace: Trace) -> String {
        let mut number = number.max(1);
        while state.traces.contains_key(&number) {
            number += 1;
        }
        trace.id = format!("{number:016x}");
        trace.timestamp = i64::try_from(number / 1000).unwrap();
        let id = trace.id.clone();
        Rc::make_mut(&mut state.traces).insert(number, Arc::new(trace));
        self.change(run, state);
        id
    }
}

fn find(state: &Run, id: &str) -> Option<Arc<Trace>> {
    state.traces.values().find(|trace| trace.id == id).cloned()
}

fn tree(state: &Run, root: &Trace) -> TraceTree {
    let children = state.traces.values().filter(|trace| trace.parent_id.as_ref() == Some(&root.id));
    TraceTree { trace: root.clone(), children: children.map(|child| tree(state, child)).collect() }
}
