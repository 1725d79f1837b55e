// Any match again, from its log alone: the reducer runs here, and the slider says up to which turn.

import { boardParts, drawBoard } from "./board.js";
import { h, keep, short } from "./dom.js";
import { lastRound, matchOfKernel } from "./game.js";
import { channelOf, nameOf, node } from "./session.js";
import { entryText } from "./side.js";
import { LocalRun } from "/app/scapp/verify.js";

const PLAY_MS = 900;

export function replayView(place, id) {
  const board = boardParts();
  const caption = h("p.caption", { role: "status" });
  const slider = h("input", { type: "range", min: 1, max: 1, value: 1, "aria-label": "Turn", disabled: true });
  const playing = h("button.primary", { type: "button", disabled: true }, "Play");
  place.append(h("div.match.replay", {},
    h("section.table", { "aria-label": "Replay" },
      h("div.headline", {}, board.head, h("a.button", { href: `#/match/${id}` }, "To the match")),
      h("div.controls", {},
        playing,
        h("button", { type: "button", "aria-label": "One turn back", onclick: () => move(-1) }, "‹"),
        slider,
        h("button", { type: "button", "aria-label": "One turn on", onclick: () => move(1) }, "›")),
      caption, board.track, board.felt, board.last)));
  let run = null;
  let timer = null;
  let busy = Promise.resolve();

  async function show() {
    const wanted = Number(slider.value);
    await run.go(wanted);
    const turn = run.turns[wanted - 1];
    const computed = run.kernel.stateRoot();
    const match = matchOfKernel(run.kernel);
    const last = lastRound(match);
    const justOver = turn.entries.some((entry) => entry.payload?.reveal) && match.phase !== "reveal" && last ? last.round : null;
    drawBoard(board, { match, seat: null, names: match.players.map((player) => nameOf(player.address)), open: justOver });
    const text = turn.entries.map(entryText).join("; ");
    keep(caption, [wanted, computed], () => [
      h("strong", {}, `Turn ${turn.turn}`), ` of ${run.turns.at(-1).turn}: ${text}. `,
      h("code", { title: computed }, short(computed, 10)),
      h("span", { className: computed === turn.stateRoot ? "mark good" : "mark bad" }, computed === turn.stateRoot ? " ✓ equal to what all signed" : " ✗ NOT what was signed"),
    ]);
  }

  /** One after the other: a kernel does one thing at a time. */
  const queue = () => {
    busy = busy.then(show).catch(failed);
  };
  const failed = (error) => keep(caption, error.message, () => h("span.bad", {}, `This match cannot be run here: ${error.message}`));
  const move = (by) => {
    if (!run) return;
    slider.value = Number(slider.value) + by;
    queue();
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    playing.textContent = "Play";
  };
  slider.addEventListener("input", () => {
    stop();
    queue();
  });
  playing.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 1;
    playing.textContent = "Pause";
    timer = setInterval(() => (slider.value === slider.max ? stop() : move(1)), PLAY_MS);
  });
  void (async () => {
    const channel = channelOf(id) ?? (await node.get(`/v1/channels/${id}`));
    run = await LocalRun.of(node, channel);
    slider.max = run.turns.length;
    slider.value = run.turns.length;
    slider.disabled = playing.disabled = false;
    queue();
  })().catch(failed);
  return stop;
}
