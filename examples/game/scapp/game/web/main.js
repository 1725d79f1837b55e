// Where the page begins: connects to the node and shows the view that the address names.

import { h, note } from "./dom.js";
import { lobby } from "./lobby.js";
import { matchView } from "./match.js";
import { replayView } from "./replay.js";
import { scores } from "./scores.js";
import { handover, listen, mayPlay, start, state } from "./session.js";

const place = document.getElementById("view");
const link = document.getElementById("link");
let leave = () => {};

/** `#/`, `#/scores`, `#/match/CHANNEL`, `#/replay/CHANNEL`. */
function route() {
  const [name = "", id = ""] = location.hash.replace(/^#\/?/, "").split("/");
  leave();
  place.replaceChildren();
  const views = { match: matchView, replay: replayView, scores, "": lobby };
  leave = (views[name] ?? lobby)(place, id) ?? (() => {});
  for (const anchor of document.querySelectorAll("nav a")) {
    if (anchor.hash === `#/${name}`) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
}

function showLink() {
  link.className = `link ${state.linked ? "on" : "off"}`;
  const peers = state.peers.filter((peer) => peer.connected).length;
  const text = state.linked ? `Your node · ${peers} ${peers === 1 ? "peer" : "peers"}${mayPlay() ? "" : " · watching"}` : "Your node is away";
  if (link.textContent !== text) link.textContent = text;
}

try {
  await start();
  listen(showLink);
  showLink();
  window.addEventListener("hashchange", () => {
    route();
    place.focus({ preventScroll: true });
  });
  if (handover.rest.has("join")) location.hash = "#/"; // the lobby asks about the invitation
  route();
} catch (error) {
  const away = error.code === "unreachable";
  place.replaceChildren(
    h("section.panel.narrow", {},
      h("h1", {}, away ? "Your node does not answer" : "Open the game from your node"),
      h("p", {}, away
        ? "Start it, then load this page again."
        : "This page needs a token of your node, which is handed over when you open the game with"),
      away ? null : h("pre", {}, h("code", {}, "scapp page goofspiel")),
      h("button.primary", { type: "button", onclick: () => location.reload() }, "Try again")),
  );
  if (!away && error.code !== "unauthorized") note(error.message);
}
