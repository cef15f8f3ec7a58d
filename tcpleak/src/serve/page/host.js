// The host as a whole: what leaks in one sentence, its totals, and what runs out.

/** Rows that are shown of each table. */
const ROWS_SHOWN = 20;

const sumOf = (groups) => groups.reduce((sum, group) => sum + number(group.count), 0);

const leaksOf = (report) => list(report.groups).filter((group) => group.leak);

/** How many rows of a table are not shown. */
const moreRows = (rows, singular, plural) =>
  list(rows).length > ROWS_SHOWN && element("p", { class: "dim" }, `and ${things(rows.length - ROWS_SHOWN, singular, plural)} more: see report.json`);

/** What is wrong, in one sentence. */
function summaryView(report) {
  const leaks = leaksOf(report);
  if (leaks.length === 0) return quietView(report);
  const programs = new Map();
  for (const group of leaks) {
    const name = nameOf(group.process?.comm);
    programs.set(name, (programs.get(name) ?? 0) + number(group.count));
  }
  const named = [...programs].map(([name, leaked]) => (programs.size === 1 ? name : `${count(leaked)}${NO_BREAK}of${NO_BREAK}${name}`));
  const where = programs.size === 1 ? ` of ${named[0]}` : `: ${someOf(named, 4)}`;
  return [
    element("h1", { class: "alarm", key: "sentence" }, things(sumOf(leaks), "leaked connection", "leaked connections"), where),
    element("p", { class: "dim", key: "rest" },
      leaks.length > 1 && `In ${things(leaks.length, "group", "groups")}, the worst first. `,
      halfDeadWords(report)),
  ];
}

function halfDeadWords(report) {
  const told = (severity, singular, plural) => {
    const groups = list(report.groups).filter((group) => !group.leak && verdictOf(group).severity === severity);
    const sum = sumOf(groups);
    return groups.length > 0 && `${connections(sum)} ${sum === 1 ? singular : plural}. `;
  };
  return [told("half-dead", "is half dead", "are half dead"), told("idle", "is open and idle", "are open and idle")];
}

/** That nothing leaks, and how much that says. */
function quietView(report) {
  const totals = report.totals ?? {};
  const notes = list(report.notes).length;
  const young = list(report.groups).filter((group) => !group.leak && verdictOf(group).severity === "leak");
  return [
    element("h1", { class: "calm", key: "sentence" }, "No leak"),
    element("p", { key: "rest" },
      `No connection is held open whose peer has been gone for longer than --min-age. Looked at: ${connections(totals.connections)}. `,
      young.length > 0 && `${connections(sumOf(young))} may become a leak: see below. `,
      young.length === 0 && number(totals.close_wait) > 0 && `${count(totals.close_wait)} in CLOSE_WAIT are no leaks, or not yet: with --all tcpleak serve says why. `,
      halfDeadWords(report)),
    element("p", { class: "dim", key: "known" },
      notes > 0 ? `${things(notes, "thing", "things")} that this report does not know: see the notes.` : "Nothing is known to be missing from this report."),
  ];
}

/** Numbers of the whole host, with the last hour where it is kept. */
function totalsView(report, history) {
  const totals = report.totals ?? {};
  const files = totals.file_handles;
  const tile = (label, value, values) =>
    element("div", { class: "tile", key: label },
      element("div", { class: "number" }, value),
      element("div", { class: "label" }, label),
      plotView(label, history, values));
  return element("div", { class: "tiles", key: "totals" },
    tile("connections", count(totals.connections), history?.connections),
    tile("in CLOSE_WAIT", count(totals.close_wait), history?.close_wait),
    tile("dead, but held", count(totals.dead_fd), history?.dead_fd),
    tile("in TIME_WAIT", count(totals.time_wait), history?.time_wait),
    tile("not accepted", count(totals.unaccepted)),
    files && tile(`open files of ${count(files.limit)}`, count(files.open)));
}

/** What runs out soon: it stands before everything else. */
function urgentView(report) {
  const ports = list(report.ports).filter((row) => row.close_to_limit);
  const processes = list(report.processes).filter((process) => process.close_to_limit);
  if (ports.length + processes.length === 0) return null;
  return element("ul", { class: "urgent", key: "urgent", "aria-label": "What runs out soon" },
    processes.slice(0, ROWS_SHOWN).map((process) => element("li", {},
      element("strong", { class: "name" }, `${nameOf(process.comm)} (pid${NO_BREAK}${process.pid})`), ": ", descriptorsView(process))),
    ports.slice(0, ROWS_SHOWN).map((row) => element("li", {},
      "Ports from ", element("span", { class: "name" }, `${row.source} to ${row.destination}`), " ",
      element("strong", { class: "alarm" }, portsOutlook(row)), `: ${portsUsage(row)}`)));
}

const portsUsage = (row) => `${count(row.in_use)} of ${count(number(row.in_use) + number(row.available))} in use`;

/** Ports and descriptors that are left. */
function limitsView(report) {
  const states = (row) => Object.entries(row.by_state ?? {}).map(([state, sockets]) => `${count(sockets)}${NO_BREAK}${state}`);
  const outlook = (row) => {
    if (isNumber(row.runs_out_in_s) || row.close_to_limit) return `They ${portsOutlook(row)} (${row.basis})`;
    const withheld = String(row.basis ?? "").match(/^withheld: (.*)/);
    return withheld ? `No forecast: ${withheld[1]}` : `They do not run out at this rate (${row.basis})`;
  };
  const details = (row) => [
    states(row).join(", "),
    number(row.taken_for_all) > 0 && `${count(row.taken_for_all)} taken for every destination`,
    number(row.reusable) > 0 && `${count(row.reusable)} of the TIME_WAIT ones take none: the kernel reuses their ports`,
    row.bound && "bound before connect()",
  ].filter(Boolean).join("; ");
  const ports = list(report.ports).slice(0, ROWS_SHOWN);
  const processes = list(report.processes).slice(0, ROWS_SHOWN);
  return [
    ports.length > 0 && [
      element("h2", { key: "ports" }, "Ports"),
      element("div", { key: "ports-table" }, table(["From", "To", "In use", "Outlook", "By state"],
        ports.map((row) => [row.source, row.destination, portsUsage(row), outlook(row), details(row)])),
        moreRows(report.ports, "destination", "destinations")),
    ],
    processes.length > 0 && [
      element("h2", { key: "descriptors" }, "Descriptors of these processes"),
      element("div", { key: "descriptors-table" }, table(["Process", "Open, and when they run out"],
        processes.map((process) => [`${nameOf(process.comm)} (pid${NO_BREAK}${process.pid})`, descriptorsView(process)])),
        moreRows(report.processes, "process", "processes")),
    ],
  ];
}

/** Who puts sockets into TIME_WAIT, and what would help. */
function timeWaitView(report) {
  const rows = list(report.time_wait).slice(0, ROWS_SHOWN);
  const who = (row) => {
    if (row.process) return `${nameOf(row.process.comm)} (${row.pids_total === 1 ? "pid" : "pids"}${NO_BREAK}${someOf(list(row.pids), 3, number(row.pids_total))})`;
    if (row.older_than_tracer === row.count) return "older than tcpleak";
    if (number(row.older_than_tracer) === 0) return "nobody was seen to close them";
    return `${count(row.older_than_tracer)} older than tcpleak, of the others nobody was seen to close them`;
  };
  const code = (row) => {
    const path = row.origin ?? row.close;
    if (!path) return "not known";
    const frame = list(path.frames).find(({ own }) => own) ?? list(path.frames)[0];
    return element("details", {},
      element("summary", {}, frame ? frameName(frame) : "no frames"),
      pathView("path", row.origin ? "Opened by" : "Closed by", path),
      number(row.unsampled) > 0 && element("p", { class: "dim" }, `… ${count(row.unsampled)} of these by proportion: their own code path is not known`));
  };
  const cells = (row) => [
    count(row.count),
    isNumber(row.rate_per_s) ? row.rate_per_s.toFixed(1) : "not known",
    [who(row), whereRunning(row.process) && element("div", { class: "dim" }, whereRunning(row.process))],
    row.remote ? `${row.local} to ${row.remote}` : `accepted at ${row.local}`,
    code(row),
  ];
  const kinds = { "helps": "Helps", "does-not-help": "Harms", "myth": "Myth" };
  const advice = list(report.advice).map(({ kind, text }) => fact(kinds[kind] ?? kind, text));
  return [
    rows.length > 0 && [
      element("h2", { key: "heading" }, "TIME_WAIT, by who closed first"),
      element("div", { key: "table" }, table(["Sockets", "Each second", "Closed by", "Where", "Code"], rows.map(cells)),
        moreRows(report.time_wait, "row", "rows")),
    ],
    advice.length > 0 && element("dl", { class: "facts", key: "advice" }, advice),
  ];
}

/** What this report does not know, and what was lost. */
function notesView(report) {
  const notes = list(report.notes);
  return notes.length > 0 && [
    element("h2", { key: "heading" }, "What this report does not know"),
    element("ul", { key: "list" }, notes.map((note) => element("li", {}, note))),
  ];
}
