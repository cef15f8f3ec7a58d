// Code paths: the program's own frames stand out, those of libraries are dim, and folded where they are many.

/** Most rows of a path before the rest is folded. */
const PATH_ROWS = 24;

const INCOMPLETE = {
  "stack-too-deep": "the copied part of the stack ends here",
  "no-unwind-information": "no unwind information says who called this",
  "frame-pointers": "callers may be missing: this kernel (before 5.15) lets only frame pointers be followed",
  "process-gone": "the process was gone before its code could be read",
  "reader-failed": "the files of the program could not be read",
  "io-uring": "io_uring did this by itself: no stack tells who asked for it",
  "unproven": "nothing proves that the thread began here",
};

const OPENED = {
  "connect": "Opened by connect(), called from",
  "accept": "Opened by accept(), called from",
  "first-use": "First used (accept() was not seen) by",
  "read": "First read by",
  "write": "First written by",
  "close": "Closed by",
};

/** What a frame is called: its function, or module and offset when that has no name. */
function frameName(frame) {
  if (frame.function) return frame.function;
  if (frame.module && isNumber(frame.offset)) return `${baseName(frame.module)}+0x${frame.offset.toString(16)}`;
  return "unknown function";
}

/** Where a frame is: `src/fetch.rs:42`, or `in libssl.so.3`. */
function framePlace(frame) {
  if (frame.file) return isNumber(frame.line) ? `${frame.file}:${frame.line}` : frame.file;
  if (!frame.module) return "";
  if (frame.own) return `in ${frame.module}`;
  return !frame.function && isNumber(frame.offset) ? "" : `in ${baseName(frame.module)}`;
}

/** The library, program or runtime that a frame belongs to, without a version. */
function frameOrigin(frame) {
  if (!frame.module) return frame.runtime === "jit" ? "code made at run time" : String(frame.runtime ?? "");
  return baseName(frame.module).split(".so")[0];
}

/** Frames in runs of the program's own and of others. */
function runs(frames) {
  const found = [];
  for (const frame of frames) {
    const run = found.at(-1);
    if (run && Boolean(run[0].own) === Boolean(frame.own)) run.push(frame);
    else found.push([frame]);
  }
  return found;
}

/** The rows of a path: a frame, or a list of frames that are folded into one row. */
function pathRows(frames) {
  const rows = [];
  let seen = 0;
  for (const run of runs(frames)) {
    seen += run.length;
    const foldable = !run[0].own && run.length > 1 && run.length < frames.length;
    // Below the program's first function is what started it.
    if (foldable && seen === frames.length) rows.push(run);
    // The innermost says which call was made, and the outermost which library the program called.
    else if (foldable && run.length > 3) rows.push(run[0], run.slice(1, -1), run.at(-1));
    else rows.push(...run);
  }
  if (rows.length > PATH_ROWS) rows.push(rows.splice(PATH_ROWS - 1).flat());
  return rows;
}

const frameRow = (frame) =>
  element("li", { class: frame.own ? "frame own" : "frame" },
    element("span", { class: "function" }, frameName(frame)),
    " ",
    element("span", { class: "place" }, framePlace(frame)),
    frame.inlined && element("span", { class: "place" }, " (inlined)"));

function foldedRow(frames) {
  const origins = [...new Set(frames.map(frameOrigin))];
  return element("li", { class: "frame" },
    element("details", {},
      element("summary", {}, `${things(frames.length, "frame", "frames")} of ${someOf(origins, 3)}`),
      element("ol", {}, frames.map(frameRow))));
}

const frameList = (frames) =>
  element("ol", { class: "path" }, pathRows(list(frames)).map((row) => (Array.isArray(row) ? foldedRow(row) : frameRow(row))));

/** Why a path ends where it does, and what is missing on it. */
function pathRemarks(path) {
  const frames = list(path.frames);
  const eventLoop = frames.some((frame) => frame.runtime === "javascript") && !frames.some((frame) => frame.own);
  const ring = frames[0]?.runtime === "io_uring" && path.incomplete !== "io-uring";
  return [
    path.incomplete && (INCOMPLETE[path.incomplete] ?? `the path is not complete: ${path.incomplete}`),
    path.unreadable && `functions are missing: ${path.unreadable}`,
    eventLoop && "called from the event loop: who asked for it is not on the stack",
    ring && "io_uring did this where it was entered: other code may have asked for it",
  ].filter(Boolean);
}

/** One code path with a heading. */
const pathView = (key, heading, path) =>
  element("section", { class: "code", key },
    element("h4", {}, heading, element("span", { class: "dim" }, " (innermost first)")),
    frameList(path.frames),
    pathRemarks(path).map((remark) => element("p", { class: "dim" }, `… ${remark}`)));

/** The code that opened the connections, and that of who asked for them. */
function originViews(path) {
  const asked = list(path.requested_by);
  return [
    asked.length > 0 && element("section", { class: "code", key: "requested" },
      element("h4", {}, "Requested by", element("span", { class: "dim" }, " (innermost first)")),
      frameList(asked)),
    pathView("origin", OPENED[path.kind] ?? "Opened by", path),
  ];
}

/** The code that used the connections last, the later way first. */
function lastUseViews(group) {
  const last = group.last_use;
  if (!last) return [];
  const ways = [
    ["read", "Last read", "read", last.read, last.reads_since],
    ["write", "Last written", "write", last.write, last.writes_since],
  ];
  if (last.direction === "write") ways.reverse();
  return ways.map(([key, done, singular, path, since], position) => {
    const when = position === 0 ? `${done} ${duration(last.ago_s)} ago` : `${done} before that`;
    if (!path) return position === 0 && element("section", { class: "code", key },
      element("h4", {}, `${when}; the code was not captured`));
    const earlier = number(since) > 0
      ? `; captured ${group.count > 1 ? "up to " : ""}${things(since, singular, `${singular}s`)} earlier`
      : "";
    return pathView(key, `${when}${earlier}, by`, path);
  });
}

/** Both code paths of a group; the one that the title is from comes first. */
function codeViews(group) {
  const origin = group.origin ? originViews(group.origin)
    // Nobody has touched them yet: there is no code to name.
    : group.verdict === "not-accepted" ? []
    : [element("section", { class: "code", key: "origin" },
        element("h4", {}, "Opened by"),
        element("p", { class: "dim" }, `Code ${noCodePath(group)}`))];
  const titledByUse = group.title && group.title.path !== "origin";
  return titledByUse ? [lastUseViews(group), origin] : [origin, lastUseViews(group)];
}
