// A line through the last hour, and what it says in words.

const PLOT_WIDTH = 600;
const PLOT_HEIGHT = 100;

/** The parts of a series without a gap, as points of time and number. */
function segments(at, values) {
  const found = [];
  let open = null;
  values.forEach((value, position) => {
    if (!isNumber(value) || !isNumber(at[position])) {
      open = null;
      return;
    }
    if (!open) found.push((open = []));
    open.push([at[position], value]);
  });
  return found;
}

/** A plot of one number over time; nothing before there are two points. */
function plotView(what, history, values) {
  const at = list(history?.at);
  const parts = segments(at, list(values));
  const points = parts.flat();
  if (points.length < 2) return null;
  const [start, end] = [at[0], at.at(-1)];
  const peak = Math.max(1, ...points.map(([, value]) => value));
  const x = (time) => ((time - start) / Math.max(end - start, 1)) * PLOT_WIDTH;
  const y = (value) => PLOT_HEIGHT - (value / peak) * (PLOT_HEIGHT - 4) - 1;
  const line = parts.map((part) => part.map(([time, value], position) =>
    `${position === 0 ? "M" : "L"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`).join("")).join("");
  const area = parts.map((part) => `M${x(part[0][0]).toFixed(1)} ${PLOT_HEIGHT}`
    + part.map(([time, value]) => `L${x(time).toFixed(1)} ${y(value).toFixed(1)}`).join("")
    + `L${x(part.at(-1)[0]).toFixed(1)} ${PLOT_HEIGHT}Z`).join("");
  const [first, last] = [points[0][1], points.at(-1)[1]];
  const words = `${what}: ${count(first)} ${duration(end - points[0][0])} ago, ${count(last)} now, ${count(peak)} at most`;
  return element("figure", { class: "plot" },
    element("svg", {
      viewBox: `0 0 ${PLOT_WIDTH} ${PLOT_HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": words,
    },
      element("path", { class: "area", d: area }),
      element("path", { class: "line", d: line })),
    element("figcaption", {},
      element("span", {}, `${duration(end - start)} ago`),
      element("span", {}, `${what}: ${count(last)} now, ${count(peak)} at most`),
      element("span", {}, "now")));
}
