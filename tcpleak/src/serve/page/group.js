// One group: what is wrong and in which function, who, why, what now, and where in the code.

/** Leaks that are unfolded when they are seen for the first time, and groups that are shown at all. */
const GROUPS_OPEN = 3;
const GROUPS_SHOWN = 200;

/** Whether a group is unfolded, by its id: the reader decides, and before that its place. */
const unfolded = new Map();

function isUnfolded(group, position) {
  if (!unfolded.has(group.id)) unfolded.set(group.id, Boolean(group.leak) && position < GROUPS_OPEN);
  return unfolded.get(group.id);
}

/** Groups as a list, each to be unfolded. */
function groupViews(groups, report, history) {
  const shown = groups.slice(0, GROUPS_SHOWN).map((group, position) => groupView(group, position, report, history));
  const more = groups.length - shown.length;
  return [
    shown,
    more > 0 && element("p", { class: "dim", key: "more" }, `and ${things(more, "more group", "more groups")}: see report.json`),
  ];
}

function groupView(group, position, report, history) {
  const open = isUnfolded(group, position);
  // Not by the event that follows: a report could come in between, and undo it.
  const fold = (event) => {
    event.preventDefault();
    unfolded.set(group.id, !isUnfolded(group, position));
    showReport();
  };
  const loudness = status(group)[1];
  return element("details", { class: `group ${loudness}`, key: group.id, "data-group": group.id, open },
    element("summary", { on: { click: fold } }, headline(group)),
    open && element("div", { class: "body" },
      element("div", { class: "about" },
        meaning(group, report),
        plotView("this leak", history, history?.groups?.[group.id])),
      element("div", { class: "paths" }, codeViews(group)),
      facts(group),
      socketsView(group)));
}

/** What a folded group still tells. */
function headline(group) {
  const [tag, loudness] = status(group);
  const grows = growth(group);
  const title = group.title && [
    " in ",
    element("code", { class: "title" }, group.title.function),
    element("span", { class: "place" }, titlePlace(group)),
  ];
  return [
    element("h3", {},
      element("span", { class: `tag ${loudness}` }, tag),
      " ",
      element("span", { class: "verdict" }, group.verdict),
      title),
    element("span", { class: "line" },
      element("strong", { class: "name" }, subject(group)),
      ` ${predicate(group)}`,
      grows && element("strong", {}, `; ${grows}`),
      "."),
    whereRunning(group.process) && element("span", { class: "line owner dim" }, whereRunning(group.process)),
  ];
}

/** The unit, or the pod or container, that a process runs in. */
function whereRunning(process) {
  const container = process?.container;
  const parts = container
    ? [
        container.pod && `pod ${container.namespace ? `${container.namespace}/` : ""}${container.pod}`,
        container.name ? `container ${container.name}` : container.id && `container ${String(container.id).slice(0, 12)}`,
        container.image && `image ${container.image}`,
      ]
    : [process?.unit && `unit ${process.unit}`];
  return parts.filter(Boolean).join(", ");
}

const fact = (label, ...words) => [element("dt", {}, label), element("dd", {}, words)];

function meaning(group, report) {
  const { meaning: what, next } = verdictOf(group);
  return element("dl", { class: "meaning" },
    what && fact("It means", what),
    fact("Evidence", evidence(group)),
    openFiles(group, report),
    next && fact("Next step", next),
    remarks(group).map((remark) => fact("Note", remark)));
}

/** Of the processes of a group the one that runs out of descriptors first, when that is worth a word. */
function openFiles(group, report) {
  const isNotable = (process) => isNumber(process.runs_out_in_s) || descriptorShare(process) > 0.5;
  const left = (process) => (isNumber(process.runs_out_in_s) ? process.runs_out_in_s : Infinity);
  const [first] = list(report.processes)
    .filter((process) => list(group.pids).includes(process.pid) && isNotable(process) && !has(group, "process-ended"))
    .sort((one, other) => left(one) - left(other) || descriptorShare(other) - descriptorShare(one));
  return first && fact("Open files", list(group.pids).length > 1 && `pid${NO_BREAK}${first.pid}: `, descriptorsView(first));
}

/** How a process stands with descriptors, the urgent part in bold. */
function descriptorsView(process) {
  const [usage, end, basis] = descriptorWords(process);
  return [usage, end && element("strong", { class: process.close_to_limit ? "alarm" : "" }, end), basis];
}

/** Which of the many processes of that name it is, and who opened and holds the connections. */
function facts(group) {
  const process = group.process ?? {};
  const command = list(process.cmdline).join(" ") || process.exe;
  const opener = group.opener;
  const strange = (other) => other.pid !== process.pid;
  const holders = list(group.holders);
  const showHolders = holders.length > 1 || holders.some(strange);
  const whoHolds = (holder) => {
    const descriptors = ranges(holder.fds);
    const dots = descriptors.length > 8 || list(holder.fds).length < number(holder.fds_total) ? ", …" : "";
    return `${nameOf(holder.comm)} (pid${NO_BREAK}${holder.pid}), ${things(holder.fds_total, "descriptor", "descriptors")}: ${descriptors.slice(0, 8).join(", ")}${dots}`;
  };
  return element("dl", { class: "facts" },
    command && fact("Program", element("code", {}, command)),
    process.cgroup && process.cgroup !== "/" && fact("Cgroup", element("code", {}, process.cgroup)),
    opener && (group.verdict === "inherited" || strange(opener)) &&
      fact("Opened by", `${nameOf(opener.comm)} (pid${NO_BREAK}${opener.pid}${opener.tid === opener.pid ? "" : `, thread${NO_BREAK}${opener.tid}`})`),
    showHolders && holders.slice(0, 8).map((holder) => fact("Held by", whoHolds(holder))),
    showHolders && holders.length > 8 && fact("", `and ${things(holders.length - 8, "more process", "more processes")}`));
}

/** The connections, folded. */
function socketsView(group) {
  const listed = list(group.connections);
  const more = number(group.connections_total) - listed.length;
  if (listed.length === 0) return null;
  const cells = (connection) => [
    ranges(connection.fds).join(", ") || "none",
    connection.local,
    connection.remote,
    connection.state,
    duration(connection.age_s),
    connection.inode || "none",
  ];
  return element("details", { class: "sockets" },
    element("summary", {}, `${connections(group.connections_total ?? listed.length)}, oldest first`),
    table(["Descriptor", "Local", "Remote", "State", "Age", "Inode"], listed.map(cells)),
    more > 0 && element("p", { class: "dim" }, `and ${count(more)} more`));
}

/** A table that scrolls by itself where the screen is narrow. */
const table = (heads, rows) =>
  element("div", { class: "table", tabindex: "0", role: "region", "aria-label": heads.join(", ") },
    element("table", {},
      element("thead", {}, element("tr", {}, heads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, rows.map((cells) => element("tr", {}, cells.map((cell) => element("td", {}, cell)))))));
