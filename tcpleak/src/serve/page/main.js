// Asks tcpleak for its report again and again, and shows it. The last report stays when there is no answer.

const SECOND = 1000;
/** Time between two questions, and the longest one while nobody answers. */
const PAUSE = 5 * SECOND;
const LONGEST_PAUSE = 60 * SECOND;
/** The last hour gets a new point every ten seconds. */
const HISTORY_PAUSE = 10 * SECOND;
/** How long an answer may take. */
const PATIENCE = 10 * SECOND;
/** Surveys are at most a minute apart: a report that is older is late. */
const LATE_S = 180;
/** Statuses with a meaning of their own. */
const NO_TOKEN = 401;
const NO_SURVEY_YET = 503;

const state = {
  report: null,
  history: null,
  historyAt: -Infinity,
  /** When the last answer came, and how old its report was by the clock of the server. */
  answeredAt: null,
  reportAge: 0,
  trouble: null,
  failures: 0,
  paused: false,
  token: null,
  timer: null,
  asking: null,
};

const mount = (id) => document.getElementById(id);

/** Takes the token out of the address, where it would be seen and kept; it lives as long as this page. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  useToken(token);
  history.replaceState(null, "", location.pathname);
}

function useToken(token) {
  state.token = token;
  refreshNow();
}

async function ask(path, signal) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const options = { headers, cache: "no-store", credentials: "omit", redirect: "error", signal };
  const answer = await fetch(path, options);
  if (!answer.ok) throw Object.assign(new Error(`status ${answer.status}`), { status: answer.status });
  return { body: await answer.json(), date: Date.parse(answer.headers.get("Date") ?? "") };
}

async function refresh(asking) {
  const signal = AbortSignal.any([asking.signal, AbortSignal.timeout(PATIENCE)]);
  try {
    const { body: report, date } = await ask("report.json", signal);
    const age = (date - Date.parse(report.taken_at)) / SECOND;
    Object.assign(state, { report, answeredAt: Date.now(), reportAge: Math.max(number(age), 0), trouble: null, failures: 0 });
    if (performance.now() - state.historyAt >= HISTORY_PAUSE) {
      // Without it there is still the report.
      const past = await ask("history.json", signal).catch(() => null);
      if (past) Object.assign(state, { history: past.body, historyAt: performance.now() });
    }
  } catch (error) {
    if (asking.signal.aborted) return;
    state.trouble = error.status ?? "silent";
    state.failures += 1;
  }
  plan();
  showState();
  showReport();
}

/** Asks again when it is time; not while nobody looks, or without a token that is wanted. */
function plan() {
  clearTimeout(state.timer);
  if (state.paused || document.hidden || state.trouble === NO_TOKEN) return;
  const pause = state.trouble === NO_SURVEY_YET ? SECOND : Math.min(PAUSE * 2 ** state.failures, LONGEST_PAUSE);
  state.timer = setTimeout(refreshNow, pause);
}

function refreshNow() {
  clearTimeout(state.timer);
  state.asking?.abort();
  state.asking = new AbortController();
  refresh(state.asking);
}

function togglePause() {
  state.paused = !state.paused;
  if (state.paused) clearTimeout(state.timer);
  else refreshNow();
  showState();
}

/** How old is what is shown, in seconds. */
const ageOfReport = () => state.reportAge + (Date.now() - state.answeredAt) / SECOND;

function showState() {
  const taken = state.report && new Date(state.report.taken_at);
  const words = state.report ? `Report of ${clock(taken)}, ${duration(ageOfReport())} ago` : "No report yet";
  const paused = state.paused ? " · paused" : "";
  patch(mount("fresh"), [words + paused]);
  patch(mount("pause"), [state.paused ? "Resume" : "Pause"]);
  patch(mount("trouble"), troubleView());
}

/** What keeps the report from being new. */
function troubleView() {
  const stale = state.report ? ` What you see is from ${clock(new Date(state.report.taken_at), true)}.` : "";
  const again = element("button", { type: "button", key: "again", on: { click: refreshNow } }, "Ask again now");
  const told = (...words) => element("div", { class: "trouble", key: String(state.trouble), role: "alert" }, words);
  switch (state.trouble) {
    case null:
      return state.report && !state.paused && state.reportAge > LATE_S
        ? told(`tcpleak answers, but has taken no survey for ${duration(state.reportAge)}.${stale}`)
        : null;
    case NO_TOKEN:
      return told(
        element("p", {}, "tcpleak wants a token. Open this page with #token=… at the end of its address, or enter it here. It is kept until this page is closed or loaded anew.", stale),
        tokenView());
    case NO_SURVEY_YET:
      return told("tcpleak has started, and its first survey is on the way.", stale);
    case "silent":
      return told(`tcpleak does not answer${state.answeredAt ? ` since ${clock(new Date(state.answeredAt), true)}` : ""}.${stale} `, again);
    default:
      return told(`tcpleak answers with status ${state.trouble}.${stale} `, again);
  }
}

function tokenView() {
  const take = (event) => {
    // It is not sent anywhere from here.
    event.preventDefault();
    useToken(mount("token").value);
  };
  return element("form", { on: { submit: take } },
    element("label", { for: "token" }, "Token "),
    element("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false" }),
    " ",
    element("button", {}, "Use it"));
}

/** Shows the report, group by group. */
function showReport() {
  const { report, history } = state;
  if (!report) return;
  const leaks = leaksOf(report);
  const others = list(report.groups).filter((group) => !group.leak);
  const leaked = sumOf(leaks);
  const title = leaked === 0 ? "No leak" : things(leaked, "leaked connection", "leaked connections");
  document.title = `${title.replace(NO_BREAK, " ")} - tcpleak`;
  patch(mount("summary"), summaryView(report));
  patch(mount("host"), [urgentView(report), totalsView(report, history)]);
  patch(mount("leaks"), leaks.length > 0 && [
    element("h2", { key: "heading" }, "Leaks, the worst first"),
    element("div", { key: "groups" }, groupViews(leaks, report, history)),
  ]);
  showFlame();
  patch(mount("others"), others.length > 0 && [
    element("h2", { key: "heading" }, "No leaks, or not yet"),
    element("div", { key: "groups" }, groupViews(others, report, history)),
  ]);
  patch(mount("limits"), limitsView(report));
  patch(mount("time-wait"), timeWaitView(report));
  patch(mount("notes"), notesView(report));
  patch(mount("made"), [`tcpleak ${report.tcpleak} on Linux ${report.kernel}`]);
  mount("report").removeAttribute("aria-busy");
}

function showFlame() {
  patch(mount("flame"), flameView(leaksOf(state.report)));
}

patch(mount("place"), [location.host]);
mount("pause").addEventListener("click", togglePause);
addEventListener("hashchange", takeToken);
document.addEventListener("visibilitychange", () => (document.hidden || state.paused ? plan() : refreshNow()));
setInterval(showState, SECOND);
takeToken();
if (!state.asking) refreshNow();
