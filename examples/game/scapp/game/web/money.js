// Money of a match: what is staked when it is opened, and how it stands on the chain afterwards.

import { h } from "./dom.js";
import { mayStake, nameOf, state } from "./session.js";

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

/** The fields of the form, for a node that has a chain. */
export function stakeFields() {
  if (!state.chain || !mayStake()) return null;
  const more = h("div.money", { hidden: true },
    h("label.row", {}, h("span", {}, "Bond"), h("select", { name: "bond" }, BONDS.map(([value, text]) => h("option", { value }, text)))),
    h("label.row", {}, h("span", {}, "Dispute time"), h("select", { name: "duration" }, DURATIONS.map(([value, text]) => h("option", { value }, text)))),
    h("p", {}, h("small", {}, "Everybody deposits the stake; the chain pays what the last step that all signed says. Who goes silent loses the bond, and is waited for that long.")));
  const amount = h("input", { type: "text", name: "stake", inputMode: "decimal", autocomplete: "off", placeholder: "0 ETH: play for nothing", oninput: () => (more.hidden = !/[1-9]/.test(amount.value)) });
  return [h("label.row", {}, h("span", {}, "Stake of each"), amount), more];
}

/** What the request for a new channel says of money, and the reducer's parameters; nothing when played for nothing. */
export function stakesOf(fields) {
  const wei = fields?.get("stake")?.trim() ? weiOf(fields.get("stake")) : "0";
  if (wei === "0") return null;
  return { wei, bond: Number(fields.get("bond")), durationS: Number(fields.get("duration")) };
}

/** The stakes of a match that is there, for a rematch. */
export function stakesLike(channel, match) {
  if (!channel.chain) return null;
  const wei = channel.slots[0].amount;
  return { wei, bond: match.bondPercent, durationS: channel.chain.challenge_duration_s };
}

/** `{request, params}` to add to a new channel. Slot i is player i's, the bonds' one stands behind them. */
export function withStakes(stakes, players) {
  if (!stakes) return { request: {}, params: {} };
  const slots = players.map((destination) => ({ asset: COIN, destination, amount: stakes.wei }));
  if (stakes.bond) slots.push({ asset: COIN, destination: POOL, amount: "0" });
  return {
    request: { fund: "direct", slots, challenge_duration_s: stakes.durationS },
    params: stakes.bond ? { bond_percent: stakes.bond } : {},
  };
}

/** What a proposed match asks of us, in words; empty when it is played for nothing. */
export function asksText(channel) {
  if (!channel.slots.length) return "";
  const mine = channel.slots[channel.my_index];
  return channel.chain ? `for ${amountText(mine.amount, mine.asset)} each` : "for play money";
}

/** The chain's side of a match: a panel's content, or null for one that is played for nothing. */
export function moneyText(channel) {
  const { chain } = channel;
  if (!chain) return null;
  const lines = chain.assets.map((asset) => `The chain holds ${amountText(asset.held, asset.asset)} of ${amountText(asset.needed, asset.asset)}.`);
  if (chain.mode === "challenge") lines.push(`A challenge runs until ${new Date(chain.finalizes_at_s * 1000).toLocaleTimeString()}: without a newer step it pays turn ${chain.turn_record}.`);
  if (chain.exit_reason) lines.push(`Your node leaves: ${chain.exit_reason}.`);
  if (channel.phase === "settled") lines.push(`Paid out: ${channel.participants.map((address, at) => `${nameOf(address)} ${amountText(channel.amounts[at], channel.slots[at].asset)}`).join(", ")}.`);
  else if (channel.waiting_for) lines.push(`Waits for ${channel.waiting_for}.`);
  return lines.map((line) => h("p", {}, line));
}
