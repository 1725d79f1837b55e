// Money of a match: what is staked when it is opened, and how it stands on the chain or in ledgers afterwards.

import { h } from "./dom.js";
import { inNames, isAway, mayStake, nameOf, node, state } from "./session.js";

const COIN = `0x${"0".repeat(40)}`;
/** The bonds' slot pays an address that nobody has the key of: what is left there is lost to all. */
const POOL = `0x${"0".repeat(36)}dead`;
const WEI = 18;

const BONDS = [["25", "A quarter of the stake"], ["50", "Half of the stake"], ["0", "None"]];
const DURATIONS = [["3600", "1 hour"], ["86400", "1 day"], ["604800", "1 week"]];

/** The chain's own coin in its usual unit; of another asset the page knows no decimals. */
export function amountText(amount, asset = COIN) {
  if (asset !== COIN) return amount;
  const [whole, part] = [amount.slice(0, -WEI) || "0", amount.slice(-WEI).padStart(WEI, "0").replace(/0+$/, "")];
  return `${whole}${part && "."}${part.slice(0, 6)}${part.length > 6 ? "…" : ""} ETH`;
}

/** Wei as a decimal text from what somebody typed; raises an Error in words. */
export function weiOf(text) {
  const found = /^(\d*)[.,]?(\d*)$/.exec(text.trim().replace(/\s*eth$/i, ""));
  if (!found || !(found[1] || found[2]) || found[2].length > WEI) throw new Error(`“${text}” is no amount of ETH. One looks like 0.05`);
  return BigInt((found[1] || "0") + found[2].padEnd(WEI, "0")).toString();
}

/** Peers with whom this node has a ledger that can put stakes up: hubs, and players. */
export const ways = () => state.ledgers.filter((ledger) => ledger.phase === "running" && ledger.assets.some(({ asset }) => asset === COIN)).map(({ peer }) => [peer, nameOf(peer)]);

/** The fields of the form, for a node that has a chain. `way` is where `drawWays` puts how stakes are put up. */
export function stakeFields(way) {
  if (!state.chain || !mayStake()) return null;
  const bond = h("label.row", {}, h("span", {}, "Bond"), h("select", { name: "bond" }, BONDS.map(([value, text]) => h("option", { value }, text))));
  const direct = h("p", {}, h("small", {}, "Everybody deposits the stake; the chain pays what the last step that all signed says. Who goes silent loses the bond, and is waited for that long."));
  const over = h("div.money", { hidden: true },
    h("label.row", {}, h("span", {}, "Fee of the hub"), h("input", { type: "text", name: "fee", inputMode: "decimal", autocomplete: "off", placeholder: "what it announces" })),
    h("p", {}, h("small", {}, "Ledgers put the stakes up at once, and what the last step that both signed says moves in them; the chain pays when a ledger is closed. For two players, without a bond.")));
  const more = h("div.money", { hidden: true }, way, bond,
    h("label.row", {}, h("span", {}, "Dispute time"), h("select", { name: "duration" }, DURATIONS.map(([value, text]) => h("option", { value }, text)))),
    direct, over);
  way.onchange = () => {
    const chosen = Boolean(way.querySelector("select")?.value);
    bond.hidden = direct.hidden = chosen;
    over.hidden = !chosen;
  };
  const amount = h("input", { type: "text", name: "stake", inputMode: "decimal", autocomplete: "off", placeholder: "0 ETH: play for nothing", oninput: () => (more.hidden = !/[1-9]/.test(amount.value)) });
  return [h("label.row", {}, h("span", {}, "Stake of each"), amount), more];
}

/** How stakes can be put up; what was chosen stays chosen while it is there. */
export function drawWays(place) {
  const chosen = place.querySelector("select")?.value;
  const options = ways().map(([peer, name]) => h("option", { value: peer, selected: peer === chosen }, `through ${name}, no transaction`));
  queueMicrotask(() => place.onchange?.()); // once it stands there: what was chosen may be gone
  place.hidden = !options.length;
  if (!options.length) return [];
  return h("label.row", {}, h("span", {}, "Put up"), h("select", { name: "way" }, h("option", { value: "" }, "own deposits on chain"), options));
}

/** What the form says of money, null when played for nothing. `over`: null, or the hubs, or a player, whose ledgers put
 * the stakes up; `fees`: null, or what each gets. */
export function stakesOf(fields) {
  const wei = fields?.get("stake")?.trim() ? weiOf(fields.get("stake")) : "0";
  if (wei === "0") return null;
  const durationS = Number(fields.get("duration"));
  const way = fields.get("way");
  if (!way) return { wei, over: null, bond: Number(fields.get("bond")), durationS };
  const fee = fields.get("fee").trim();
  return { wei, over: [way], fees: fee ? [weiOf(fee)] : null, bond: 0, durationS };
}

/** The stakes of a match that is there, for a rematch. */
export async function stakesLike(channel, match) {
  const wei = channel.slots[0]?.amount;
  const { backing, chain } = channel;
  if (!backing) return chain && { wei, over: null, bond: match.bondPercent, durationS: chain.challenge_duration_s };
  const { challenge_duration_s: durationS } = await node.get(`/v1/virtual/${channel.channel_id}`);
  const [over, fees] = [backing.hubs, backing.fees].map((each) => (channel.my_index ? each.toReversed() : each));
  return { wei, over, fees, bond: 0, durationS };
}

/** `{request, params}` to add to a new channel. Slot i is player i's, the bonds' one stands behind them. */
export async function withStakes(stakes, players) {
  if (!stakes) return { request: {}, params: {} };
  const slots = players.map((destination) => ({ asset: COIN, destination, amount: stakes.wei }));
  if (stakes.over) return { request: { slots, ...(await overLedgers(stakes, players)) }, params: {} };
  if (stakes.bond) slots.push({ asset: COIN, destination: POOL, amount: "0" });
  return {
    request: { fund: "direct", slots, challenge_duration_s: stakes.durationS },
    params: stakes.bond ? { bond_percent: stakes.bond } : {},
  };
}

/** Which hubs, and what each gets: what was agreed or typed, else what they announce. */
async function overLedgers({ wei, over, fees, durationS }, players) {
  if (players.length !== 2) throw new Error("Over ledgers two play: choose one player, or own deposits on chain.");
  const request = { fund: "virtual", via: over.filter((hub) => hub !== players[1]), challenge_duration_s: durationS };
  if (!request.via.length) return { ...request, fees: [] };
  if (fees) return { ...request, fees };
  const { routes } = await node.post("/v1/routes", { to: players[1], funds: [{ asset: COIN, mine: wei, theirs: wei }], challenge_duration_s: durationS });
  const found = routes.find(({ hubs }) => hubs.join() === request.via.join());
  if (!found) throw new Error(`${request.via.map(nameOf).join(", ")} and ${nameOf(players[1])} announce no way for that stake. Write the fee that you have agreed on.`);
  return { ...request, fees: found.fees };
}

/** What a proposed match asks of us, in words; empty when it is played for nothing. */
export function asksText(channel) {
  if (!channel.slots.length) return "";
  const mine = channel.slots[channel.my_index];
  const each = `for ${amountText(mine.amount, mine.asset)} each`;
  if (channel.backing) return `${each}, ${throughText(channel.backing)}`;
  return channel.chain ? each : "for play money";
}

const throughText = ({ hubs }) => (hubs.length ? `through ${hubs.map(nameOf).join(" and ")}` : "in your common ledger");

/** How a match stands whose stakes ledgers put up. */
const STAGES = {
  none: () => "The ledgers are asked to lock the stakes",
  guaranteed: () => "Your ledger has locked both stakes; the other one follows",
  complete: (channel, sum) => `${sum} is locked ${throughText(channel.backing)}; no transaction was needed`,
  releasing: () => "Both have signed the end; the ledgers take it over",
  released: (channel) => `Moved in the ledgers: ${resultText(channel)}`,
  failed: () => "The ledgers do not put up the stakes; what was locked is free again",
  disputed: () => "The chain is to settle this match",
};

function ledgerLines(channel) {
  const { backing, slots, participants, my_index: me } = channel;
  const asset = slots[0].asset;
  const sum = slots.reduce((total, slot) => total + BigInt(slot.amount), 0n).toString();
  const lines = [`${STAGES[backing.stage](channel, amountText(sum, asset))}${backing.detail && ` (${backing.detail})`}.`];
  backing.hubs.forEach((hub, at) => backing.fees[at] !== "0" && lines.push(`${nameOf(hub)} gets ${amountText(backing.fees[at], asset)} from ${me ? nameOf(participants[0]) : "you"}.`));
  const neighbour = backing.hubs.at(me ? -1 : 0) ?? participants[1 - me];
  const ledger = state.ledgers.findLast(({ peer }) => peer === neighbour);
  const mine = ledger?.assets.find((each) => each.asset === asset)?.mine;
  if (mine) lines.push(ledger.phase === "settled" ? `Your ledger with ${nameOf(neighbour)} is closed: the chain has paid you ${amountText(mine, asset)}.` : `You have ${amountText(mine, asset)} in your ledger with ${nameOf(neighbour)}.`);
  return lines;
}

const resultText = (channel) => channel.participants.map((address, at) => `${nameOf(address)} ${amountText(channel.amounts[at], channel.slots[at].asset)}`).join(", ");

function chainLines(channel) {
  const { chain } = channel;
  const lines = chain.assets.map((asset) => `The chain holds ${amountText(asset.held, asset.asset)} of ${amountText(asset.needed, asset.asset)}.`);
  if (chain.mode === "challenge") lines.push(`A challenge runs until ${new Date(chain.finalizes_at_s * 1000).toLocaleTimeString()}: without a newer step it pays turn ${chain.turn_record}.`);
  if (channel.phase === "settled") lines.push(`Paid out: ${resultText(channel)}.`);
  return lines;
}

/** How a match's money stands: a panel's title and content, or null for one that is played for nothing. */
export function moneyText(channel) {
  const { chain, backing, phase } = channel;
  if (!chain && !backing) return null;
  const lines = backing ? ledgerLines(channel) : chainLines(channel);
  if (phase !== "settled") {
    const { exit_reason: leaves } = backing ?? chain;
    if (leaves) lines.push(`Your node leaves: ${inNames(leaves, channel)}.`);
    else if (phase === "running" && channel.participants.some(isAway)) lines.push(`To end the match without who is away, in a terminal: scapp channel challenge ${channel.channel_id.slice(0, 10)}. It pays what the last step that all signed says.`);
    if (channel.waiting_for) lines.push(`Waits for ${inNames(channel.waiting_for, channel)}.`);
  }
  return { title: backing ? "In the ledgers" : "On the chain", lines };
}
