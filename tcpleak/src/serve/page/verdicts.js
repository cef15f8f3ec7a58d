// What each verdict means in plain words, what it rests on, and what to do: as docs/verdicts.md says it.
// A sentence is one line, so that a test finds it.

const VERDICTS = {
  "not-accepted": {
    severity: "leak",
    meaning: "The peer connected, and left, before the program called accept(). The connection waits in the listener's queue and belongs to no process yet: the one named here listens.",
    next: "The listener's accept() loop is stuck, too slow, or out of descriptors: look at what the process is doing, and at its limit of open files.",
  },
  "dead-fd": {
    severity: "leak",
    meaning: "The connection is over in the kernel, and a descriptor still refers to what is left of it.",
    next: "Close the descriptor when a read, a write or poll() reports the error. Nothing else frees it: no timeout, no keepalive, no ss -K.",
  },
  "half-close-in-use": {
    severity: "harmless",
    meaning: "The peer has closed its half, and the program still uses the other one. This is how TCP is meant to be used.",
    next: "None: the program is still using its half of the connection.",
  },
  "inherited": {
    severity: "leak",
    meaning: "A process holds the connection that did not open it, or several processes hold it. When the opener closes its descriptor the connection stays open, because the other one still refers to it.",
    next: "Open the socket with SOCK_CLOEXEC, so that programs started later do not inherit it; after a fork() without exec(), close it in the child.",
  },
  "reader-stuck": {
    severity: "leak",
    meaning: "The peer has sent data and closed, and nobody reads the data. The end of file lies behind it, unseen. That is usually a hang and not a forgotten close.",
    next: "Find out what the reader waits for (a lock, a full queue, a slow consumer), and give reads a deadline that closes the connection.",
  },
  "reader-stalled": {
    severity: "leak",
    meaning: "The connection is still established and the peer still wants to send, but the program does not read and the receive window is closed. Even the peer's FIN cannot arrive.",
    next: "Find out what the reader waits for (a lock, a full queue, a slow consumer), and give reads a deadline that closes the connection.",
  },
  "pooled": {
    severity: "harmless",
    meaning: "An idle connection of a pool that is in use. The pool will find out that the peer is gone when it next picks it, and close it.",
    next: "None: the pool will notice at the next use. An idle timeout shorter than the server's avoids such connections.",
  },
  "eof-ignored": {
    severity: "leak",
    meaning: "The program read the end of file, so it was told that the peer is gone, and kept the descriptor.",
    next: "Close the connection when recv() returns 0 (the stream ends), on every path.",
  },
  "eof-consumed": {
    severity: "leak",
    meaning: "Nothing is left to read, not even the FIN. Perhaps the program saw the end of file; perhaps the FIN came together with the last data and the program, having all it wanted, never looked again.",
    next: "Close the connection, or the response that holds it, once it has been read; errors and early returns included.",
  },
  "eof-unread": {
    severity: "leak",
    meaning: "The peer's FIN waits in the receive queue and was never read: the connection was forgotten, or it lies idle in a pool.",
    next: "Close the connection, or the response that holds it, on every path, errors included. If a pool keeps it: give the pool an idle timeout shorter than the server's.",
  },
  "fin-wait2-held": {
    severity: "half-dead",
    meaning: "The program has shut down its half, the peer has acknowledged that, and keeps its own half open without sending anything. No timer ends this while a descriptor is held.",
    next: "Close the descriptor once the answer has been read, and after a deadline when none comes: net.ipv4.tcp_fin_timeout is only for connections that nobody holds. Then look at why the peer does not close.",
  },
  "orphaned": {
    severity: "half-dead",
    meaning: "The program has closed the connection, no descriptor is left, and the peer does not acknowledge the rest. The kernel gives each up after some minutes.",
    next: "See whether the peer still reads, or is gone. Before close(), wait for it with a deadline, or set TCP_USER_TIMEOUT: otherwise the kernel goes on for minutes (net.ipv4.tcp_orphan_retries).",
  },
  "syn-sent": {
    severity: "half-dead",
    meaning: "The program called connect(), and nobody answers, not even to refuse. The kernel gives up after two minutes or so, so attempts pile up where a program makes new ones faster.",
    next: "See whether the address is right, and whether a firewall drops the packets. Give connect() a deadline: the kernel's own is about two minutes (net.ipv4.tcp_syn_retries).",
  },
  "open-idle": {
    severity: "idle",
    meaning: "The connection is open on both sides, and was not used for long: a pool that only grows, or connections that were forgotten while their peer is there. Connections that wait on purpose look the same.",
    next: "None if they are meant to wait. Otherwise close them after use; if a pool keeps them, give it an idle timeout and a largest size.",
  },
};

// A verdict of a tcpleak that is newer than this page.
const UNKNOWN_VERDICT = { severity: "leak", meaning: "", next: "" };

/** What a group's verdict means, and what to do. */
const verdictOf = (group) => (Object.hasOwn(VERDICTS, group.verdict) ? VERDICTS[group.verdict] : UNKNOWN_VERDICT);

const waiting = (worst, total) =>
  worst === total ? `${bytes(total)} unread` : `${bytes(total)} unread, ${bytes(worst)} of them on one connection`;

const alsoWaiting = (worst, total) => (number(total) === 0 ? "" : `; ${waiting(worst, total)}`);

/** What the verdict rests on. */
function evidence(group) {
  const seen = group.evidence ?? {};
  const { unread_bytes: unread, unread_bytes_total: unreadTotal } = seen;
  switch (group.verdict) {
    case "not-accepted": {
      const full = seen.accept_queue > seen.backlog ? ": it is full" : "";
      return `The accept queue of ${seen.listener} holds ${connections(seen.accept_queue)}, its limit is ${count(seen.backlog)}${full}.`;
    }
    case "dead-fd": {
      const ends = [
        [seen.reset, "reset by the peer"],
        [seen.fin_then_reset, "closed by the peer, then reset"],
        [seen.shut_down_in_order, "shut down in order by both sides"],
        [seen.timed_out, "given up because the peer stopped answering"],
      ];
      const told = ends.filter(([times]) => number(times) > 0).map(([times, end]) => count(times) + NO_BREAK + end);
      return `${told.join("; ") || "How they ended was not seen"}. ss and /proc/net/tcp do not show such connections.`;
    }
    case "half-close-in-use": {
      const uses = [
        number(seen.sending) > 0 && `data was sent on ${count(seen.sending)} of them`,
        number(seen.reading) > 0 && `data was read on ${count(seen.reading)} of them`,
      ].filter(Boolean);
      return `Since the peer's FIN, ${uses.join(" and ") || "data may have been sent or read"}.`;
    }
    case "inherited": {
      const held = number(seen.holding_processes);
      const holders = held === 1 ? "1 process holds them" : `${count(held)} processes hold them`;
      const opener =
        seen.opener_holds === true ? "the opener is among them"
        : seen.opener_holds === false ? "the opener is not among them"
        : "who opened them is not known";
      return `${holders}; ${opener}.`;
    }
    case "reader-stuck":
      return `${waiting(unread, unreadTotal)}, and nobody reads.`;
    case "reader-stalled":
      return `${waiting(unread, unreadTotal)}; the receive window is down to ${bytes(seen.window_bytes)}: the peer cannot send any more, its FIN included.`;
    case "pooled":
      return `While tcpleak watched, siblings (connections opened by the same code) were used again ${things(seen.siblings_reused, "time", "times")} and ${count(seen.siblings_evicted)} closed after their peer had gone, and their number does not grow.`;
    case "eof-ignored":
      return `A read returned end of file ${duration(seen.eof_read_s)} ago (oldest), and the descriptor is still open.`;
    case "eof-consumed":
    case "eof-unread":
      return seen.fin_unread
        ? "Only the peer's FIN waits to be read: no read has returned end of file."
        : "Nothing is left to read, the peer's FIN included.";
    case "fin-wait2-held":
      return `The program shut down its half, the peer acknowledged that and keeps its own open, from which nothing has come for ${duration(seen.last_data_s)}${alsoWaiting(unread, unreadTotal)}. No timer ends this while a descriptor is held.`;
    case "orphaned": {
      const { unacknowledged_bytes: worst, unacknowledged_bytes_total: total } = seen;
      const data = worst === total ? bytes(total) : `${bytes(total)} (${bytes(worst)} on one connection)`;
      const rest = number(total) === 0 ? "The FIN is" : `${data} and the FIN are`;
      return `${rest} not acknowledged. The peer's latest acknowledgement of anything came ${duration(seen.last_ack_s)} ago. No descriptor is left; the kernel keeps the data.`;
    }
    case "syn-sent":
      return `No answer has come to the SYN, which was sent again ${things(seen.retransmits, "time", "times")} at most.`;
    case "open-idle":
      return `Both sides are open, and nothing was sent or received for ${duration(seen.idle_s)} or longer${alsoWaiting(unread, unreadTotal)}.`;
    default:
      return Object.entries(seen).map(([field, value]) => `${field}: ${value}`).join(", ");
  }
}
