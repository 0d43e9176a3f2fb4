// The heads: a button each with a small map; the one that is pointed at is shown in large.

function fillHeads() {
  const { num_hidden_layers: layers, num_attention_heads: heads } = info.config;
  const grid = find("heads");
  grid.style.gridTemplateColumns = `auto repeat(${heads}, minmax(0, 1fr))`;
  grid.append(element("span", { "aria-hidden": "true" }));
  for (let head = 0; head < heads; head++) grid.append(element("span", {}, `${head}`));
  for (let layer = 0; layer < layers; layer++) {
    grid.append(element("span", {}, `${layer}`));
    for (let head = 0; head < heads; head++) {
      const button = element("button", { type: "button", class: "head", tabindex: -1 });
      button.id = `head-${layer}-${head}`;
      button.append(element("canvas", { "aria-hidden": "true" }));
      button.addEventListener("click", () => toggle(`${layer}.${head}`));
      for (const name of ["focus", "mouseenter"]) {
        button.addEventListener(name, () => point(layer, head));
      }
      grid.append(button);
    }
  }
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!(event.key in step)) return;
    event.preventDefault();
    const [layer, head] = state.head.map((place, i) => place + step[event.key][i]);
    find(`head-${layer}-${head}`)?.focus();
  });
}

// Show one head below the others.
function point(layer, head) {
  if (state.head[0] === layer && state.head[1] === head) return;
  state.head = [layer, head];
  showHeads(false);
  showHead();
}

function toggle(name) {
  if (!state.ablated.delete(name)) state.ablated.add(name);
  return update();
}

function showHeads(drawMaps = true) {
  const T = state.result?.pieces.length;
  for (let layer = 0; layer < info.config.num_hidden_layers; layer++) {
    for (let head = 0; head < info.config.num_attention_heads; head++) {
      const button = find(`head-${layer}-${head}`);
      const off = state.ablated.has(`${layer}.${head}`);
      const shown = state.head[0] === layer && state.head[1] === head;
      button.classList.toggle("shown", shown);
      button.tabIndex = shown ? 0 : -1;
      button.setAttribute("aria-pressed", off);
      button.setAttribute("aria-label", `Ablate layer ${layer}, head ${head}`);
      if (drawMaps && T) drawMatrix(button.firstChild, state.result.attention[layer][head], T);
    }
  }
}

function showEffect() {
  const count = state.ablated.size;
  const { probabilities } = state.result;
  const change = ({ name }, i) =>
    `${name} ${count ? `${state.before[i].toFixed(3)} → ` : ""}${probabilities[i].toFixed(3)}`;
  const heads = count ? `${count} head${count > 1 ? "s" : ""} ablated` : "All heads work";
  find("effect").textContent = `${heads}: ${info.labels.map(change).join(", ")}.`;
  find("restore").hidden = count === 0;
}

function fillFrom() {
  const names = tokenNames();
  const options = names.map((name, i) => element("option", { value: i }, `${i}: ${name}`));
  const last = element("option", { value: "last" }, `the last token, ${names.at(-1)}`);
  find("from").replaceChildren(last, element("option", { value: "all" }, "all tokens"), ...options);
  if (Number(state.from) >= names.length) state.from = "last";
  find("from").value = state.from;
}

const tokenNames = () => readable(state.result.pieces).map(label);

function showHead() {
  if (!state.result) return;
  const [layer, head] = state.head;
  const map = state.result.attention[layer][head];
  const names = tokenNames();
  const from = { last: names.length - 1, all: null }[state.from];
  const off = state.ablated.has(`${layer}.${head}`) ? " (ablated)" : "";
  find("head-title").textContent = `Layer ${layer}, head ${head}${off}`;
  drawLines(find("lines"), map, names, from === undefined ? Number(state.from) : from, lineFrom);
  drawMatrix(find("matrix"), map, names.length);
  find("weight").textContent = "Rows look at columns. Point at it to read a weight.";
}

function lineFrom(token) {
  state.from = String(token);
  find("from").value = state.from;
  showHead();
}

function readWeight(event) {
  const names = tokenNames();
  const box = find("matrix").getBoundingClientRect();
  const T = names.length;
  const place = (share) => Math.min(T - 1, Math.floor(share * T));
  const row = place((event.clientY - box.top) / box.height);
  const column = place((event.clientX - box.left) / box.width);
  const [layer, head] = state.head;
  const weight = state.result.attention[layer][head][row * T + column].toFixed(3);
  const [from, to] = [row, column].map((token) => `${token}: ${names[token]}`);
  find("weight").textContent = `${from} looks at ${to}, ${weight}`;
}
