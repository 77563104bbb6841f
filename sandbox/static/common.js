"use strict";
// What both pages share: words, times in the visitor's zone, toasts, the send form. Text goes in as text, never as HTML.

const words = JSON.parse(document.getElementById("words").textContent);

const post = async (path, body) => {
  const reply = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) throw Object.assign(new Error(answer.problem || `HTTP ${reply.status}`), { status: reply.status });
  return answer;
};

const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};

const localTimes = (root) => {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const today = at.toDateString() === new Date().toDateString();
    const locale = document.documentElement.lang;
    time.textContent =
      today && !("long" in time.dataset) ? at.toLocaleTimeString(locale, { hour12: false }) : at.toLocaleString(locale, { hour12: false });
    time.title = at.toLocaleString(locale);
  }
};

const toast = (title, text) => {
  const box = element("div", "toast");
  box.append(element("strong", "", title), element("span", "", text || ""));
  document.getElementById("toasts").append(box);
  setTimeout(() => box.classList.add("leaving"), 5000);
  setTimeout(() => box.remove(), 5400);
};

const FIRST_LOOK_MS = 250;
const LONGEST_LOOK_MS = 4000;

// Follows a notification until it is final, looking less and less often. `link` gets the newest of its workflows.
const follow = async (id, show, link) => {
  const until = Date.now() + 60_000;
  for (let pause = FIRST_LOOK_MS; Date.now() < until; pause = Math.min(pause * 1.5, LONGEST_LOOK_MS)) {
    await new Promise((done) => setTimeout(done, pause));
    const reply = await fetch(`/send/${encodeURIComponent(id)}`);
    if (!reply.ok) return;
    const standing = await reply.json();
    const status = words[`status_${standing.status}`] || standing.status;
    const codes = [...new Set(standing.codes || [])].join(", ");
    const waiting = standing.final || !codes ? "" : words.trying;
    show(standing.status, [status, codes || standing.reason, waiting].filter(Boolean).join(" · "));
    link(standing.workflow);
    if (standing.final) return;
  }
};

const wireForm = () => {
  const form = document.getElementById("send");
  if (!form) return;
  const outcome = document.getElementById("outcome");
  const workflow = document.getElementById("workflow");
  let latest = 0;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const mine = ++latest;
    const show = (state, text) => {
      if (mine !== latest) return;
      outcome.dataset.state = state;
      outcome.textContent = text;
    };
    const link = (url) => {
      if (mine !== latest) return;
      workflow.hidden = !/^https?:\/\//.test(url || "");
      if (!workflow.hidden) workflow.href = url;
    };
    show("sending", words.sending);
    link("");
    try {
      const answer = await post("/send", Object.fromEntries(new FormData(form)));
      show(answer.status, words[`status_${answer.status}`] || answer.status);
      await follow(answer.id, show, link);
    } catch (error) {
      show("failed", `${words.failed}: ${error.message}`);
    }
  });
};

wireForm();
localTimes(document);
