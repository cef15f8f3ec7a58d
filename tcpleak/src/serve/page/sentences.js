// Who does what, and what is known of it: the sentences of the text that tcpleak prints.

const has = (group, qualifier) => list(group.qualifiers).includes(qualifier);

/** How sure a group is a leak: the tag in front of it, and how loud that is. */
function status(group) {
  const { severity } = verdictOf(group);
  if (group.leak) {
    if (has(group, "leak-or-idle-pool")) return ["LEAK OR IDLE POOL", "warning"];
    if (has(group, "recently-sent")) return ["LEAK OR IN USE", "warning"];
    return ["LEAK", "alarm"];
  }
  if (severity === "half-dead") return ["HALF DEAD", "warning"];
  if (severity === "idle") return ["IDLE", "warning"];
  if (severity === "harmless") return ["NO LEAK", "calm"];
  return [has(group, "age-unknown") ? "PERHAPS A LEAK" : "NOT YET A LEAK", "warning"];
}

/** Who: `python3 (pid 4242)`. */
function subject(group) {
  const process = group.process ?? {};
  const pids = list(group.pids);
  const ended = has(group, "process-ended") || has(group, "closed-by-exit") ? ", ended" : "";
  if (!isNumber(process.pid) && pids.length === 0) return "an unknown process";
  const some = isNumber(process.pid) && pids.length < 2
    ? `pid${NO_BREAK}${process.pid}`
    : `pids${NO_BREAK}${someOf(pids, 3)}`;
  return `${nameOf(process.comm)} (${some}${ended})`;
}

/** `3 min 12 s`, with `at least` when only that is known. */
function age(group) {
  if (group.age_kind !== "at_least") return duration(group.oldest_s);
  return number(group.oldest_s) < 1
    ? "an unknown time"
    : `at${NO_BREAK}least ${duration(group.oldest_s)}`;
}

/** `growing by 60 per minute`; nothing when the group does not grow. */
function growth(group) {
  if (!has(group, "growing")) return "";
  const rate = number(group.growth_per_min);
  return rate > 0 ? `growing by ${perMinute(rate)}` : "growing";
}

function thoseConnections(group) {
  const those = connections(group.count);
  const { endpoint, remote } = group;
  if (group.verdict === "not-accepted") return `${those} on ${endpoint}`;
  if (remote === endpoint || list(group.connections)[0]?.remote === endpoint) return `${those} to ${endpoint}`;
  return remote
    ? `${those} from ${remote} (accepted on ${endpoint})`
    : `${those} accepted on ${endpoint}`;
}

/** What the subject does: `keeps 20 connections to 10.0.0.5:80 open that the peer closed, ...`. */
function predicate(group) {
  const one = group.count === 1;
  const those = thoseConnections(group);
  const gone = `that the peer closed${one ? "" : ", the oldest"} ${age(group)} ago`;
  const since = one ? ` for ${age(group)}` : `, the oldest for ${age(group)}`;
  const evidence = group.evidence ?? {};
  switch (group.verdict) {
    case "not-accepted":
      return `has not accepted ${those} ${gone}`;
    case "dead-fd":
      return `holds ${those} that ${one ? "has" : "have"} been dead in the kernel${since}`;
    case "half-close-in-use":
      return `still uses ${those} whose peer closed its half${one ? "" : ", the oldest"} ${age(group)} ago`;
    case "inherited": {
      if (evidence.opener_holds === false) return `holds ${those} that it did not open and ${gone}`;
      const others = things(Math.max(number(evidence.holding_processes) - 1, 0), "other process", "other processes");
      return `shares ${those} with ${others}, ${gone}`;
    }
    case "reader-stuck":
      return `leaves data unread on ${those} ${gone}`;
    case "reader-stalled":
      return `has stopped reading ${those}${since}`;
    case "pooled":
      return `keeps ${those} idle in a pool ${gone}`;
    case "eof-ignored":
      return `keeps ${those} open ${gone}, although it has read the end of file`;
    case "fin-wait2-held":
      return `keeps ${those} open that it has shut down and the peer has not${since}`;
    case "orphaned":
      return `has closed ${those}, and the peer does not take the rest${since}`;
    case "syn-sent":
      return `gets no answer to ${those}${since}`;
    case "open-idle":
      return `keeps ${those} open and idle${since}`;
    default:
      return `keeps ${those} open ${gone}`;
  }
}

/** Where the function to look at first is: `(crawl.py:42)`; nothing when that adds nothing. */
function titlePlace(group) {
  const title = group.title ?? {};
  if (title.file) return ` (${baseName(title.file)}${isNumber(title.line) ? `:${title.line}` : ""})`;
  const module = title.module && title.module !== group.process?.exe ? baseName(title.module) : "";
  return module && !String(title.function).startsWith(module) ? ` (${module})` : "";
}

/** Why there is no code path. */
function noCodePath(group) {
  if (has(group, "not-traced"))
    return "unknown: this kernel does not let tcpleak trace. `tcpleak doctor` says why.";
  if (has(group, "before-tracer"))
    return "unknown: opened before tcpleak started. It is known for connections that are opened from now on.";
  if (has(group, "not-sampled"))
    return "unknown: not sampled, to keep the tracing cheap or because the stack could not be read.";
  if (has(group, "owner-from-survey")) return "unknown: accept() was not seen. Try --accept-stacks.";
  return "unknown. It is known for connections that are opened from now on.";
}

/** What else is true of a group, as far as the headline and the code path do not say it. */
function remarks(group) {
  const sampled = (part, what) =>
    `The ${what} of ${count(part)} of these ${connections(group.count)} was not sampled.`;
  const last = group.last_use;
  return [
    ...list(group.qualifiers).map((qualifier) => remark(group, qualifier)),
    group.origin && number(group.unsampled) > 0 && sampled(group.unsampled, "code path"),
    last && number(last.unsampled) > 0 && (last.read || last.write) && sampled(last.unsampled, "last use"),
  ].filter(Boolean);
}

function remark(group, qualifier) {
  switch (qualifier) {
    case "growing":
    // In place of the code path; and these are counted.
    case "not-traced":
    case "not-sampled":
      return "";
    case "age-unknown":
      return "When the peer went away is not known exactly: --min-age lies between the bounds of the age.";
    case "before-tracer":
      return group.origin ? "Some were opened before tcpleak started." : "";
    case "owner-from-survey":
      return "accept() was not seen: the owner is the process that holds the descriptor.";
    case "held-without-descriptor":
      return "Some are held without descriptor: in flight between processes, or registered with io_uring.";
    case "process-ended":
      return "The process has ended, and the connections with it: this is how they were last seen.";
    case "closed-by-exit":
      return group.count === 1
        ? "Nothing closed it but the end of its process."
        : "Some of them were closed by nothing but the end of their process.";
    case "recently-sent":
      return "Data was sent after the peer closed its half: the rest may still be in use. Watching with `sudo tcpleak` tells.";
    case "leak-or-idle-pool":
      return "In a snapshot an idle pool looks the same. Watching with `sudo tcpleak` tells them apart.";
    default:
      // A qualifier of a tcpleak that is newer than this page.
      return `Also: ${qualifier}.`;
  }
}

/** The part of a process's descriptors that is in use. */
const descriptorShare = (process) =>
  isNumber(process.fds_open) && isNumber(process.fd_limit) ? process.fds_open / Math.max(process.fd_limit, 1) : 0;

/** How a process stands with descriptors: how many are in use, when they run out, and on what that rests. */
function descriptorWords(process) {
  const known = (value) => (isNumber(value) ? count(value) : "an unknown number");
  const usage = `${known(process.fds_open)}${NO_BREAK}of${NO_BREAK}${known(process.fd_limit)} in use`;
  const basis = String(process.basis ?? "");
  if (!isNumber(process.runs_out_in_s)) {
    return [usage, "", ` (no forecast: ${basis.replace(/^withheld: /, "")})`];
  }
  if (process.runs_out_in_s > 0 && isNumber(process.fd_rate_per_s)) {
    const left = process.runs_out_in_s < 1 ? "" : `about${NO_BREAK}`;
    const when = `"too many open files" in ${left}${duration(process.runs_out_in_s)}`;
    return [`${usage}, ${pace(process.fd_rate_per_s)}: `, when, ` (${basis})`];
  }
  return [`${usage}: `, '"too many open files" whenever one more is opened', ""];
}

/** `run out in about 12 s` */
function portsOutlook(ports) {
  if (!isNumber(ports.runs_out_in_s)) return "are nearly used up";
  return ports.runs_out_in_s === 0 ? "have run out" : `run out in about ${duration(ports.runs_out_in_s)}`;
}
