'use strict';

// Values: JSON text as trees, and trees as elements.
//
// - In a tree, a string or a name begins with a quotation mark and a number with a hash: all stay as they were written, to the
//   last digit.
// - Elements are made of text nodes only: nothing that a run holds is ever markup.

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;

/** How many characters of a text and items of a list are shown before somebody asks for the rest. */
const SHOWN = { text: 4000, items: 200 };

function parse(text) {
  return JSON.parse(text.replace(TOKEN, (token) => (token[0] === '"' ? `"\\"${token.slice(1)}` : `"#${token}"`)));
}

function isLeaf(tree) {
  return tree === null || typeof tree !== 'object';
}

/** The JSON text of a tree. */
function write(tree) {
  if (Array.isArray(tree)) return `[${tree.map(write).join(',')}]`;
  if (!isLeaf(tree)) {
    return `{${Object.entries(tree)
      .map(([name, item]) => `${JSON.stringify(name.slice(1))}:${write(item)}`)
      .join(',')}}`;
  }
  if (typeof tree !== 'string') return String(tree);
  return tree[0] === '#' ? tree.slice(1) : JSON.stringify(tree.slice(1));
}

/** What a string says, without quotation marks; any other leaf as it was written. */
function leafText(leaf) {
  return leaf?.[0] === '"' ? leaf.slice(1) : write(leaf);
}

/** The tree after an edit. What the edit does not touch is shared with the tree before. */
function edited(tree, { change, path, value }, at = 0) {
  const last = at === path.length - 1;
  if (path.length === 0) return change === 'remove' ? undefined : parse(value);
  if (Array.isArray(tree)) {
    const place = Number(path[at]);
    if (!last) return tree.with(place, edited(tree[place], { change, path, value }, at + 1));
    if (change === 'set') return tree.with(place, parse(value));
    return tree.toSpliced(place, change === 'remove' ? 1 : 0, ...(change === 'remove' ? [] : [parse(value)]));
  }
  const name = `"${path[at]}`;
  if (last && change === 'remove') {
    const { [name]: _, ...rest } = tree;
    return rest;
  }
  return { ...tree, [name]: last ? parse(value) : edited(tree[name], { change, path, value }, at + 1) };
}

/** Makes an element. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A long text, of which the beginning is shown first. */
function shortened(text) {
  if (text.length <= SHOWN.text) return element('span', {}, text);
  const box = element('span', {}, text.slice(0, SHOWN.text));
  const rest = () => box.replaceChildren(text);
  box.append(element('button', { class: 'more', onclick: rest }, `… ${text.length - SHOWN.text} characters more`));
  return box;
}

/** Adds what is made of items to a box: so many, and the next when they are asked for. */
function appendSome(box, items, make) {
  box.append(...items.slice(0, SHOWN.items).map(make));
  const rest = items.slice(SHOWN.items);
  if (rest.length === 0) return;
  const more = element(
    'button',
    {
      class: 'more',
      onclick: () => {
        more.remove();
        appendSome(box, rest, make);
      },
    },
    `… ${rest.length} more`,
  );
  box.append(more);
}

/** What is directly in a tree, each with its name. */
function itemsOf(tree) {
  if (Array.isArray(tree)) return tree.map((item, place) => [String(place), item]);
  return Object.entries(tree).map(([name, item]) => [name.slice(1), item]);
}

/** A tree in a line, of which only the beginning may be shown. */
function brief(tree, depth = 0) {
  if (isLeaf(tree)) return write(tree).slice(0, 200);
  const [open, close] = Array.isArray(tree) ? '[]' : '{}';
  const items = itemsOf(tree);
  if (depth === 2 && items.length > 0) return `${open}…${close}`;
  const shown = items
    .slice(0, 8)
    .map(([name, item]) => (Array.isArray(tree) ? '' : `${name}: `) + brief(item, depth + 1));
  return open + shown.concat(items.length > 8 ? ['…'] : []).join(', ') + close;
}

/**
 * A tree as elements. `touched` are the paths of what changed in it. A branch can be closed; it is open to begin with if it is
 * small or something in it changed, and made when it is opened.
 */
function treeElement(tree, touched = [], name = null) {
  const changed = touched.some((path) => path.length === 0) ? ' changed' : '';
  const label = name === null ? null : element('span', { class: 'name' }, `${name}: `);
  if (isLeaf(tree)) {
    const kind = { '"': 'string', '#': 'number' }[tree?.[0]] ?? 'word';
    const text = kind === 'string' ? `"${tree.slice(1)}"` : write(tree);
    return element('div', { class: `leaf${changed}` }, label, element('span', { class: kind }, shortened(text)));
  }
  const items = itemsOf(tree);
  const size = Array.isArray(tree) ? `[ ${items.length} ]` : `{ ${items.length} }`;
  const branch = element(
    'details',
    { class: `branch${changed}` },
    element('summary', {}, label, element('span', { class: 'count' }, size)),
  );
  const below = (step) => touched.filter((path) => path[0] === step).map((path) => path.slice(1));
  const fill = () => appendSome(branch, items, ([step, item]) => treeElement(item, below(step), step));
  branch.addEventListener('toggle', () => {
    if (branch.children.length === 1) fill();
  });
  if (items.length <= 20 || touched.length > 0) {
    branch.open = true;
    fill();
  }
  return branch;
}

/** Microseconds since the Unix epoch as a date, in UTC. */
function date(micros) {
  return new Date(micros / 1000).toISOString().replace('T', ' ').replace('Z', ' UTC');
}

/** A time in microseconds, in the unit that fits. */
function span(micros) {
  const [unit, size] = [
    ['d', 864e8],
    ['h', 36e8],
    ['min', 6e7],
    ['s', 1e6],
    ['ms', 1e3],
  ].find(([, size]) => micros >= size) ?? ['µs', 1];
  return `${+(micros / size).toPrecision(3)} ${unit}`;
}

function counted(count, what) {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
