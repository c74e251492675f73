// Runs: what a run held at each of its commits, rebuilt from what the commits changed.
//
// - What has keys is found in the history of its key, by binary search: nothing is copied from one commit to the next.
// - A document is rebuilt by its edits from the nearest form that is kept: one in so many, once it has been looked at.

const EDITS_BETWEEN_FORMS = 50;

/** The place of the last number in a sorted list that is not above the limit; -1: there is none. */
function lastUpTo(sorted, limit) {
  let [from, to] = [0, sorted.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (sorted[middle] <= limit) from = middle + 1;
    else to = middle;
  }
  return from - 1;
}

/** The values of one key, each with the commit that put it there; null: it emptied the key. */
class History {
  commits = [];
  values = [];

  add(commit, value) {
    this.commits.push(commit);
    this.values.push(value);
  }

  changedBy(commit) {
    return this.commits[lastUpTo(this.commits, commit)] === commit;
  }

  holdsAt(commit) {
    return this.at(commit) !== undefined;
  }

  /** What the key holds after a commit; undefined: nothing. */
  at(commit) {
    return this.values[lastUpTo(this.commits, commit)] ?? undefined;
  }
}

/** The forms of one document; what its commits did are edits. */
class Document extends History {
  forms = [];

  holdsAt(commit) {
    const edits = this.values[lastUpTo(this.commits, commit)];
    return edits !== undefined && !edits.some(({ change, path }) => change === 'remove' && path.length === 0);
  }

  /** The tree of the document after a commit; undefined: there is none. */
  at(commit) {
    const last = lastUpTo(this.commits, commit);
    let from = last - (last % EDITS_BETWEEN_FORMS);
    while (from > 0 && this.forms[from] === undefined) from -= EDITS_BETWEEN_FORMS;
    let { tree } = this.forms[from] ?? {};
    for (let place = this.forms[from] ? from + 1 : 0; place <= last; place += 1) {
      tree = this.values[place].reduce((form, edit) => edited(form, edit), tree);
      if (place % EDITS_BETWEEN_FORMS === 0) this.forms[place] = { tree };
    }
    return tree;
  }
}

/** The histories of all keys of one primitive, sorted by key. */
function histories(commits, primitive, Kind) {
  const byKey = new Map();
  commits.forEach((commit, at) => {
    for (const [key, value] of Object.entries(commit[primitive] ?? {})) {
      if (!byKey.has(key)) byKey.set(key, new Kind());
      byKey.get(key).add(at, value);
    }
  });
  return new Map([...byKey].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** A run as the page shows it. */
class Run {
  constructor(story) {
    Object.assign(this, story);
    this.name = this.about?.name ?? this.id;
    this.times = this.commits.map(({ version }) => Number(BigInt(version) / 1000n));
    this.primitives = {
      kv: histories(this.commits, 'kv', History),
      states: histories(this.commits, 'states', History),
      json: histories(this.commits, 'json', Document),
    };
    this.commits.forEach((commit) => Object.assign(commit, { events: [], traces: [] }));
    this.events.forEach((event, sequence) => this.commits[event.commit].events.push(sequence));
    this.traces.forEach((trace, place) => this.commits[trace.commit].traces.push(place));
    this.nest();
  }

  /** Which traces are below which, and what they and all below them extend over. */
  nest() {
    this.roots = [];
    for (const trace of this.traces) {
      const start = Math.max(0, trace.timestamp - (trace.duration ?? 0) * 1000);
      Object.assign(trace, {
        began: start,
        children: [],
        family: trace.kind.split(':')[0],
        outcome: trace.outcome ?? 'done',
      });
      trace.extent = { time: [start, trace.timestamp], commit: [trace.commit, trace.commit + 1] };
      const siblings = trace.parent === undefined ? this.roots : this.traces[trace.parent].children;
      trace.depth = trace.parent === undefined ? 0 : this.traces[trace.parent].depth + 1;
      siblings.push(trace);
    }
    // A trace comes after its parent: when it is met from the end, all below it have been.
    for (const trace of this.traces.toReversed()) {
      if (trace.parent === undefined) continue;
      const parent = this.traces[trace.parent];
      for (const scale of ['time', 'commit']) {
        const [[from, to], [start, end]] = [parent.extent[scale], trace.extent[scale]];
        parent.extent[scale] = [Math.min(from, start), Math.max(to, end)];
      }
      parent.troubled ||= trace.troubled || trace.family === 'Error';
    }
  }

  /** The traces of some families, each before what is below it. */
  spans(families) {
    const [spans, rest] = [[], this.roots.toReversed()];
    while (rest.length > 0) {
      const trace = rest.pop();
      if (families.has(trace.family)) spans.push(trace);
      for (let at = trace.children.length - 1; at >= 0; at -= 1) rest.push(trace.children[at]);
    }
    return spans;
  }

  /** What a commit did: to which key of which primitive, and what is there from then on, as JSON text; null: nothing. */
  deeds(at) {
    const { kv = {}, states = {}, json = {}, run, events, traces } = this.commits[at];
    const deed = (primitive, key, value) => ({ primitive, key, value });
    return [
      ...(run ? [deed('run', run.status, JSON.stringify(run))] : []),
      ...Object.entries(kv).map(([key, value]) => deed('kv', key, value)),
      ...Object.entries(states).map(([name, cell]) => deed('state', name, cell && cell.value)),
      ...Object.entries(json).map(([key, edits]) => ({ ...deed('json', key, JSON.stringify(edits)), edits })),
      ...events.map((sequence) => this.events[sequence]).map(({ type, payload }) => deed('event', type, payload)),
      ...traces
        .map((place) => this.traces[place])
        .map((trace) => deed(trace.family, traceTitle(trace), trace.contents)),
    ];
  }

  /** How many those are. */
  size(at) {
    const { kv = {}, states = {}, json = {}, run, events, traces } = this.commits[at];
    return [kv, states, json].reduce(
      (sum, keys) => sum + Object.keys(keys).length,
      (run ? 1 : 0) + events.length + traces.length,
    );
  }
}

/** What was done in a line; of some, with what is there from then on. */
function summary(deeds, isFull) {
  const edit = ({ change, path, value = '' }) =>
    `${change === 'remove' ? '−' : ''}/${path.join('/')} ${value.slice(0, 80)}`;
  const what = ({ value, edits }) => (edits ? edits.slice(0, 4).map(edit).join(', ') : value.slice(0, 80));
  const text = (deed) =>
    `${deed.primitive} ${deed.key.slice(0, 80)}${deed.value === null ? ' gone' : isFull(deed) ? ` ${what(deed)}` : ''}`;
  return deeds
    .slice(0, 12)
    .map(text)
    .concat(deeds.length > 12 ? [`and ${deeds.length - 12} more`] : [])
    .join(' · ');
}

/** What a trace is about, in a line. */
function traceTitle({ family, kind, contents }) {
  const fields = parse(contents);
  const text = (name) => leafText(fields[`"${name}`]);
  switch (family) {
    case 'ToolCall':
      return `${text('tool_name')} ${brief(fields['"arguments'])}`;
    case 'Decision':
      return `${text('question')} → ${text('chosen')}`;
    case 'Query':
      return `${text('query_type')}: ${text('query')}`;
    case 'Thought':
      return text('content');
    case 'Error':
      return `${text('error_type')}: ${text('message')}`;
    default:
      return `${kind.slice(kind.indexOf(':') + 1)} ${brief(fields['"data'])}`;
  }
}
