"use strict";
// A live in-app inbox as an application would build it: the items once, then the event stream. The ticket for the stream is
// good for one connection, so a lost one is opened again with a new ticket and the last event's id.

const page = document.querySelector(".inbox-page");
const user = page.dataset.user;
const list = document.getElementById("items");
const unread = document.getElementById("unread");
const state = document.getElementById("state");
const problem = document.getElementById("problem");
const empty = document.getElementById("empty");
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

let lastEventId = "";
let pause = FIRST_PAUSE_MS;

const showState = (name) => {
  state.dataset.state = name;
  state.textContent = words[name];
};

let unreadCount = 0;

const showUnread = (n) => {
  unreadCount = n;
  unread.hidden = !n;
  unread.textContent = n > 99 ? "99+" : n;
  unread.title = words.unread;
  document.title = (n ? `(${n}) ` : "") + document.title.replace(/^\(\d+\) /, "");
};

const showProblem = (text) => {
  problem.hidden = !text;
  problem.textContent = text;
};

const mark = async (item, which) => {
  try {
    await post("/inbox/mark", { user, item, mark: which });
    await load();
  } catch (error) {
    showProblem(error.message);
  }
};

const button = (text, act) => {
  const made = element("button", "quiet", text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
};

const rendered = (item) => {
  const row = element("li", item.read_at ? "item" : "item unread");
  row.dataset.id = item.id;
  const time = element("time");
  time.dateTime = item.created_at;
  const head = element("div", "item-head");
  head.append(element("strong", "", item.title || words.no_subject), time);
  const acts = element("div", "item-acts");
  if (/^https?:\/\//i.test(item.url || "")) {
    const link = element("a", "", words.follow);
    Object.assign(link, { href: item.url, target: "_blank", rel: "noreferrer noopener" });
    acts.append(link);
  }
  if (!item.read_at) acts.append(button(words.mark_read, () => mark(item.id, "read")));
  acts.append(button(words.archive, () => mark(item.id, "archive")));
  row.append(head, element("p", "", item.text), acts);
  return row;
};

// Events that come while the list is being read are laid over it afterwards: the list may have been made before them.
let early = null;
let reading = Promise.resolve();

const readList = async () => {
  early = [];
  try {
    const reply = await fetch(`/inbox/items?user=${encodeURIComponent(user)}`);
    const answer = await reply.json();
    if (!reply.ok) throw new Error(answer.problem);
    list.replaceChildren(...answer.items.filter((item) => !item.archived_at).map(rendered));
    showUnread(answer.unread);
  } finally {
    const missed = early;
    early = null;
    missed.forEach(place);
    tidy();
  }
};

const load = () => (reading = reading.catch(() => {}).then(readList));

const tidy = () => {
  empty.hidden = list.children.length > 0;
  localTimes(list);
};

// Puts one item where it belongs and keeps the count right; true when it is new here. An item may come twice.
const place = (item) => {
  const known = list.querySelector(`[data-id="${CSS.escape(item.id)}"]`);
  const counted = known ? known.classList.contains("unread") : false;
  const counts = !item.read_at && !item.archived_at;
  showUnread(Math.max(0, unreadCount + (counts ? 1 : 0) - (counted ? 1 : 0)));
  if (item.archived_at) {
    if (known) known.remove();
    return false;
  }
  const row = rendered(item);
  if (known) {
    known.replaceWith(row);
    return false;
  }
  row.classList.add("new");
  list.prepend(row);
  return true;
};

const arrive = (event) => {
  if (event.lastEventId) lastEventId = event.lastEventId;
  const item = JSON.parse(event.data);
  if (early) early.push(item);
  if (place(item) && !item.read_at) toast(item.title || words.new_message, item.text);
  tidy();
};

const later = () => {
  showState("lost");
  setTimeout(connect, pause);
  pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
};

const connect = async () => {
  let stream;
  try {
    const { url } = await post("/inbox/stream", { user });
    const resume = lastEventId ? `&last_event_id=${encodeURIComponent(lastEventId)}` : "";
    stream = new EventSource(url + resume);
    showProblem("");
  } catch (error) {
    if (error.status === 404) {
      showState("absent"); // nothing was lost, and trying again finds nobody either
      showProblem(words.absent_hint);
      return;
    }
    showProblem(error.message);
    later();
    return;
  }
  stream.addEventListener("open", async () => {
    showState("live");
    pause = FIRST_PAUSE_MS;
    await load().catch((error) => showProblem(error.message));
  });
  stream.addEventListener("item", arrive);
  stream.addEventListener("resync", () => load().catch((error) => showProblem(error.message)));
  stream.addEventListener("unread", (event) => showUnread(JSON.parse(event.data).unread));
  stream.addEventListener("error", () => {
    stream.close(); // the browser would come back with the used ticket
    later();
  });
};

if (page.dataset.connected === "yes") connect();
