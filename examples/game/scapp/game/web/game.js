// One match as its tables have it. The same shape comes from SQL (now) and from the reducer run here (a replay).

import { appOf, node } from "./session.js";

/** One statement, so that all tables are read as of one moment. */
const MATCH = (schema) => `
  select
    (select row_to_json(t) from (select phase, round, prize, pot, cards, players, move_ms, deadline, stake::text, bond::text
       from ${schema}.game where channel_id = $1::bytea) t) as game,
    (select json_agg(t order by seat) from (select seat, address, score, hand, status, rank
       from ${schema}.player where channel_id = $1::bytea) t) as players,
    (select json_agg(t order by round) from (select round, prize, pot, result, winner, card
       from ${schema}.round where channel_id = $1::bytea) t) as rounds,
    (select json_agg(t order by round, seat) from (select round, seat, commitment, card
       from ${schema}.bid where channel_id = $1::bytea) t) as bids,
    (select json_agg(t order by sequence) from (select sequence, seat, text, said_at
       from ${schema}.chat where channel_id = $1::bytea order by sequence desc limit 200) t) as chat`;

/** All matches that go on, of one version of the game, and whether they wait for us. */
const GOING_ON = (schema) => `
  select g.channel_id, g.round, g.cards, exists (
    select 1 from ${schema}.player p where p.channel_id = g.channel_id and p.address = $1::bytea and p.status = 'playing'
      and not exists (select 1 from ${schema}.bid b where b.channel_id = g.channel_id and b.seat = p.seat
                      and b.round = g.round and (g.phase = 'commit' or b.card is not null))) as is_mine
  from ${schema}.game g where g.phase <> 'over'`;

/** {round, cards, is_mine} by channel id. Raises NodeError. */
export async function readGoingOn(apps, address) {
  const found = new Map();
  for (const { schema } of apps) {
    const rows = schema ? await node.query(GOING_ON(schema), [`\\x${address.slice(2)}`]) : [];
    for (const row of rows) found.set(row.channel_id, row);
  }
  return found;
}

/** The match now, or null while nothing is derived. Raises NodeError. */
export async function readMatch(channel) {
  const app = appOf(channel);
  if (!app?.schema) return null;
  const [tables] = await node.query(MATCH(app.schema), [`\\x${channel.channel_id.slice(2)}`]);
  return tables?.game ? matchOf(tables) : null;
}

/** The match as a kernel has it in its memory. */
export function matchOfKernel(kernel) {
  const [game] = kernel.rows("game");
  if (!game) return null;
  const [players, rounds, bids, chat] = ["player", "round", "bid", "chat"].map((name) => kernel.rows(name));
  return matchOf({ game, players, rounds, bids, chat });
}

/** From rows: bytes become `0x…` text, times milliseconds. */
function matchOf({ game, players, rounds, bids, chat }) {
  return {
    ...game,
    moveMs: Number(game.move_ms),
    bondPercent: bondPercent(game),
    deadlineMs: game.deadline ? Date.parse(game.deadline) : null,
    players: players.map((player) => ({ ...player, address: hexed(player.address) })),
    rounds: rounds ?? [],
    bids: (bids ?? []).map((bid) => ({ ...bid, commitment: hexed(bid.commitment) })),
    chat: (chat ?? []).map((line) => ({ ...line, sequence: Number(line.sequence), saidMs: Date.parse(line.said_at) })),
  };
}

/** Of one player's stake; the tables have amounts. */
function bondPercent({ stake, bond, players }) {
  return BigInt(stake) ? Number((BigInt(bond) * BigInt(players) * 100n) / BigInt(stake)) : 0;
}

const hexed = (text) => (text.startsWith("\\x") ? `0x${text.slice(2)}` : text);

export const bidOf = (match, seat, round = match.round) => match.bids.find((bid) => bid.round === round && bid.seat === seat);

/** Whether this seat has done its part of the current phase. */
export function hasMoved(match, seat) {
  const bid = bidOf(match, seat);
  return Boolean(bid) && (match.phase === "commit" || bid.card !== null);
}

/** Players the match waits for. */
export function waitingFor(match) {
  if (match.phase === "over") return [];
  return match.players.filter((player) => player.status === "playing" && !hasMoved(match, player.seat));
}

/** The latest round that was played to its end, or undefined. */
export const lastRound = (match) => match.rounds.findLast((round) => round.result === "won" || round.result === "tied");

/** Players, best first. */
export const standings = (match) => [...match.players].sort((a, b) => (a.rank ?? 9) - (b.rank ?? 9) || b.score - a.score || a.seat - b.seat);
