"use strict";
// Keeps the list live: the server hints that something changed, the page fetches the list again as the server renders it.

const rows = document.getElementById("rows");
const filter = document.querySelector(".filter input");
const EXAMPLES = {
  email: (word) => `${word}@demo.example`,
  webhook: (word, field) => field.dataset.hook + word,
  inapp: () => "u-demo",
};

let fetching = false;
let stale = false;

const refresh = async () => {
  if (fetching) {
    stale = true;
    return;
  }
  fetching = true;
  try {
    const query = new URLSearchParams(location.search);
    query.set("q", filter.value);
    query.set("selected", rows.dataset.selected);
    const reply = await fetch(`/rows?${query}`);
    if (!reply.ok) return;
    const known = new Set([...rows.querySelectorAll("li")].map((row) => row.dataset.id));
    rows.innerHTML = await reply.text();
    for (const row of rows.querySelectorAll("li")) if (!known.has(row.dataset.id)) row.classList.add("new");
    localTimes(rows);
  } finally {
    fetching = false;
    if (stale) {
      stale = false;
      refresh();
    }
  }
};

let typing = 0;
filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(refresh, 150);
});

document.getElementById("clear").addEventListener("click", async () => {
  if (!confirm(words.clear_sure)) return;
  await fetch("/messages", { method: "DELETE" });
  location.href = "/";
});

// A behaviour's word goes into the form, in the shape that the chosen channel wants.
const form = document.getElementById("send");
const fill = (word) => {
  const field = form.elements.recipient;
  field.value = EXAMPLES[form.elements.channel.value](word, field);
};
if (form) {
  form.elements.channel.addEventListener("change", () => fill("fang"));
  for (const button of document.querySelectorAll("button.word")) {
    button.addEventListener("click", () => {
      if (form.elements.channel.value === "inapp") form.elements.channel.value = "email";
      fill(button.dataset.word);
      form.scrollIntoView({ behavior: "smooth", block: "center" });
      form.elements.recipient.focus({ preventScroll: true });
    });
  }
}

const events = new EventSource("/events");
events.addEventListener("changed", refresh);
let wasOpen = false;
events.addEventListener("open", () => {
  if (wasOpen) refresh(); // whatever happened while the connection was away
  wasOpen = true;
});
