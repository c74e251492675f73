// The page: what is shown, and what happens when somebody points at it.

const FAMILIES = ['ToolCall', 'Decision', 'Query', 'Thought', 'Error', 'Custom'];
const PRIMITIVES = { kv: 'KV', states: 'States', json: 'JSON' };
const OUTCOMES = {
  unanswered: ['…', 'no result'],
  recoverable: ['!', 'an error, recoverable'],
  failed: ['✕', 'an error'],
  done: ['', 'done'],
};

const $ = (id) => document.getElementById(id);
const content = JSON.parse($('content').textContent);
const runs = content.runs.map((story) => new Run(story));

/** What is looked at: a run, a commit of it, one of its primitives, and of that a key. */
const view = { run: runs[0], at: 0, primitive: 'kv', key: null, families: new Set(FAMILIES), domain: [0, 1] };

// The run and its commits.

function badge(box, text, kind, title = null) {
  box.textContent = text;
  box.className = `badge ${kind}`;
  if (title) box.title = title;
}

function showChain(box, { is_valid, length, first_invalid, error }) {
  const events = counted(length, 'event');
  if (is_valid)
    badge(box, `chain verified · ${events}`, 'good', 'Every event hashes to what its successor and the head say');
  else badge(box, `chain broken${first_invalid === null ? '' : ` at ${first_invalid}`} · ${events}`, 'bad', error);
}

function showAbout() {
  const { id, about, chain, commits, events, traces, name } = view.run;
  document.title = `${name} · in-mem`;
  $('name').textContent = name;
  $('status').hidden = !about;
  if (about) badge($('status'), about.status, { Completed: 'good', Failed: 'bad' }[about.status] ?? 'plain');
  for (const box of [$('chain'), $('log-chain')]) showChain(box, chain);
  $('error').hidden = !about?.error;
  $('error').textContent = about?.error ?? '';
  const metadata = about && about.metadata !== 'null' ? treeElement(parse(about.metadata)) : null;
  if (metadata?.open) metadata.open = false;
  const parent = about?.parent && (about.parent.name ?? about.parent.id);
  const facts = {
    id,
    parent,
    tags: about?.tags.join(', '),
    began: about && date(about.created_at),
    updated: about && date(about.updated_at),
    ended: about?.completed_at && date(about.completed_at),
    holds: [counted(commits.length, 'commit'), counted(events.length, 'event'), counted(traces.length, 'trace')].join(
      ', ',
    ),
    metadata,
  };
  const shown = Object.entries(facts).filter(([, fact]) => fact);
  $('facts').replaceChildren(
    ...shown.map(([name, fact]) => element('div', {}, element('dt', {}, name), element('dd', {}, fact))),
  );
}

function showRun(run, at = run.commits.length - 1) {
  Object.assign(view, { run, key: null });
  $('run').hidden = false;
  $('difference').hidden = true;
  showAbout();
  $('commit').max = run.commits.length;
  showKinds();
  showSpans();
  events.fill(run.events, 'The run appended no event.');
  showCommit(at);
  drawOverview();
}

function showCommit(at) {
  const { run } = view;
  view.at = Math.max(0, Math.min(run.commits.length - 1, at));
  const changes = run.size(view.at);
  const after = view.at === 0 ? '' : ` · ${span(run.times[view.at] - run.times[0])} after the first`;
  $('commit').value = view.at + 1;
  $('previous').disabled = view.at === 0;
  $('next').disabled = view.at === run.commits.length - 1;
  $('position').textContent =
    `commit ${view.at + 1} of ${run.commits.length} · ${date(run.times[view.at])}${after} · ${counted(changes, 'change')}`;
  $('commit').setAttribute('aria-valuetext', $('position').textContent);
  showState();
  const { events: appended, traces: recorded } = run.commits[view.at];
  const first = recorded.find((place) => spanPlaces.has(run.traces[place]));
  if (first === undefined) spans.show(null);
  else spans.show(spanPlaces.get(run.traces[first]));
  if (appended.length === 0) events.show(null);
  else events.show(appended[0]);
  if (view.key === null) showCommitDetail();
  else showKey();
}

/** How many things the commits did, over the width of the track, and how many of them were errors. */
function drawOverview() {
  const canvas = $('overview');
  const { width, height } = canvas.getBoundingClientRect();
  if (width === 0) return;
  const scale = window.devicePixelRatio;
  Object.assign(canvas, { width: width * scale, height: height * scale });
  const context = canvas.getContext('2d');
  context.scale(scale, scale);
  const { commits, traces } = view.run;
  const columns = Math.max(1, Math.min(commits.length, Math.floor(width / 3)));
  const [all, errors] = [new Array(columns).fill(0), new Array(columns).fill(0)];
  commits.forEach((commit, at) => {
    const column = Math.floor((at * columns) / commits.length);
    all[column] += view.run.size(at);
    errors[column] += commit.traces.filter((place) => traces[place].family === 'Error').length;
  });
  const most = all.reduce((most, count) => Math.max(most, count), 1);
  const [color, errorColor] = ['color', 'outlineColor'].map((name) => getComputedStyle(canvas)[name]);
  all.forEach((count, column) => {
    const [left, wide] = [(column * width) / columns, width / columns - (columns === commits.length ? 1 : 0)];
    const high = count === 0 ? 0 : Math.max(2, Math.sqrt(count / most) * height);
    const red = errors[column] === 0 ? 0 : Math.max(3, (high * errors[column]) / count);
    context.fillStyle = color;
    context.fillRect(left, height - high, wide, high);
    context.fillStyle = errorColor;
    context.fillRect(left, height - red, wide, red);
  });
}

// The timeline.

let spanPlaces = new Map();

const spans = new List($('spans'), {
  role: 'treeitem',
  row: spanCells,
  sight: setDomain,
  look: (trace) => ({
    'aria-level': trace.depth + 1,
    classes: [`kind-${trace.family}`, trace.outcome, ...standing(trace.commit)],
    title: `${trace.kind}, ${OUTCOMES[trace.outcome][1]}\n${traceTitle(trace).slice(0, 500)}\ncommit ${trace.commit + 1}`,
  }),
  choose(trace) {
    goTo(trace.commit);
    spans.show(spanPlaces.get(trace), true);
    showTrace(trace);
  },
});

/** Whether something belongs to the commit that is shown, or comes later. */
function standing(commit) {
  return commit === view.at ? ['now'] : commit > view.at ? ['later'] : [];
}

function showKinds() {
  const { traces } = view.run;
  const toggle = (family) => {
    const count = traces.filter((trace) => trace.family === family).length;
    const press = () => {
      if (!view.families.delete(family)) view.families.add(family);
      showKinds();
      showSpans();
    };
    return element(
      'button',
      { class: `kind-${family}`, 'aria-pressed': String(view.families.has(family)), onclick: press },
      element('i'),
      `${family} ${count}`,
    );
  };
  const present = new Set(traces.map(({ family }) => family));
  $('kinds').replaceChildren(...FAMILIES.filter((family) => present.has(family)).map(toggle));
}

function showSpans() {
  const shown = view.run.spans(view.families);
  spanPlaces = new Map(shown.map((trace, place) => [trace, place]));
  spans.fill(shown, view.run.traces.length > 0 ? 'No trace of these kinds.' : 'The run recorded no trace.');
}

/** From where to where the bars go: over the run, or over what begins in sight. */
function setDomain(inSight) {
  const scale = $('scale').value;
  const { run } = view;
  const whole = { commit: [0, run.commits.length], time: [run.times[0], run.times.at(-1)] }[scale];
  const traces = $('extent').value === 'rows' ? inSight : run.roots;
  const begins = (trace) => (scale === 'commit' ? trace.commit : trace.began);
  const ends = (trace) => (scale === 'commit' ? trace.commit + 1 : trace.timestamp);
  const from = traces.reduce((from, trace) => Math.min(from, begins(trace)), traces.length > 0 ? Infinity : whole[0]);
  const to =
    $('extent').value === 'rows'
      ? traces.reduce((to, trace) => Math.max(to, ends(trace)), from)
      : Math.max(whole[1], from);
  view.domain = [from, Math.max(to, from + 1)];
  const [first, last] = $('axis').children;
  first.textContent = scale === 'commit' ? `commit ${from + 1}` : date(from);
  last.textContent = scale === 'commit' ? `commit ${to}` : `+${span(to - from)}`;
  const cursor = scale === 'commit' ? view.at + 0.5 : run.times[view.at];
  const share = (cursor - from) / (view.domain[1] - from);
  $('spans').style.setProperty('--cursor', 0 <= share && share <= 1 ? `${share * 100}%` : '-1em');
}

function spanCells(trace) {
  const [from, to] = view.domain;
  const [start, end] = trace.extent[$('scale').value].map(
    (place) => Math.max(-0.01, Math.min(1.01, (place - from) / (to - from))) * 100,
  );
  const [glyph] = OUTCOMES[trace.outcome];
  const bar = element('i', { class: 'bar' });
  bar.style.left = `${start}%`;
  bar.style.width = `${end - start}%`;
  const text = element(
    'span',
    { class: 'label' },
    element('b', {}, trace.family),
    ` ${traceTitle(trace).slice(0, 200)}`,
  );
  text.style.paddingInlineStart = `${Math.min(trace.depth, 12) * 0.9}em`;
  const below = trace.troubled ? element('b', { class: 'trouble', title: 'an error below' }, '•') : null;
  return [
    element('span', { class: 'what' }, text, below, element('b', { class: 'outcome' }, glyph)),
    element('span', { class: 'bars' }, bar),
  ];
}

// Events.

const events = new List($('events'), {
  row: ({ type, payload, timestamp }, sequence) => [
    element('span', { class: 'place' }, String(sequence)),
    element('span', { class: 'type' }, type),
    element('span', { class: 'text' }, payload.slice(0, 300)),
    element('span', { class: 'when' }, `+${span(Math.max(0, timestamp - view.run.times[0]))}`),
  ],
  look: ({ commit }) => ({ classes: standing(commit) }),
  choose(event, sequence) {
    goTo(event.commit);
    events.show(sequence, true);
    showEvent(event, sequence);
  },
});

// The state.

const entries = new List($('entries'), {
  row: ([key, history]) => [
    element('span', { class: 'key' }, key),
    element('span', { class: 'text' }, entryText(history)),
  ],
  look: ([, history]) => {
    if (!history.changedBy(view.at)) return {};
    return { classes: history.holdsAt(view.at) ? ['changed'] : ['changed', 'gone'] };
  },
  choose([key]) {
    view.key = key;
    showKey();
  },
});

function entryText(history) {
  if (!history.holdsAt(view.at)) return 'gone';
  const value = history.at(view.at);
  if (view.primitive === 'json') return brief(value);
  return (view.primitive === 'kv' ? value : value.value).slice(0, 300);
}

function showTabs(box, names, chosen, controls, choose) {
  box.replaceChildren(
    ...names.map((name, at) =>
      element(
        'button',
        {
          role: 'tab',
          'aria-controls': controls(at),
          'aria-selected': String(at === chosen),
          tabindex: at === chosen ? '0' : '-1',
          onclick: () => choose(at),
        },
        name,
      ),
    ),
  );
}

function showState() {
  const { run, at } = view;
  const all = run.primitives[view.primitive];
  const counts = Object.values(run.primitives).map(
    (keys) => [...keys.values()].filter((history) => history.holdsAt(at)).length,
  );
  const names = Object.keys(PRIMITIVES);
  showTabs(
    $('primitives'),
    Object.values(PRIMITIVES).map((name, tab) => `${name} ${counts[tab]}`),
    names.indexOf(view.primitive),
    () => 'entries',
    (tab) => {
      Object.assign(view, { primitive: names[tab], key: null });
      showState();
      showCommitDetail();
      if (view.primitive === 'json' && entries.items.length > 0) entries.take(Math.max(0, entries.near));
      $('primitives').children[tab].focus();
    },
  );
  const [filter, changedOnly] = [$('filter').value, $('changed-only').checked];
  const isShown = ([key, history]) =>
    (history.changedBy(at) || (!changedOnly && history.holdsAt(at))) && key.includes(filter);
  const top = $('entries').scrollTop;
  entries.fill([...all].filter(isShown), 'Nothing here at this commit.');
  $('entries').scrollTop = top;
  const wanted = entries.items.findIndex(([key, history]) =>
    view.key === null ? history.changedBy(at) : key === view.key,
  );
  if (wanted >= 0) entries.show(wanted, view.key !== null);
}

// Details.

function showDetail(title, isCommit, ...parts) {
  $('detail-title').textContent = title;
  $('close').hidden = isCommit;
  $('detail').classList.toggle('picked', !isCommit);
  $('detail-body').replaceChildren(...parts);
  $('detail-body').scrollTop = 0;
  const changed = $('detail-body').querySelector('.changed');
  if (changed)
    $('detail-body').scrollTop =
      changed.getBoundingClientRect().top - $('detail-body').getBoundingClientRect().top - 60;
}

function facts(facts) {
  const shown = Object.entries(facts).filter(([, fact]) => fact !== null && fact !== '');
  return element('dl', {}, ...shown.flatMap(([name, fact]) => [element('dt', {}, name), element('dd', {}, fact)]));
}

function deedElement({ primitive, key, value, edits }, isOther = false) {
  const head = element('h3', {}, element('span', { class: 'primitive' }, primitive), ` ${key.slice(0, 200)}`);
  const box = element('section', { class: isOther ? 'deed other' : 'deed' }, head);
  if (value === null) box.append(element('p', { class: 'gone' }, 'gone'));
  else if (edits) {
    for (const { change, path, value: text } of edits) {
      const place = path.length === 0 ? 'the document' : `/${path.join('/')}`;
      box.append(
        element('p', { class: 'edit' }, `${change} ${place}`),
        ...(text === undefined ? [] : [treeElement(parse(text))]),
      );
    }
  } else box.append(treeElement(parse(value)));
  return box;
}

function showCommitDetail() {
  view.key = null;
  const body = element('div');
  appendSome(body, view.run.deeds(view.at), (deed) => deedElement(deed));
  showDetail(`What commit ${view.at + 1} did`, true, facts({ version: view.run.commits[view.at].version }), body);
}

function showEvent({ type, payload, timestamp, commit }, sequence) {
  showDetail(
    `Event ${sequence}`,
    false,
    facts({ type, at: date(timestamp), commit: String(commit + 1) }),
    treeElement(parse(payload)),
  );
}

function showTrace(trace) {
  const { family, kind, id, outcome, duration, timestamp, commit, parent, tags = [], contents, metadata } = trace;
  const above = view.run.traces[parent];
  const link =
    above &&
    element(
      'button',
      { class: 'link', onclick: () => spans.choose(above) },
      `${above.family} ${traceTitle(above).slice(0, 60)}`,
    );
  const about = {
    kind,
    outcome: OUTCOMES[outcome][1],
    at: date(timestamp),
    took: duration === undefined ? null : span(duration * 1000),
    commit: String(commit + 1),
    tags: tags.join(', '),
    under: link ?? null,
    id,
  };
  showDetail(
    family,
    false,
    facts(about),
    treeElement(parse(contents)),
    ...(metadata === undefined ? [] : [element('h3', {}, 'metadata'), treeElement(parse(metadata))]),
  );
}

/** What a key holds at this commit, and which other commits changed it. */
function showKey() {
  const { primitive, key, at, run } = view;
  const history = run.primitives[primitive].get(key);
  const last = lastUpTo(history.commits, at);
  const step = (name, commit) =>
    element('button', { class: 'link', disabled: commit === undefined, onclick: () => showCommit(commit) }, name);
  const changes = element(
    'span',
    {},
    `${last + 1} of ${history.commits.length} `,
    step('earlier', history.commits[history.changedBy(at) ? last - 1 : last]),
    ' ',
    step('later', history.commits[last + 1]),
  );
  const value = history.holdsAt(at) ? history.at(at) : undefined;
  const about = {
    primitive: PRIMITIVES[primitive],
    changes,
    'last changed by': last < 0 ? null : `commit ${history.commits[last] + 1}`,
    version: primitive === 'states' && value ? String(value.version) : null,
  };
  const touched =
    primitive === 'json' && history.changedBy(at)
      ? history.values[last].map(({ change, path }) => (change === 'remove' ? path.slice(0, -1) : path))
      : [];
  const tree =
    value === undefined ? null : primitive === 'json' ? value : parse(primitive === 'kv' ? value : value.value);
  showDetail(
    key,
    false,
    facts(about),
    value === undefined ? element('p', { class: 'gone' }, 'nothing at this commit') : treeElement(tree, touched),
  );
}

// What somebody does.

/** A commit, without what was looked at beside it. */
function goTo(at) {
  view.key = null;
  showCommit(at);
}

function showView(at, commit) {
  showTabs(
    $('views'),
    [...runs.map(({ name }) => name), 'Difference'],
    at,
    (tab) => (tab === runs.length ? 'difference' : 'run'),
    (tab) => {
      showView(tab);
      $('views').children[tab].focus();
    },
  );
  $('about').hidden = at === runs.length;
  if (at === runs.length) showDifference();
  else showRun(runs[at], commit);
}

/** Arrows move between tabs, and anywhere else between commits. */
function arrow(event) {
  const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (direction === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  const tab = event.target.closest?.('[role=tab]');
  if (tab) (direction < 0 ? tab.previousElementSibling : tab.nextElementSibling)?.click();
  else if ($('run').hidden || event.target.matches?.('input, select')) return;
  else showCommit(view.at + direction);
  event.preventDefault();
}

function listen() {
  $('commit').addEventListener('input', () => showCommit(Number($('commit').value) - 1));
  $('previous').addEventListener('click', () => showCommit(view.at - 1));
  $('next').addEventListener('click', () => showCommit(view.at + 1));
  $('filter').addEventListener('input', showState);
  $('changed-only').addEventListener('change', showState);
  for (const id of ['scale', 'extent']) $(id).addEventListener('change', () => spans.draw());
  $('close').addEventListener('click', showCommitDetail);
  $('to-divergence').addEventListener('click', () => goToRow(content.comparison.divergence));
  $('previous-difference').addEventListener('click', () => goToRow(nextDifference(-1)));
  $('next-difference').addEventListener('click', () => goToRow(nextDifference(1)));
  document.addEventListener('keydown', arrow);
  new ResizeObserver(drawOverview).observe($('overview'));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawOverview);
}

document.addEventListener('DOMContentLoaded', () => {
  $('views').hidden = content.comparison === null;
  listen();
  showView(content.comparison === null ? 0 : runs.length);
});
