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
 */
export function drawBoard(parts, { match, seat, names, own = null, open = null, amounts = [] }) {
  const round = open ?? match.round;
  keep(parts.head, [match.round, match.phase, match.cards, open, waitText(match, seat, names)], () => head(match, seat, names, open));
  keep(parts.track, [match.rounds, match.phase === "over" ? 0 : round], () => track(match, round, names));
  keep(parts.felt, [match, own, open, names, amounts], () => felt(match, { seat, names, own, open, round, amounts }));
  keep(parts.last, lastRound(match) ?? null, () => lastText(match, names));
}

function waitText(match, seat, names) {
  if (match.phase === "over") return "The match is over";
  const me = match.players[seat];
  if (me?.status === "forfeited") return "You are out of this match";
  const missing = match.players.filter((player) => player.status === "playing" && !hasMoved(match, player.seat));
  if (missing.some((player) => player.seat === seat)) return match.phase === "commit" ? "Choose a card" : "Showing your card";
  return missing.length ? `Waiting for ${missing.map((player) => names[player.seat]).join(" and ")}` : "";
}

function head(match, seat, names, open) {
  const over = match.phase === "over";
  return [
    h("h1", {}, over ? "Match over" : `Round ${open ?? match.round} of ${match.cards}`),
    h("p.wait", {}, open && !over ? resultText(match, open, names) : waitText(match, seat, names)),
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

function felt(match, look) {
  const { seat } = look;
  const order = seat === null ? match.players : [...match.players.slice(seat + 1), ...match.players.slice(0, seat)];
  const mine = seat === null ? null : match.players[seat];
  return [
    h("div.seats", { dataset: { count: order.length } }, order.map((player) => place(match, player, look))),
    middle(match, look),
    mine ? h("div.seats.mine", {}, place(match, mine, look)) : null,
  ];
}

function middle(match, { round, open }) {
  if (match.phase === "over" && !open) return podium(match);
  const { prize, pot, result } = match.rounds[round - 1];
  const carried = pot !== null && pot > prize;
  return h("div.middle", {},
    h("div.prize", { className: `prize card ${result}`, role: "img", "aria-label": `Prize ${prize}${carried ? `, pot ${pot}` : ""}` }, String(prize)),
    h("p", {}, carried ? `${pot} in the pot` : "prize"));
}

function podium(match) {
  const best = standings(match)[0];
  return h("div.middle", {}, h("div.prize.card.won", { role: "img", "aria-label": "Final" }, "★"), h("p", {}, `best: ${best.score}`));
}

function place(match, player, { names, own, open, round, amounts, seat }) {
  const name = names[player.seat];
  const bid = bidOf(match, player.seat, round);
  const winner = match.rounds[round - 1].winner === player.seat;
  const out = player.status === "forfeited";
  const moved = open ? "" : out ? "out" : match.phase === "over" ? "" : hasMoved(match, player.seat) ? "ready" : "thinking";
  return h("div.place", { className: `place ${winner && (open || match.phase === "over") ? "winner" : ""} ${out ? "out" : ""}`, dataset: { seat: player.seat } },
    played(bid, player.seat === seat ? own : null, name, out),
    h("div.who", {},
      h("strong.name", {}, name),
      h("span.score", { title: "points" }, String(player.score), h("span.hidden", {}, " points")),
      h("small.state", {}, out ? "forfeited" : moved),
      h("small.cards", { title: "cards in hand" }, `${player.hand.length} ${player.hand.length === 1 ? "card" : "cards"}`),
      amounts.length ? h("small.owed", { title: "what the latest co-signed state pays" }, `owed ${amounts[player.seat]}`) : null));
}

/** The card in front of a player: face, back, or the empty place. */
function played(bid, own, name, out) {
  if (!bid) return h("div.card.empty", { role: "img", "aria-label": out ? `${name} is out` : `${name}: no card yet` });
  if (bid.card !== null) return h("div.card.face", { role: "img", "aria-label": `${name}: ${bid.card}` }, String(bid.card));
  return h("div.card.back", { role: "img", "aria-label": own ? `${name}: hidden ${own}` : `${name}: hidden card` }, own ? String(own) : "");
}
