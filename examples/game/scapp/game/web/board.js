// The table as somebody sees it: a function of the match and of whose eyes it is; `match.js` and `replay.js` feed it.

import { h, keep } from "./dom.js";
import { bidOf, hasMoved, lastRound, standings } from "./game.js";

/** Places on the page that `drawBoard` fills. */
export function boardParts() {
  return {
    head: h("div.head"),
    track: h("ol.track", { "aria-label": "Prizes in playing order" }),
    felt: h("div.felt"),
    last: h("p.last"),
  };
}

/**
 * `seat`: whose eyes, null for a spectator's. `names`: by seat. `own`: the card this seat has hidden, if known.
 * `open`: a round that is over and stays on the table for a moment, else null. `amounts`: what everybody is owed now.
 * `away`: seats whose nodes are not there. `trouble`: what stands in the way of the next step, else empty.
 * `ended`: no card will be played, though the match is not over.
 */
export function drawBoard(parts, { match, seat, names, own = null, open = null, amounts = [], away = [], trouble = "", ended = false }) {
  const round = open ?? match.round;
  const wait = (match.phase !== "over" && trouble) || waitText(match, seat, names);
  keep(parts.head, [match.round, match.phase, match.cards, open, wait], () => head(match, wait, names, open));
  const current = match.phase === "over" ? 0 : round; // then there is nothing to play for
  keep(parts.track, [match.rounds, current], () => track(match, current, names));
  felt(parts.felt, match, { seat, names, own, open, round, amounts, away, ended });
  keep(parts.last, lastRound(match) ?? null, () => lastText(match, names));
}

/** Who won. */
export function finalText(match, names) {
  const best = match.players.filter((player) => player.rank === 1).map((player) => names[player.seat]);
  if (best.length > 1) return `A draw between ${best.join(" and ")}`;
  return best[0] === "You" ? "You win" : `${best[0]} wins`;
}

function waitText(match, seat, names) {
  if (match.phase === "over") return finalText(match, names);
  const me = match.players[seat];
  if (me?.status === "forfeited") return "You are out of this match";
  const missing = match.players.filter((player) => player.status === "playing" && !hasMoved(match, player.seat));
  if (missing.some((player) => player.seat === seat)) return match.phase === "commit" ? "Choose a card" : "Showing your card";
  return missing.length ? `Waiting for ${missing.map((player) => names[player.seat]).join(" and ")}` : "";
}

function head(match, wait, names, open) {
  const over = match.phase === "over";
  return [
    h("h1", {}, over ? "Match over" : `Round ${open ?? match.round} of ${match.cards}`),
    h("p.wait", {}, open && !over ? resultText(match, open, names) : wait),
  ];
}

function track(match, current, names) {
  return match.rounds.map((round) => h("li", {
    className: `${round.result} ${round.round === current ? "current" : ""}`,
    dataset: round.winner === null ? {} : { seat: round.winner },
    title: `Round ${round.round}: ${round.winner === null ? round.result : `won by ${names[round.winner]}`}`,
  }, h("span.hidden", {}, `Round ${round.round}, prize `), String(round.prize), h("span.hidden", {}, ` ${round.winner === null ? round.result : `won by ${names[round.winner]}`}`)));
}

/** How a round went, in a sentence. */
export function resultText(match, number, names) {
  const round = match.rounds[number - 1];
  if (round.result === "won") return `${names[round.winner]} ${names[round.winner] === "You" ? "take" : "takes"} ${round.pot} with a ${round.card}`;
  if (round.result === "tied") return `A tie at ${round.card}: ${round.pot} ${number < match.cards ? "stays in the pot" : "is won by nobody"}`;
  return "";
}

function lastText(match, names) {
  const last = lastRound(match);
  if (!last) return "";
  const bids = match.bids.filter((bid) => bid.round === last.round && bid.card !== null);
  return [
    h("strong", {}, `Round ${last.round}, prize ${last.prize}: `),
    ...bids.flatMap((bid, at) => [at ? ", " : "", h("span", { dataset: { seat: bid.seat }, className: "tint" }, names[bid.seat]), ` ${bid.card}`]),
    `. ${resultText(match, last.round, names)}.`,
  ];
}

const placesOf = new WeakMap();

/** Cards stand in places of their own, so that only what moves is drawn anew, and animated. */
function felt(felt, match, look) {
  const { seat } = look;
  if (!placesOf.has(felt)) placesOf.set(felt, new Map());
  const places = placesOf.get(felt);
  keep(felt, [seat, match.players.length], () => {
    places.clear();
    for (const key of ["prize", ...match.players.map((player) => player.seat)]) places.set(key, placeParts(key));
    const order = seat === null ? match.players : [...match.players.slice(seat + 1), ...match.players.slice(0, seat)];
    const centre = [places.get("prize").root, seat === null ? null : places.get(seat).root];
    return [h("div.seats", { dataset: { count: order.length } }, order.map((player) => places.get(player.seat).root)), h("div.seats", {}, centre)];
  });
  prize(places.get("prize"), match, look);
  for (const player of match.players) place(places.get(player.seat), match, player, look);
}

function placeParts(key) {
  const parts = { card: h("div.slot"), text: h("div") };
  parts.text.className = key === "prize" ? "about" : "who";
  parts.root = h("div", { className: key === "prize" ? "place middle" : "place", dataset: key === "prize" ? {} : { seat: key } }, parts.card, parts.text);
  return parts;
}

function prize(parts, match, { round, open }) {
  const over = match.phase === "over" && open === null;
  const { prize: worth, pot } = match.rounds[round - 1];
  const carried = !over && pot !== null && pot > worth;
  const label = over ? "Final" : `Prize ${worth}${carried ? `, ${pot} in the pot` : ""}`;
  keep(parts.card, [label, round], () => h("div.prize.card", { role: "img", "aria-label": label }, over ? "★" : String(worth)));
  keep(parts.text, label, () => h("p", {}, over ? `best: ${standings(match)[0].score}` : carried ? `${pot} in the pot` : "prize"));
}

function place(parts, match, player, { names, own, open, round, amounts, away, ended, seat }) {
  const name = names[player.seat];
  const bid = bidOf(match, player.seat, round);
  const out = player.status === "forfeited";
  const mine = player.seat === seat && bid && bid.card === null ? own : null;
  const best = match.phase === "over" && open === null ? player.rank === 1 : open !== null && match.rounds[round - 1].winner === player.seat;
  parts.root.classList.toggle("winner", best);
  parts.root.classList.toggle("out", out);
  keep(parts.card, [round, bid?.card ?? (bid ? "hidden" : ""), mine, out, name], () => played(bid, mine, name, out));
  const doing = ended ? "" : away.includes(player.seat) ? "away" : stateText(match, player, open);
  keep(parts.text, [name, player.score, doing, player.hand.length, amounts[player.seat]], () => [
    h("strong.name", {}, name),
    h("span.score", { title: "points" }, String(player.score), h("span.hidden", {}, " points")),
    h("small.state", {}, doing),
    h("small.cards", { title: "cards in hand" }, `${player.hand.length} ${player.hand.length === 1 ? "card" : "cards"}`),
    amounts.length ? h("small.owed", { title: "what the latest co-signed state pays" }, `owed ${amounts[player.seat]}`) : null,
  ]);
}

function stateText(match, player, open) {
  if (player.status === "forfeited") return "forfeited";
  if (open !== null || match.phase === "over") return "";
  if (hasMoved(match, player.seat)) return "ready";
  return match.phase === "commit" ? "thinking" : "showing";
}

/** The card in front of a player: face, back, or the empty place. */
function played(bid, own, name, out) {
  if (!bid) return h("div.card.empty", { role: "img", "aria-label": out ? `${name} is out` : `${name}: no card yet` });
  if (bid.card !== null) return h("div.card.face", { role: "img", "aria-label": `${name}: ${bid.card}` }, String(bid.card));
  return h("div.card.back", { role: "img", "aria-label": own ? `${name}: hidden ${own}` : `${name}: hidden card` }, own ? String(own) : "");
}
