"use strict";
const $ = (id) => document.getElementById(id);
const KEYS = { 1: "first", 2: "second", 0: "tie", b: "both_bad", s: "skip" };
const SAID = { first: "Response 1", second: "Response 2", tie: "Tie", both_bad: "Both bad", skip: "Skipped" };
let form = "", question = null, last = null, busy = false, looked = 0, since = null;

// the time that the question was on the screen, in seconds
function watch(on) {
  const now = performance.now();
  if (since !== null) looked += (now - since) / 1000;
  since = on ? now : null;
}
document.addEventListener("visibilitychange", () => watch(question !== null && !document.hidden));

function message(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

async function call(path, body) {
  const request = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "X-Nashward-Form": form },
  };
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...request });
  } catch {
    throw new Error("The server does not answer. What was sent is sent again when you vote again; nothing counts twice.");
  }
  const value = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(value.error), { status: answer.status });
  return value;
}

// one request at a time: a double click, or a key that is held, is one vote
async function alone(act) {
  if (busy) return;
  busy = true;
  buttons();
  try {
    await act();
    message("");
  } catch (error) {
    message(error.message);
  } finally {
    busy = false;
    buttons();
  }
}

function buttons() {
  for (const button of document.querySelectorAll("#choices button"))
    button.disabled = busy || (button.id === "undo" ? !last : !question);
}

function progress(state) {
  last = state.last;
  const wanted = state.wanted;
  const pace = state.pace ? `, ${state.pace < 10 ? state.pace.toFixed(1) : Math.round(state.pace)} a minute` : "";
  const others = wanted ? state.all - state.on_run : 0;  // votes that came in on other responses
  const own = others > 0 ? ` (${state.on_run} on its responses, ${others} on others)` : "";
  const all = wanted
    ? `${Math.min(state.all, wanted)} of ${wanted} that the run waits for${own}`
    : `${state.all} of all`;
  $("progress").textContent = `${state.votes} by you${pace}; ${all}`;
  $("meter").hidden = !wanted;
  if (wanted) {
    $("meter").setAttribute("aria-valuemax", wanted);
    $("meter").setAttribute("aria-valuenow", Math.min(state.all, wanted));
    $("bar").style.width = `${100 * Math.min(1, state.all / wanted)}%`;
  }
  $("who").hidden = false;
  $("who").textContent = `${state.name} · to go on in another browser: the same name and the code ${state.code}`;
}

function show(next) {
  question = next;
  $("join").hidden = true;
  $("vote").hidden = !next;
  $("done").hidden = !!next;
  $("choices").hidden = !next && !last;
  if (next) {
    // HTML that the server made of the text: it holds no markup of the text's own, and the page's policy runs none
    for (const part of ["prompt", "first", "second"]) {
      $(part).innerHTML = next[part];
      $(part).scrollTop = 0;
    }
    window.scrollTo(0, 0);
  }
  looked = 0;
  since = null;
  watch(next !== null && !document.hidden);
  buttons();
}

async function next() {
  const state = await call("/api/next", {});
  progress(state);
  show(state.question);
}

function vote(choice) {
  if (!question) return;
  alone(async () => {
    watch(false);
    const state = await call("/api/vote", { id: question.id, attempt: question.attempt, choice, seconds: looked });
    $("status").textContent = state.new ? `${SAID[choice]}: written.` : "This question was answered already.";
    progress(state);
    await next();
  });
}

function undo() {
  if (!last) return;
  alone(async () => {
    const state = await call("/api/undo", { id: last });
    $("status").textContent = state.undone ? "Taken back." : "It was taken back already.";
    progress(state);
    await next();
  });
}

for (const button of document.querySelectorAll("[data-choice]"))
  button.addEventListener("click", () => vote(button.dataset.choice));
$("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "INPUT") return;
  const key = event.key.toLowerCase();
  if (key in KEYS) vote(KEYS[key]);
  else if (key === "u") undo();
  else return;
  event.preventDefault();
});

$("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  alone(async () => {
    try {
      progress(await call("/api/join", { name: $("name").value, code: $("code").value }));
    } catch (error) {
      if (error.status === 409) {
        $("code-row").hidden = false;
        $("code").focus();
      }
      throw error;
    }
    await next();
  });
});

// with nothing left, new responses may come; after a page of the browser's memory (back button), what is open now
setInterval(() => { if (form && !question && $("done").hidden === false) alone(next); }, 5000);
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

alone(async () => {
  const state = await call("/api/session");
  form = state.form;
  if (state.rubric) {
    $("rubric").innerHTML = state.rubric;
    $("rubric-box").hidden = false;
  }
  if (state.name) {
    progress(state);
    await next();
  } else {
    $("join").hidden = false;
    $("name").focus();
  }
});
