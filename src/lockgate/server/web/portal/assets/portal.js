"use strict";
// Start, times of the reader's own clock, the Caps Lock hint. Everything else on these pages works without this.

const NO_REACTION = 3000; // milliseconds until the steps of an installation are shown

function localTimes() {
  const format = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" });
  for (const time of document.querySelectorAll("time[datetime]")) {
    time.title = time.textContent;
    time.textContent = format.format(new Date(time.dateTime));
  }
}

function capsLock() {
  for (const input of document.querySelectorAll("input[type=password]")) {
    const hint = input.parentElement.querySelector(".caps");
    if (!hint) continue;
    const look = (event) => { hint.hidden = !(event.getModifierState && event.getModifierState("CapsLock")); };
    input.addEventListener("keydown", look);
    input.addEventListener("keyup", look);
    input.addEventListener("blur", () => { hint.hidden = true; });
  }
}

function focusFirst() {
  const error = document.getElementById("error");
  const inputs = [...document.querySelectorAll(".card input:not([type=hidden]):not([type=radio])")];
  const first = inputs.find((input) => !input.value) || inputs[0];
  if (first) first.focus();
  else if (error) error.focus();
}

async function start(panel, button) {
  const status = document.getElementById("start-status");
  const say = (text) => { status.textContent = text; };
  button.disabled = true;
  say("Asking for a link …");
  try {
    const answer = await fetch(panel.dataset.start, {
      method: "POST",
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ csrf: panel.dataset.token, at: panel.dataset.at }),
      redirect: "error",
    });
    if (!answer.ok) throw new Error(String(answer.status));
    const link = (await answer.json()).link;
    let reacted = false;
    const react = () => { reacted = true; };
    window.addEventListener("blur", react, { once: true });
    window.setTimeout(() => {
      window.removeEventListener("blur", react);
      button.disabled = false;
      if (reacted || document.hidden) {
        say("The client has taken over. You can go on there.");
      } else {
        say("The client did not answer.");
        document.getElementById("install").open = true;
      }
    }, NO_REACTION);
    say("Starting the client …");
    window.location.assign(link);
  } catch {
    button.disabled = false;
    say("That did not work: you may have been signed out. Reload this page and try again.");
  }
}

function startButton() {
  const panel = document.getElementById("client");
  if (!panel) return;
  const button = document.getElementById("start");
  document.getElementById("no-script").hidden = true;
  button.hidden = false;
  button.addEventListener("click", () => start(panel, button));
  if ("auto" in panel.dataset) start(panel, button);
}

localTimes();
capsLock();
focusFirst();
startButton();
