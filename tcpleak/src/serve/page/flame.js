// The flamegraph: leaked connections by the code that opened them. Width is their number; the program is at the
// top, and what it called below.

/** Boxes that are shown at most, and the narrowest one as a part of the whole. */
const BOXES = 2000;
const NARROWEST = 0.003;

/** What the reader has done to the flamegraph: zoomed to a box, pointed at one, and asked for all frames. */
const flame = { zoomed: "", pointed: null, whole: false };

/** The frames of a path that are shown, outermost first: unless all are, the program's own and what it called. */
function flameFrames(group) {
  const innermostFirst = [...list(group.origin.frames), ...list(group.origin.requested_by)];
  if (flame.whole || !innermostFirst.some((frame) => frame.own)) return innermostFirst.reverse();
  const kept = innermostFirst.filter((frame, position) => frame.own || innermostFirst[position + 1]?.own);
  return kept.reverse();
}

/** The leaks as a tree: all of them, the programs, and their code. */
function flameTree(groups) {
  const node = (name, place, own, key) => ({ name, place, own, key, count: 0, children: new Map() });
  const root = node("all leaked connections", "", false, "");
  const add = (steps, connections) => {
    let at = root;
    at.count += connections;
    for (const [name, place, own] of steps) {
      const key = `${at.key}\0${name}`;
      if (!at.children.has(key)) at.children.set(key, node(name, place, own, key));
      at = at.children.get(key);
      at.count += connections;
    }
  };
  for (const group of groups) {
    const program = [nameOf(group.process?.comm), "program", false];
    const all = number(group.count);
    const unknown = group.origin ? Math.min(number(group.unsampled), all) : all;
    const frames = group.origin ? flameFrames(group) : [];
    const steps = frames.map((frame) => [frameName(frame), framePlace(frame), Boolean(frame.own)]);
    if (all > unknown) add([program, ...steps], all - unknown);
    if (unknown > 0) add([program, ["code not known", "", false]], unknown);
  }
  return root;
}

/** The boxes of a tree: the way to the zoomed one at full width, and all that is in it to scale. */
function flameBoxes(root) {
  const boxes = [];
  const lay = (node, depth, left, width, around) => {
    if (width < NARROWEST || boxes.length >= BOXES) return;
    boxes.push({ node, depth, left, width, around });
    const zoomedInto = around && [...node.children.values()].find(({ key }) => isWithin(flame.zoomed, key));
    if (zoomedInto) {
      lay(zoomedInto, depth + 1, 0, 1, zoomedInto.key !== flame.zoomed);
      return;
    }
    let start = left;
    for (const child of [...node.children.values()].sort((one, other) => other.count - one.count)) {
      const share = (width * child.count) / node.count;
      lay(child, depth + 1, start, share, false);
      start += share;
    }
  };
  lay(root, 0, 0, 1, flame.zoomed !== "");
  return boxes;
}

const isWithin = (key, ancestor) => key === ancestor || key.startsWith(`${ancestor}\0`);

/** The nearest box above that there still is, when the zoomed one is gone. */
function unzoomWhatIsGone(root) {
  let node = root;
  for (;;) {
    const next = [...node.children.values()].find(({ key }) => isWithin(flame.zoomed, key));
    if (!next) break;
    node = next;
  }
  flame.zoomed = node.key;
}

function flameView(groups) {
  const root = flameTree(groups);
  if (root.count === 0) return [];
  unzoomWhatIsGone(root);
  const boxes = flameBoxes(root);
  const told = boxes.find(({ node }) => node.key === flame.pointed) ?? boxes.find(({ node }) => node.key === flame.zoomed) ?? boxes[0];
  const depth = Math.max(...boxes.map((box) => box.depth)) + 1;
  const whole = ({ currentTarget }) => {
    Object.assign(flame, { whole: currentTarget.checked, zoomed: "", pointed: null });
    showReport();
  };
  return [
    element("h2", { key: "heading" }, "Where the leaked connections were opened"),
    element("p", { class: "dim", key: "how" },
      "Width is the number of leaked connections. The program is at the top, what it called below; its own code is coloured. Click to zoom, arrow keys to move, Escape to zoom out. ",
      element("label", {}, element("input", { type: "checkbox", on: { change: whole } }), " library frames too")),
    element("div", { class: "flame", key: "boxes", role: "group", "aria-label": "Flamegraph of leaked connections", on: { keydown: moveInFlame }, style: { height: `${depth * 1.6}rem` } },
      boxes.map((box) => boxView(box, root))),
    element("p", { class: "pointed", key: "pointed" }, boxWords(told.node, root)),
  ];
}

const boxWords = (node, root) =>
  `${node.name}${node.place ? ` (${node.place})` : ""}: ${count(node.count)} of ${connections(root.count)}, ${Math.round((100 * node.count) / root.count)} %`;

function boxView({ node, depth, left, width, around }, root) {
  const point = () => {
    flame.pointed = node.key;
    showFlame();
  };
  const zoom = () => {
    flame.zoomed = node.key;
    showFlame();
  };
  const kind = node.own ? "own" : depth === 1 ? "program" : "other";
  return element("button", {
    key: node.key,
    type: "button",
    class: `${kind}${around ? " around" : ""}`,
    title: boxWords(node, root),
    "aria-label": boxWords(node, root),
    // One stop for the tab key: arrows move from there.
    tabindex: node.key === flame.zoomed ? "0" : "-1",
    style: { left: `${left * 100}%`, width: `${width * 100}%`, top: `${depth * 1.6}rem` },
    on: { click: zoom, focus: point, pointerenter: point },
  }, node.name);
}

/** Moves the focus from box to box by arrow keys, and zooms out by Escape. */
function moveInFlame(event) {
  const boxes = [...event.currentTarget.children];
  const place = (box) => box.getBoundingClientRect();
  const here = place(event.target);
  const middle = here.left + here.width / 2;
  const near = (box) => Math.abs(place(box).left + place(box).width / 2 - middle);
  const ways = {
    ArrowDown: (there) => there.top > here.top + 1 && there.left >= here.left - 1 && there.right <= here.right + 1,
    ArrowUp: (there) => there.top < here.top - 1 && there.left <= here.left + 1 && there.right >= here.right - 1,
    ArrowRight: (there) => Math.abs(there.top - here.top) < 1 && there.left >= here.right - 1,
    ArrowLeft: (there) => Math.abs(there.top - here.top) < 1 && there.right <= here.left + 1,
  };
  if (event.key === "Escape") {
    flame.zoomed = "";
    showFlame();
  } else if (Object.hasOwn(ways, event.key)) {
    event.preventDefault();
    const distance = (box) => Math.abs(place(box).top - here.top) * 10_000 + near(box);
    const [next] = boxes.filter((box) => ways[event.key](place(box))).sort((one, other) => distance(one) - distance(other));
    next?.focus();
  }
}
