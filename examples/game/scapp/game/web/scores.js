// Leaderboard and history: SQL over the tables of all matches at this node.

import { h, keep } from "./dom.js";
import { listen, nameOf, node, state } from "./session.js";

/** Results of all finished matches; there is a schema for each version of the game. */
const results = (schemas) => schemas.map((schema) => `
  select p.channel_id, p.seat, p.address, p.score, p.status, p.rank, g.cards,
         count(*) filter (where p.rank = 1) over (partition by p.channel_id) = 1 as decided
  from ${schema}.player p join ${schema}.game g using (channel_id) where g.phase = 'over'`).join(" union all ");

const LEADERBOARD = (schemas) => `
  select address, count(*) as games, count(*) filter (where rank = 1 and decided) as won,
         sum(score) as points, count(*) filter (where status = 'forfeited') as forfeits
  from (${results(schemas)}) as result group by address order by won desc, points desc, address limit 50`;

const HISTORY = (schemas) => `
  select channel_id, json_agg(json_build_object('address', '0x' || encode(address, 'hex'), 'score', score, 'rank', rank, 'status', status)
         order by rank, seat) as players
  from (${results(schemas)}) as result group by channel_id limit 500`;

export function scores(place) {
  const board = h("section.panel", { "aria-label": "Leaderboard" });
  const past = h("section.panel", { "aria-label": "Finished matches" });
  place.append(h("h1.hidden", {}, "Scores"), h("div.scores", {}, board, past));
  const look = async () => {
    const schemas = state.apps.map((app) => app.schema).filter(Boolean);
    if (!schemas.length) return;
    const [rows, matches] = await Promise.all([node.query(LEADERBOARD(schemas)), node.query(HISTORY(schemas))]);
    keep(board, [rows, state.peers.map((peer) => peer.name)], () => leaderboard(rows));
    const times = new Map(state.channels.map((channel) => [channel.channel_id, channel.time_ms]));
    matches.sort((a, b) => (times.get(b.channel_id) ?? 0) - (times.get(a.channel_id) ?? 0));
    keep(past, [matches, state.peers.map((peer) => peer.name)], () => history(matches, times));
  };
  const safely = () => look().catch((error) => keep(board, error.message, () => h("p.empty", {}, error.message)));
  void safely();
  return listen((item) => (item?.kind === "rows" ? null : safely()));
}

function leaderboard(rows) {
  return [
    h("h2", {}, "Leaderboard"),
    h("p", {}, h("small", {}, "One SQL statement over the tables of every match this node has played. No server keeps score.")),
    rows.length ? h("div.scroll", { tabIndex: 0, role: "group", "aria-label": "Leaderboard" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span.hidden", {}, "Rank")), ["Player", "Won", "Played", "Points", "Forfeits"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((row, at) => h("tr", { className: row.address === state.address ? "own" : "" },
        h("td.rank", {}, String(at + 1)), h("th", { scope: "row" }, nameOf(row.address)),
        ...[row.won, row.games, row.points, row.forfeits].map((value) => h("td", {}, String(value))))))))
      : h("p.empty", {}, "No match is finished yet."),
  ];
}

function history(matches, times) {
  return [
    h("h2", {}, "Finished matches"),
    h("ul.list", {}, matches.map((match) => h("li", {},
      h("div", {},
        h("strong", {}, match.players.map((player) => `${nameOf(player.address)} ${player.score}`).join(" · ")),
        h("small", {}, times.has(match.channel_id) ? new Date(times.get(match.channel_id)).toLocaleString() : "")),
      h("div.actions", {}, h("a.button", { href: `#/replay/${match.channel_id}` }, "Replay"))))),
  ];
}
