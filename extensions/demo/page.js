// What happens on the page: texts are typed or picked, heads clicked, tokens appended.

const find = (id) => document.getElementById(id);
const info = JSON.parse(find("info").textContent);
const NAMES = [...info.labels.map(({ name }) => name), "another token"];

const state = {
  backend: null,
  ablated: new Set(), // "layer.head"
  head: [0, 0], // the one that is shown
  from: "last", // the token that lines start at: its number, "last" or "all"
  result: null, // of the pair, as the back end gives it
  before: null, // the pair's probabilities with all heads, where some are ablated
  generated: [], // ids
  promptIsOwn: false,
};

// ---- The pair ----------------------------------------------------------------------------------

function fillChoices() {
  for (const [code, name] of Object.entries(info.languages)) {
    find("language").append(element("option", { value: code }, name));
  }
  find("example").append(element("option", { value: "" }, "a pair of your own"));
  let group = null;
  info.examples.forEach(({ label: expected, phenomenon, texts }, number) => {
    const [premise, hypothesis] = texts.en;
    const title = `${phenomenon}: ${premise}`;
    if (group?.label !== title) {
      group = element("optgroup", { label: title });
      find("example").append(group);
    }
    group.append(element("option", { value: number }, `${hypothesis} (${expected})`));
  });
  find("example").value = "0";
}

const example = () => info.examples[find("example").value]; // undefined for a pair of one's own
const pair = () => ({
  premise: find("premise").value,
  hypothesis: find("hypothesis").value,
  ablated: [...state.ablated],
});
const prompt = ({ premise, hypothesis }) =>
  info.prompt.replace(/\{(premise|hypo)\}/g, (_, name) => (name === "hypo" ? hypothesis : premise));

// Write the chosen example in the chosen language.
function choose() {
  const code = find("language").value;
  if (example()) [find("premise").value, find("hypothesis").value] = example().texts[code];
  for (const id of ["premise", "hypothesis", "tokens", "prompt"]) find(id).lang = code;
  return update();
}

// Ask the back end about the pair and show what it says; the newest call wins.
const update = latest(async (isCurrent) => {
  const input = pair();
  try {
    checkText("premise", input.premise, info);
    checkText("hypothesis", input.hypothesis, info);
    const result = await state.backend.analyze(input);
    const all = { ...input, ablated: [] };
    const before = state.ablated.size ? (await state.backend.brief(all)).probabilities : null;
    if (!isCurrent()) return;
    Object.assign(state, { result, before });
    find("error").textContent = "";
    document.body.classList.remove("stale");
    showPair(input);
  } catch (error) {
    if (!isCurrent()) return;
    find("error").textContent = error.message;
    document.body.classList.add("stale");
    return;
  }
  if (!state.promptIsOwn) startOver(prompt(input));
  await showLanguages(isCurrent);
});

function showPair(input) {
  const { pieces, probabilities, lens, fertility } = state.result;
  const before = state.before && withRest(state.before);
  drawBars(find("prediction"), NAMES, withRest(probabilities), before);
  find("expected").textContent = example() ? `The small world’s answer: ${example().label}.` : "";
  drawLens(find("lens"), NAMES, lens);
  drawTokens(find("tokens"), pieces);
  const words = countWords(input.premise) + countWords(input.hypothesis);
  find("counts").textContent =
    `${pieces.length} tokens in the prompt. Fertility ${fertility.toFixed(2)}: tokens per word ` +
    `of premise and hypothesis, whose ${words} words are what white space separates.`;
  showEffect();
  showHeads();
  fillFrom();
  showHead();
}

// ---- Other languages ---------------------------------------------------------------------------

async function showLanguages(isCurrent) {
  const chosen = example();
  find("translations").textContent = chosen
    ? "Click a language to choose it. Ablated heads are ablated here, too."
    : "Examples have translations; choose one above.";
  if (!chosen) {
    find("languages").replaceChildren();
    return;
  }
  const ablated = [...state.ablated];
  const cards = find("languages").children;
  for (const [number, [code, name]] of Object.entries(info.languages).entries()) {
    const [premise, hypothesis] = chosen.texts[code];
    try {
      const result = await state.backend.brief({ premise, hypothesis, ablated });
      await new Promise((resume) => setTimeout(resume)); // so that the page stays responsive
      if (!isCurrent()) return;
      const card = languageCard(code, name, [premise, hypothesis], result);
      if (number < cards.length) replaceWithFocus(cards[number], card);
      else find("languages").append(card);
    } catch (error) {
      find("translations").textContent = error.message;
      return;
    }
  }
}

// Replace an element; a button in it that has the focus hands it to the new one's first button.
function replaceWithFocus(old, made) {
  const hadFocus = old.contains(document.activeElement);
  old.replaceWith(made);
  if (hadFocus) made.querySelector("button")?.focus();
}

function languageCard(code, name, texts, { pieces, probabilities, fertility }) {
  const all = withRest(probabilities);
  const best = largest(all, 1)[0];
  const button = element("button", { type: "button" }, name);
  button.addEventListener("click", () => {
    find("language").value = code;
    choose();
  });
  const counts = `${pieces.length} tokens, ${fertility.toFixed(1)} per word`;
  const top = element("div", { class: "top" }, button, element("span", { class: "note" }, counts));
  const chosen = find("language").value === code ? " chosen" : "";
  const sentences = texts.map((text) => element("p", { lang: code, dir: "auto" }, text));
  const answer = element("div", {}, `${NAMES[best]} ${all[best].toFixed(3)}`);
  return element("div", { class: `card${chosen}` }, top, ...sentences, drawStack(all), answer);
}

// ---- Start -------------------------------------------------------------------------------------

// Return a function of which only the newest call may show what it found.
function latest(work) {
  let newest = 0;
  return (...args) => {
    const own = ++newest;
    return work(() => own === newest, ...args);
  };
}

function listen() {
  let waiting = null;
  const soon = (work) => {
    clearTimeout(waiting);
    waiting = setTimeout(work, 150); // until the typing stops
  };
  find("language").addEventListener("change", choose);
  find("example").addEventListener("change", choose);
  for (const id of ["premise", "hypothesis"]) {
    find(id).addEventListener("input", () => {
      find("example").value = "";
      soon(update);
    });
  }
  find("restore").addEventListener("click", () => {
    state.ablated.clear();
    find(`head-${state.head.join("-")}`).focus();
    update();
  });
  find("from").addEventListener("change", (event) => lineFrom(event.target.value));
  find("matrix").addEventListener("pointermove", readWeight);
  find("prompt").addEventListener("input", () => {
    state.promptIsOwn = true;
    soon(() => startOver());
  });
  find("one").addEventListener("click", () => generate(1));
  find("ten").addEventListener("click", () => generate(10));
  find("again").addEventListener("click", () => startOver());
  find("use-pair").addEventListener("click", () => {
    state.promptIsOwn = false;
    startOver(prompt(pair()));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    showHeads();
    showHead();
  });
}

async function start() {
  const { num_hidden_layers: layers, num_attention_heads: heads, hidden_size: width } = info.config;
  let about = `${info.name}: ${layers} layers of ${heads} heads, width ${width}. `;
  try {
    if (info.tensors) {
      state.backend = await LocalBackend.load(info, find("weights").textContent);
      about +=
        "It runs in this page, which sends nothing anywhere. Its weights are rounded to half " +
        `precision, and to 8 bits for all but ${info.rounding.tokens.toLocaleString("en")} ` +
        "tokens; the probabilities of the examples differ from the checkpoint’s by at most " +
        `${(Math.ceil(info.rounding.change * 1e4) / 1e4).toFixed(4)}.`;
    } else {
      state.backend = new ServerBackend(info);
      about += "It runs in Python on this computer.";
    }
  } catch (error) {
    find("about").textContent = error.message;
    return;
  }
  find("about").textContent = about;
  fillChoices();
  fillHeads();
  listen();
  await choose();
}

const started = start();
