// Lists: rows of one height in a box that scrolls; only those in sight are in the document.

const ROWS_BEYOND_SIGHT = 4;

class List {
  /**
   * `row` makes the cells of an item, `choose` is called with the one that somebody chose; `look` says what else each row
   * looks like, and `sight` is called with the items in sight.
   */
  constructor(box, { role = 'option', row, choose, look = () => ({}), sight = () => {} }) {
    Object.assign(this, { box, role, row, choose, look, sight, items: [], chosen: -1, near: -1 });
    this.space = element('div', { class: 'space', role: 'presentation' });
    this.empty = element('p', { class: 'empty', hidden: true });
    box.setAttribute('role', role === 'treeitem' ? 'tree' : 'listbox');
    box.append(this.space, this.empty);
    box.addEventListener('scroll', () => this.draw());
    box.addEventListener('keydown', (event) => this.key(event));
    this.space.addEventListener('click', ({ target }) => {
      const row = target.closest('.row');
      if (row) this.take(Number(row.dataset.at));
    });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  get height() {
    return parseFloat(getComputedStyle(this.box).getPropertyValue('--row'));
  }

  fill(items, nothing = '') {
    Object.assign(this, { items, chosen: -1, near: -1 });
    this.space.style.height = `${items.length * this.height}px`;
    this.empty.hidden = items.length > 0;
    this.empty.textContent = nothing;
    this.draw();
  }

  draw() {
    const height = this.height;
    const from = Math.max(0, Math.floor(this.box.scrollTop / height) - ROWS_BEYOND_SIGHT);
    const to = Math.min(
      this.items.length,
      Math.ceil((this.box.scrollTop + this.box.clientHeight) / height) + ROWS_BEYOND_SIGHT,
    );
    this.sight(this.items.slice(Math.floor(this.box.scrollTop / height), to - ROWS_BEYOND_SIGHT));
    const rows = [];
    for (let at = from; at < to; at += 1) rows.push(this.rowElement(at, height));
    this.space.replaceChildren(...rows);
    const isDrawn = from <= this.chosen && this.chosen < to;
    if (isDrawn) this.box.setAttribute('aria-activedescendant', `${this.box.id}-${this.chosen}`);
    else this.box.removeAttribute('aria-activedescendant');
  }

  rowElement(at, height) {
    const item = this.items[at];
    const { classes = [], ...attributes } = this.look(item, at);
    const standing = {
      role: this.role,
      'aria-posinset': at + 1,
      'aria-setsize': this.items.length,
      'aria-selected': String(at === this.chosen),
    };
    const row = element(
      'div',
      { ...standing, ...attributes, id: `${this.box.id}-${at}`, 'data-at': at },
      ...this.row(item, at),
    );
    row.className = ['row', ...classes].join(' ');
    row.style.top = `${at * height}px`;
    return row;
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
    const last = this.items.length - 1;
    const to = {
      ArrowUp: this.near - 1,
      ArrowDown: this.near + 1,
      PageUp: this.near - page,
      PageDown: this.near + page,
      Home: 0,
      End: last,
    }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    event.stopPropagation();
    this.take(Math.max(0, Math.min(last, to)));
  }

  /** Chooses an item, as its reader does. */
  take(at) {
    this.show(at, true);
    this.choose(this.items[at], at);
  }

  /** Brings an item into sight, from which keys go on, as the chosen one or not; null: none. */
  show(at, isChosen = false) {
    this.chosen = isChosen ? at : -1;
    if (at === null) return this.draw();
    this.near = at;
    return this.reveal(at, !isChosen);
  }

  /** Scrolls to an item that is out of sight: to the edge, or to the middle. */
  reveal(at, toMiddle) {
    const [top, sight] = [at * this.height, this.box.clientHeight];
    const [highest, lowest] = [top + this.height - sight, top];
    if (this.box.scrollTop < highest) this.box.scrollTop = toMiddle ? top - sight / 2 : highest;
    else if (this.box.scrollTop > lowest) this.box.scrollTop = toMiddle ? top - sight / 2 : lowest;
    this.draw();
  }
}
