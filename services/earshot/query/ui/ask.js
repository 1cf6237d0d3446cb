// A question's answer, shown while it comes; every number in it plays the second it stands for.

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += value;
    const blocks = pending.split("\n\n");
    pending = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)));
      if (fields.data) yield { name: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

export function asker({ send, make, play, clock, $ }) {
  let number = 0;

  function cite(cited) {
    const who = [cited.title || "Untitled", cited.speaker, clock(cited.start_ms)].filter(Boolean).join(" · ");
    const button = make("button", { className: "cite", type: "button", textContent: cited.number, title: who, onclick: () => play(cited) });
    button.setAttribute("aria-label", `Citation ${cited.number}: ${who}`);
    return button;
  }

  function written(text, citations) {
    return text.split(/\[(\d+)\]/).map((part, at) => (at % 2 ? (citations.has(Number(part)) ? cite(citations.get(Number(part))) : `[${part}]`) : part));
  }

  function source(cited) {
    const where = make("span", { className: "where" }, cite(cited), make("b", { textContent: clock(cited.start_ms) }), cited.title || "Untitled");
    if (cited.speaker) where.append(` · ${cited.speaker}`);
    const item = make("li", {}, where, make("span", { className: "said", textContent: cited.text }));
    item.dataset.recording = cited.recording_id;
    return item;
  }

  function about(answer) {
    const said = [...answer.notices];
    if (answer.degraded) said.unshift(`No model answered: ${answer.degraded}`);
    if (answer.rewritten) said.unshift(`Understood as: ${answer.rewritten}`);
    if (answer.period) said.unshift(`Only what was recorded ${answer.period.text}.`);
    return said.join(" ");
  }

  return async function ask(question) {
    const mine = ++number;
    const citations = new Map();
    let text = "";
    $("answer").hidden = false;
    $("answer-text").replaceChildren("…");
    $("sources").replaceChildren();
    $("answer-about").textContent = "";
    const headers = { "Content-Type": "application/json" };
    const answer = await send("/answers", { method: "POST", headers, body: JSON.stringify({ question, stream: true }) });
    if (!answer.ok) {
      const problem = await answer.json();
      $("answer").hidden = true;
      throw new Error(`${problem.detail} ${problem.next_step}`);
    }
    for await (const { name, data } of events(answer)) {
      if (mine !== number) return; // another question was asked meanwhile
      if (name === "token") text += data.text;
      if (name === "citation") citations.set(data.number, data);
      if (name === "reset") {
        text = "";
        citations.clear();
      }
      if (name === "error") throw new Error(`${data.detail} ${data.next_step}`);
      if (name === "done") {
        data.citations.forEach((cited) => citations.set(cited.number, cited));
        $("sources").replaceChildren(...data.citations.map(source));
        $("answer-about").textContent = about(data);
      }
      $("answer-text").replaceChildren(...written(text, citations));
    }
  };
}
