// Numbers as people say them, as in the text that tcpleak prints, and text from strangers made visible.
// A line never ends between a number and its unit: the space there is a no-break space.

const NO_BREAK = "\u00a0";

// Control characters, line separators, bidirectional controls, and others without a shape of their own.
const HOSTILE =
  /[\0-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;

/** The text with every character written out that would not show where it stands: `\x1b`, `\u{202e}`. */
function plain(text) {
  return String(text).replace(HOSTILE, (character) => {
    const code = character.codePointAt(0);
    return code < 128 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

/** An array, whatever the report holds in its place. */
const list = (value) => (Array.isArray(value) ? value : []);

/** A number, zero where the report holds none. */
const number = (value) => (Number.isFinite(value) ? value : 0);

/** Whether something is a number. */
const isNumber = (value) => Number.isFinite(value);

/** A number with its thousands set apart: `28,232`. */
const count = (value) => String(Math.round(number(value))).replace(/\B(?=(\d{3})+$)/g, ",");

/** A number of things: `1 group`, `2 groups`. */
const things = (value, singular, plural) =>
  count(value) + NO_BREAK + (number(value) === 1 ? singular : plural);

/** A number of connections. */
const connections = (value) => things(value, "connection", "connections");

/** A length of time in seconds, rounded down to two units: `42 s`, `3 min 12 s`, `2 d 4 h`. */
function duration(seconds) {
  if (!(seconds >= 1)) return `less than a${NO_BREAK}second`;
  const whole = Math.floor(seconds);
  const [size, unit, smaller, smallUnit] =
    whole < 60 ? [1, "s", 1, "s"]
    : whole < 3600 ? [60, "min", 1, "s"]
    : whole < 86400 ? [3600, "h", 60, "min"]
    : [86400, "d", 3600, "h"];
  const large = count(Math.floor(whole / size)) + NO_BREAK + unit;
  const small = Math.floor((whole % size) / smaller);
  return small === 0 ? large : large + NO_BREAK + small + NO_BREAK + smallUnit;
}

/** A size: `1 byte`, `812 bytes`, `12.5 KiB`, `3.0 MiB`. */
function bytes(size) {
  const value = number(size);
  if (value < 1024) return things(value, "byte", "bytes");
  const units = [["KiB", 1024, 1_047_552], ["MiB", 1_048_576, 1_072_693_248], ["GiB", 1_073_741_824, Infinity]];
  const [unit, unitSize] = units.find(([, , below]) => value < below);
  return (value / unitSize).toFixed(1) + NO_BREAK + unit;
}

const withoutZero = (text) => text.replace(/\.0$/, "");

/** A growth: `60 per minute`, `0.5 per minute`. */
const perMinute = (rate) =>
  `${withoutZero(rate.toFixed(Math.abs(rate) < 10 ? 1 : 0))}${NO_BREAK}per${NO_BREAK}minute`;

/** A growth in a unit that suits it: `2.1 more each second`, `12 more each minute`. */
function pace(perSecond) {
  const [rate, unit] =
    perSecond >= 0.95 ? [perSecond, "second"]
    : perSecond >= 0.0159 ? [perSecond * 60, "minute"]
    : [perSecond * 3600, "hour"];
  return `${withoutZero(rate.toFixed(rate < 10 ? 1 : 0))}${NO_BREAK}more each${NO_BREAK}${unit}`;
}

/** Ascending numbers with their runs joined: `3`, `7-26`. */
function ranges(numbers) {
  const runs = [];
  for (const value of list(numbers)) {
    const run = runs.at(-1);
    if (run && run[1] + 1 === value) run[1] = value;
    else runs.push([value, value]);
  }
  return runs.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`));
}

/** The first few, and how many there are beyond them: `1, 2, 3 and 5 more`. */
function someOf(items, most, total = items.length) {
  const shown = items.slice(0, most);
  const more = total - shown.length;
  return shown.join(", ") + (more > 0 ? ` and ${count(more)} more` : "");
}

/** The last part of a path of slashes. */
const baseName = (path) => String(path).split("/").at(-1);

/** A name that is never empty. */
const nameOf = (comm) => comm || "a process without a name";

/** A time as the clock of the reader shows it. */
function clock(date, withDay = false) {
  const options = withDay ? { dateStyle: "medium", timeStyle: "long" } : { timeStyle: "medium" };
  return Number.isNaN(date.getTime()) ? "an unknown time" : date.toLocaleString("en-GB", options);
}
