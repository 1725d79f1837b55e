// Hidden moves. Every salt follows from one secret, so nothing has to be remembered between hiding a card and showing it:
// not by a page that is reloaded, nor by another browser that `scapp page` opened with the same secret.

import { bytesOf, hex } from "/app/scapp/client.js";
import { keccak256 } from "/app/scapp/keccak.js";
import { handover } from "./session.js";

const saltOf = (channelId, seat, round) => keccak256(bytesOf(handover.secret), bytesOf(channelId), Uint8Array.of(seat), u64(round));

function u64(number) {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(number));
  return new Uint8Array(view.buffer);
}

/** keccak256(salt 32 B || channel id 32 B || author 20 B || round u64 || card u8): docs/explanation/commit-reveal.md. */
function commitment(channelId, player, round, card) {
  const salt = saltOf(channelId, player.seat, round);
  return hex(keccak256(salt, bytesOf(channelId), bytesOf(player.address), u64(round), Uint8Array.of(card)));
}

/** The message that hides a card. */
export function hide(channelId, player, round, card) {
  return { commit: { hash: commitment(channelId, player, round, card) } };
}

/** The card behind a commitment of this player, found by trying the hand; null when another secret made it. */
export function cardBehind(channelId, player, bid) {
  const hand = bid.card === null ? player.hand : [...player.hand, bid.card];
  return hand.find((card) => commitment(channelId, player, bid.round, card) === bid.commitment) ?? null;
}

/** The message that shows it. */
export function show(channelId, player, round, card) {
  return { reveal: { card, salt: hex(saltOf(channelId, player.seat, round)) } };
}
