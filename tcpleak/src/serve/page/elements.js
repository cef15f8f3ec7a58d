// The page as data: views say what there shall be, and `patch` changes the document to that, in place. What stays
// keeps its scroll position, its focus, its selection and whether it is folded.
//
// Text and attributes come from strangers. They are made visible here, whoever made the view, and nothing here
// reads text as markup.

const VECTOR = "http://www.w3.org/2000/svg";
const VECTOR_TAGS = new Set(["svg", "path", "line"]);

/** What was made of which element: its key, and what answers its events. */
const made = new WeakMap();

/** An element as data. `key` tells it from its siblings, `style` holds properties, `on` holds listeners. */
const element = (tag, attributes = {}, ...children) => ({
  tag,
  attributes,
  children: children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== ""),
});

/** Makes the children of an element be these. */
function patch(parent, children) {
  const focused = document.activeElement;
  patchChildren(parent, [children].flat(Infinity).filter(Boolean));
  // What is moved loses the focus.
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

function patchChildren(parent, wanted) {
  const keyOf = (node) => made.get(node)?.key;
  const keys = new Set(wanted.map((piece) => piece.attributes?.key).filter((key) => key !== undefined));
  const keyed = new Map();
  for (const node of [...parent.childNodes]) {
    const key = keyOf(node);
    if (key === undefined) continue;
    if (keys.has(key)) keyed.set(key, node);
    else node.remove();
  }
  let place = parent.firstChild;
  for (const piece of wanted) {
    const key = piece.attributes?.key;
    let node = key === undefined ? place : keyed.get(key);
    if (!node || keyOf(node) !== key || !fits(node, piece)) node = make(piece);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
    if (typeof piece === "object") patchElement(node, piece);
    else if (node.data !== plain(piece)) node.data = plain(piece);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

const fits = (node, piece) =>
  typeof piece === "object" ? node.localName === piece.tag : node.nodeType === Node.TEXT_NODE;

function make(piece) {
  if (typeof piece !== "object") return document.createTextNode("");
  const { tag, attributes } = piece;
  const node = VECTOR_TAGS.has(tag) ? document.createElementNS(VECTOR, tag) : document.createElement(tag);
  made.set(node, { key: attributes.key, attributes: {}, listeners: {} });
  return node;
}

function patchElement(node, { attributes, children }) {
  if (!made.has(node)) made.set(node, { key: undefined, attributes: {}, listeners: {} });
  const before = made.get(node);
  const { key, style, on, ...plainly } = attributes;
  for (const name of Object.keys(before.attributes)) {
    if (!(name in plainly)) node.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(plainly)) setAttribute(node, name, value);
  before.attributes = plainly;
  // By this way, and not by an attribute, the policy of the page allows it.
  for (const [name, value] of Object.entries(style ?? {})) node.style.setProperty(name, value);
  for (const [event, listener] of Object.entries(on ?? {})) {
    if (!before.listeners[event]) node.addEventListener(event, (happened) => before.listeners[event](happened));
    before.listeners[event] = listener;
  }
  patchChildren(node, children);
}

function setAttribute(node, name, value) {
  if (value === false || value === null || value === undefined) {
    node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : plain(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}
