// Shows one pair after the other. An answer counts, and the page goes on, once the server has it.
"use strict";

const turns = JSON.parse(document.getElementById("state").textContent);
const QUESTIONS = ["alignment", "beauty"];
const KEYS = {
  Digit1: "left", Numpad1: "left", ArrowLeft: "left",
  Digit2: "tie", Numpad2: "tie", ArrowDown: "tie",
  Digit3: "right", Numpad3: "right", ArrowRight: "right",
};
const PRELOADED = 3; // pairs
const LONG_PROMPT = 140; // characters

const $ = (id) => document.getElementById(id);
const images = [...document.querySelectorAll("#pictures img")];
const address = (token) => `pictures/${token}`;
const open = (turn) => QUESTIONS.find((question) => !(question in turn.answers));
const passed = new Set(); // turns with a picture that cannot be shown; a fresh page tries again
const firstOpen = () => {
  const index = turns.findIndex((turn) => open(turn) && !passed.has(turn));
  return index < 0 ? turns.length : index;
};

let at = firstOpen();
let asked = at < turns.length ? open(turns[at]) : null;
let unseen = [false, false]; // sides whose picture cannot be shown
let shownAt = Infinity; // keys pressed before a pair was to be seen are not meant for it
let work = Promise.resolve(); // one thing after the other, so that fast keys are not lost
let unsaved = 0;

const preloaded = new Map();
function preload(token) {
  if (!preloaded.has(token)) {
    const image = new Image();
    image.src = address(token);
    preloaded.set(token, image);
  }
}

async function showPair() {
  shownAt = Infinity;
  const turn = turns[at];
  $("turn").hidden = !turn;
  $("done").hidden = Boolean(turn);
  unseen = [false, false];
  if (turn) {
    $("prompt").textContent = turn.prompt;
    $("prompt").classList.toggle("long", turn.prompt.length > LONG_PROMPT);
    $("pictures").classList.add("loading");
    images.forEach((image, side) => {
      const [width, height] = turn.sizes[side];
      $("pictures").style.setProperty(`--ratio-${side}`, width / height);
      image.src = address(turn.tokens[side]);
    });
    mark();
    // Together, or the picture that is there first would be looked at first.
    const decoded = await Promise.allSettled(images.map((image) => image.decode()));
    unseen = decoded.map(({ status }) => status === "rejected");
    mark();
    $("pictures").classList.remove("loading");
    preloaded.clear();
    turns.slice(at + 1, at + 1 + PRELOADED).forEach((next) => next.tokens.forEach(preload));
  } else {
    mark();
    $("done").focus();
  }
  shownAt = performance.now();
}

function mark() {
  const turn = turns[at];
  const done = turns.filter((other) => !open(other)).length;
  $("count").textContent = turn ? `Pair ${at + 1} of ${turns.length}` : `${done} of ${turns.length}`;
  $("progress").max = turns.length;
  $("progress").value = done;
  $("pass").hidden = !unseen.includes(true);
  document.querySelectorAll(".unseen").forEach((text, side) => { text.hidden = !unseen[side]; });
  $("back").disabled = at === 0 && (!asked || asked === QUESTIONS[0]);
  for (const field of document.querySelectorAll("fieldset")) {
    const { question } = field.dataset;
    field.classList.toggle("asked", question === asked);
    for (const button of field.querySelectorAll("button")) {
      const pressed = Boolean(turn) && turn.answers[question] === button.dataset.choice;
      button.setAttribute("aria-pressed", String(pressed));
      button.disabled = unseen.includes(true);
    }
  }
}

async function answer(question, choice, pressedAt) {
  const turn = turns[at];
  if (!turn || unseen.includes(true) || pressedAt < shownAt) return;
  question ??= asked;
  await save({ pair: turn.pair, left: turn.tokens[0], question, choice });
  turn.answers[question] = choice;
  asked = open(turn) ?? null;
  mark();
  if (!asked) await showNext();
}

async function showNext() {
  at = firstOpen();
  asked = at < turns.length ? open(turns[at]) : null;
  await showPair();
}

async function pass(pressedAt) {
  if (!unseen.includes(true) || pressedAt < shownAt) return;
  passed.add(turns[at]);
  await showNext();
}

async function back(pressedAt) {
  if (pressedAt < shownAt) return;
  const position = asked ? QUESTIONS.indexOf(asked) : QUESTIONS.length;
  if (at < turns.length && position > 0) {
    asked = QUESTIONS[position - 1];
    mark();
  } else if (at > 0) {
    at -= 1;
    asked = QUESTIONS.at(-1);
    await showPair();
  }
}

async function save(ballot) {
  unsaved += 1;
  for (;;) {
    let refused = false;
    try {
      const response = await fetch("votes", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(ballot),
        keepalive: true, // a tab that is closed now still sends it
      });
      if (response.ok) break;
      refused = response.status < 500;
    } catch {
      // The server is away; the loop goes on until it is back.
    }
    if (refused) {
      // Another arena runs at this address now, or the cookie is gone: only a fresh page can go on.
      window.removeEventListener("beforeunload", warn);
      window.location.reload();
      await new Promise(() => {});
    }
    $("problem").textContent = "Your last answer is not saved yet: the arena does not reply. Trying again …";
    $("problem").hidden = false;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  unsaved -= 1;
  $("problem").hidden = true;
}

function warn(event) {
  if (unsaved) event.preventDefault();
}

function then(step) {
  work = work.then(step).catch((error) => {
    $("problem").textContent = `This page failed (${error}); reload it. Your answers are kept.`;
    $("problem").hidden = false;
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const { timeStamp } = event;
  if (event.code in KEYS) then(() => answer(null, KEYS[event.code], timeStamp));
  else if (event.key.toLowerCase() === "u" || ["Backspace", "ArrowUp"].includes(event.key)) {
    then(() => back(timeStamp));
  } else return;
  event.preventDefault();
});

for (const field of document.querySelectorAll("fieldset")) {
  field.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { timeStamp } = event;
    then(() => answer(field.dataset.question, button.dataset.choice, timeStamp));
  });
}
["left", "right"].forEach((side) => {
  $(side).addEventListener("click", (event) => then(() => answer(null, side, event.timeStamp)));
});
$("back").addEventListener("click", (event) => then(() => back(event.timeStamp)));
$("pass").addEventListener("click", (event) => then(() => pass(event.timeStamp)));
window.addEventListener("beforeunload", warn);

then(showPair);
