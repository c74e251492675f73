// The difference: two runs side by side, and what differs in the end.
//
// - Where they parted is said by who wrote the page; here commits that stand beside each other are only compared to mark what one
//   of them did.

const rows = new List($('rows'), {
  row: (row) =>
    sideTexts(row).map((text, side) => {
      const at = [row.a, row.b][side];
      return element(
        'span',
        { class: 'side' },
        at === null ? null : element('span', { class: 'place' }, String(at + 1)),
        ` ${text}`,
      );
    }),
  look: (row, at) => ({
    classes: [kindOf(row), ...(at === content.comparison.divergence ? ['divergence'] : [])],
    'aria-description': kindOf(row),
  }),
  choose: ({ a, b }) => showSides(a, b),
});

function kindOf({ a, b, same = false }) {
  return same ? 'same' : a === null ? 'added' : b === null ? 'removed' : 'modified';
}

/** What two commits did, in a line each: what only one of them did first. */
function sideTexts({ a, b }) {
  const deeds = [a, b].map((at, side) => (at === null ? [] : runs[side].deeds(at)));
  const known = deeds.map((deeds) => new Set(deeds.map((deed) => JSON.stringify(deed))));
  return deeds.map((deeds, side) => {
    const isOther = (deed) => a !== null && b !== null && !known[1 - side].has(JSON.stringify(deed));
    return summary([...deeds.filter(isOther), ...deeds.filter((deed) => !isOther(deed))], isOther);
  });
}

const differences = new List($('differences'), {
  row: ({ primitive, key, path, a, b }) => [
    element('b', { class: 'sign' }, a === null ? '+' : b === null ? '−' : '~'),
    element('span', { class: 'key' }, `${primitive} ${key}${path ?? ''}`),
    element('span', { class: 'text' }, a?.slice(0, 300) ?? ''),
    element('span', { class: 'text' }, b?.slice(0, 300) ?? ''),
  ],
  look: (entry) => ({ classes: [kindOf(entry)] }),
  choose({ primitive, key, path, a, b }) {
    for (const [side, value] of [
      [$('side-a'), a],
      [$('side-b'), b],
    ]) {
      const shown = value === null ? element('p', { class: 'gone' }, 'nothing') : treeElement(parse(value));
      side.replaceChildren(
        element('h3', {}, element('span', { class: 'primitive' }, primitive), ` ${key}${path ?? ''}`),
        shown,
      );
    }
  },
});

function showSides(...places) {
  const deeds = places.map((at, side) => (at === null ? [] : runs[side].deeds(at)));
  const known = deeds.map((deeds) => new Set(deeds.map((deed) => JSON.stringify(deed))));
  [$('side-a'), $('side-b')].forEach((box, side) => {
    if (places[side] === null) return box.replaceChildren(element('p', { class: 'gone' }, 'no commit here'));
    const look = element(
      'button',
      { class: 'link', onclick: () => showView(side, places[side]) },
      `commit ${places[side] + 1} of ${runs[side].name}`,
    );
    box.replaceChildren(element('h3', {}, look));
    return appendSome(box, deeds[side], (deed) => deedElement(deed, !known[1 - side].has(JSON.stringify(deed))));
  });
}

function showDifference() {
  const { rows: all, divergence, entries } = content.comparison;
  $('run').hidden = true;
  $('difference').hidden = false;
  const [first, second] = $('names').children;
  [first.textContent, second.textContent] = runs.map(({ name }) => name);
  $('parting').textContent =
    divergence === null ? 'both did the same' : `parted after ${counted(divergence, 'commit')}`;
  for (const id of ['to-divergence', 'previous-difference', 'next-difference']) $(id).hidden = divergence === null;
  rows.fill(all);
  differences.fill(entries, 'Nothing.');
  goToRow(divergence ?? 0);
}

function goToRow(at) {
  if (at < 0) return;
  rows.reveal(at, true);
  rows.take(at);
}

/** The next row, in a direction, that begins a stretch of rows in which the runs differ. */
function nextDifference(direction) {
  const { rows: all } = content.comparison;
  const begins = (at) => !all[at].same && (at === 0 || all[at - 1].same);
  for (let at = rows.chosen + direction; at >= 0 && at < all.length; at += direction) if (begins(at)) return at;
  return -1;
}
