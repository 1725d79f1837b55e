// Beside the table: each co-signed step with its root, the button that recomputes them here, and the chat.

import { NodeError } from "/app/scapp/client.js";
import { logRoot, turnsOf, verify } from "/app/scapp/verify.js";
import { doing, h, keep, note, short } from "./dom.js";
import { mayPlay, nameOf, node } from "./session.js";

const SHOWN_MAX = 60;

export function sidePanels(id) {
  const entries = [];
  const checked = new Map(); // turn to whether its root is what was signed
  let channel = null;
  const count = h("span.count");
  const steps = h("ol.steps", { tabIndex: 0, "aria-label": "Signed steps, latest first" });
  const verdict = h("p.verdict", { role: "status" });
  const lines = h("ol.lines", { tabIndex: 0, "aria-live": "polite", "aria-label": "What was said" });
  const chat = chatForm(id);
  const button = h("button", { type: "button", onclick: doing(() => check()) }, "Verify in this browser");
  const root = h("aside.side", { "aria-label": "Steps and chat" },
    h("details.panel", { open: matchMedia("(min-width: 60rem)").matches }, h("summary", {}, "Signed steps ", count),
      h("div.actions", {}, button), verdict, steps),
    h("details.panel", { open: matchMedia("(min-width: 60rem)").matches }, h("summary", {}, "Chat"), lines, chat));

  function draw() {
    const turns = turnsOf(entries).reverse();
    count.textContent = turns.length ? `turn ${turns[0].turn}` : "";
    keep(steps, [turns.length, [...checked]], () => turns.slice(0, SHOWN_MAX).map((turn) => step(turn, checked.get(turn.turn))));
  }

  async function check() {
    checked.clear();
    verdict.className = "verdict";
    verdict.textContent = "Running the reducer…";
    const began = performance.now();
    try {
      const found = await verify(node, await node.get(`/v1/channels/${id}`), (turn, signed, computed) => checked.set(turn, signed === computed));
      const ms = Math.round(performance.now() - began);
      verdict.className = `verdict ${found.ok ? "good" : "bad"}`;
      verdict.textContent = found.ok
        ? `Equal up to turn ${entries[found.entries - 1]?.turn ?? found.turns}: ${found.entries} entries run here in ${ms} ms. Each turn gives the root that all signed.`
        : `Not what was signed: ${found.detail}`;
    } catch (error) {
      if (error instanceof NodeError) throw error;
      await plainCheck(error);
    }
    draw();
  }

  /** Where WebAssembly does not run: the hash chain here, the tables at the node. */
  async function plainCheck(reason) {
    const now = await node.get(`/v1/channels/${id}`);
    const log = logRoot((await node.entries(id)).slice(0, now.sequence)) === now.log_root;
    const rows = await node.post(`/v1/channels/${id}/verify`);
    verdict.className = `verdict ${log && rows.ok ? "good" : "bad"}`;
    verdict.textContent = `This browser cannot run the reducer (${reason.message}). Plain check: the log ${log ? "has" : "HAS NOT"} the signed root; your node finds its tables ${rows.ok ? "equal" : "DIFFERENT"}.`;
  }

  return {
    root,
    /** Take what is new. */
    async look(found, match) {
      channel = found;
      if (!channel || channel.turn === null) return;
      try {
        const fresh = await node.entries(id, entries.length);
        entries.push(...fresh.filter((entry) => entry.sequence >= entries.length));
      } catch (error) {
        console.error(error);
      }
      draw();
      chat.hidden = !mayPlay() || channel.phase !== "running";
      if (!match) return;
      const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
      keep(lines, match.chat, () => match.chat.length === 0 ? h("li.empty", {}, "Nothing said yet.") : match.chat.map((line) => h("li", {}, h("strong", { dataset: { seat: line.seat }, className: "tint" }, nameOf(match.players[line.seat].address)), ` ${line.text}`)));
      if (atEnd) lines.scrollTop = lines.scrollHeight;
    },
  };
}

function chatForm(id) {
  const input = h("input", { type: "text", name: "text", maxLength: 140, required: true, autocomplete: "off", placeholder: "Say something", "aria-label": "Message" });
  return h("form.row.chat", {
    onsubmit: doing(async () => {
      const text = input.value.trim();
      if (!text) return;
      const receipt = await node.send(id, { chat: { text } });
      if (receipt.status === "refused") note(receipt.reason);
      else input.value = "";
    }),
  }, input, h("button", { type: "submit" }, "Send"));
}

function step({ turn, entries, stateRoot }, ok) {
  const mark = ok === undefined ? null : h("span", { className: ok ? "mark good" : "mark bad", title: ok ? "recomputed here: equal" : "recomputed here: different" }, ok ? "✓" : "✗");
  return h("li", {},
    h("span.turn", { title: "turn" }, String(turn)),
    h("div", {}, entries.map((entry) => h("p", {}, entryText(entry))), h("code", { title: stateRoot }, short(stateRoot, 10)), mark),
    h("time", { dateTime: new Date(entries.at(-1).time_ms).toISOString() }, new Date(entries.at(-1).time_ms).toLocaleTimeString()));
}

/** An entry in words. */
export function entryText(entry) {
  const who = nameOf(entry.author_address);
  if (entry.kind === "open") return "The match was opened";
  if (entry.kind === "tick") return `${who} called time`;
  if (entry.kind === "close") return `${who} closed the channel`;
  const [kind, body] = Object.entries(entry.payload ?? {})[0] ?? [];
  if (kind === "commit") return `${who} hid a card`;
  if (kind === "reveal") return `${who} showed ${body.card}`;
  if (kind === "chat") return `${who} spoke`;
  return `${who} sent ${kind ?? "something"}`;
}
