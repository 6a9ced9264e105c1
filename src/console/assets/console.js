// What pages do without being loaded again: live figures, and searching while a slider moves.
"use strict";

// Figures: elements with data-figure have their text, those with data-status their mark, from a JSON address.
function follow(root) {
  const every = 2000;
  const summary = root.querySelector("[data-summary]");
  const pause = root.querySelector("[data-pause]");
  let paused = false;
  let timer;
  async function look() {
    try {
      const response = await fetch(root.dataset.live, { headers: { accept: "application/json" } });
      if (!response.ok) throw new Error("HTTP " + response.status);
      const seen = await response.json();
      for (const element of document.querySelectorAll("[data-figure]")) {
        const text = seen.figures[element.dataset.figure];
        if (text !== undefined && element.textContent !== text) element.textContent = text;
      }
      for (const element of document.querySelectorAll("[data-status]")) {
        const mark = seen.marks[element.dataset.status];
        if (mark !== undefined) element.setAttribute("data-mark", mark);
      }
      // Said aloud only where it changes.
      if (summary.textContent !== seen.summary) summary.textContent = seen.summary;
    } catch (error) {
      const text = "No answer from the console: the figures are old.";
      if (summary.textContent !== text) summary.textContent = text;
    }
    schedule();
  }
  function schedule() {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(look, every);
  }
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on with live figures" : "Pause live figures";
    schedule();
  });
  document.addEventListener("visibilitychange", schedule);
  schedule();
}

// Sliders: the two weights sum to 1, and each change ranks again.
function playground(form) {
  const rankings = document.getElementById("rankings");
  const told = document.getElementById("ranked");
  const text = form.elements.bm25;
  const vector = form.elements.vector;
  let asking;
  let timer;
  function show() {
    for (const slider of [text, vector]) {
      form.querySelector("output[for=" + slider.id + "]").textContent = Number(slider.value).toFixed(2);
    }
  }
  async function rank() {
    if (form.elements.q.value.trim() === "") return;
    if (asking) asking.abort();
    asking = new AbortController();
    const query = new URLSearchParams(new FormData(form));
    try {
      const response = await fetch(form.dataset.rankings + "?" + query, { signal: asking.signal });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const found = page.querySelector("[data-rankings]");
      if (!found) throw new Error("HTTP " + response.status);
      rankings.replaceChildren(document.adoptNode(found));
      told.textContent = found.dataset.rankings;
      history.replaceState(null, "", form.action.split("?")[0] + "?" + query);
    } catch (error) {
      if (error.name !== "AbortError") told.textContent = "No answer from the console: this ranking is old.";
    }
  }
  function moved(from, to) {
    to.value = (1 - Number(from.value)).toFixed(2);
    show();
    clearTimeout(timer);
    timer = setTimeout(rank, 120);
  }
  text.addEventListener("input", () => moved(text, vector));
  vector.addEventListener("input", () => moved(vector, text));
  show();
}

for (const root of document.querySelectorAll("[data-live]")) follow(root);
for (const form of document.querySelectorAll("[data-rankings-of]")) {
  form.dataset.rankings = form.dataset.rankingsOf;
  playground(form);
}
