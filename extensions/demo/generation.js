// Generation: a prompt, the tokens appended to it, and the candidates for the next one.

function startOver(text = find("prompt").value) {
  find("prompt").value = text;
  state.generated = [];
  return showGeneration();
}

const showGeneration = latest(async (isCurrent) => {
  const text = find("prompt").value;
  try {
    checkText("prompt", text, { maxCharacters: info.maxPrompt });
    const input = { text, ids: state.generated, ablated: [...state.ablated] };
    const { pieces, candidates } = await state.backend.next(input);
    if (!isCurrent()) return null;
    const generated = pieces.slice(pieces.length - state.generated.length);
    drawTokens(find("generated"), generated);
    const list = element("ol", { id: "candidates" }, ...candidates.map(candidateItem));
    replaceWithFocus(find("candidates"), list);
    find("generation-error").textContent = "";
    return candidates;
  } catch (error) {
    if (isCurrent()) find("generation-error").textContent = error.message;
    return null;
  }
});

function candidateItem({ id, piece, probability }) {
  const name = element("span", { dir: "auto" }, label(readable([piece])[0]));
  const button = element("button", { type: "button" }, name);
  const track = element("span", { class: "track" });
  track.append(share("span", "fill label-0", probability));
  button.append(element("span", { class: "number" }, probability.toFixed(3)), track);
  button.addEventListener("click", () => append(id));
  return element("li", {}, button);
}

function append(id) {
  state.generated.push(id);
  return showGeneration();
}

// Append the most probable token `count` times, or until the text ends.
async function generate(count) {
  let candidates = await showGeneration();
  while (count-- > 0 && candidates && state.generated.at(-1) !== info.config.vocab_size - 1) {
    candidates = await append(candidates[0].id);
    await new Promise((resume) => setTimeout(resume));
  }
}
