// Drawing: each function fills an element of the page with what it is given.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Return an element whose length or place is a share: the style sheet reads --p.
function share(name, className, p) {
  const made = element(name, { class: className });
  made.style.setProperty("--p", p.toFixed(4));
  return made;
}

// Return the probabilities with that of all other tokens at the end.
function withRest(probabilities) {
  const rest = 1 - probabilities.reduce((a, b) => a + b, 0);
  return [...probabilities, Math.max(0, rest)];
}

function drawBars(place, names, probabilities, before) {
  const bars = element("div", { class: "bars" });
  probabilities.forEach((p, i) => {
    const track = element("div", { class: "track", "aria-hidden": "true" });
    track.append(share("div", `fill label-${i}`, p));
    if (before) track.append(share("div", "mark", before[i]));
    const was = before ? `${before[i].toFixed(3)} → ` : "";
    bars.append(names[i], track, element("span", { class: "number" }, was + p.toFixed(3)));
  });
  place.replaceChildren(bars);
}

function drawStack(probabilities) {
  const stack = element("div", { class: "stack", "aria-hidden": "true" });
  probabilities.forEach((p, i) => stack.append(share("span", `label-${i}`, p)));
  return stack;
}

function drawLens(place, names, lens) {
  const head = element("tr", {}, element("th", { scope: "col" }, "after"));
  for (const name of names) head.append(element("th", { scope: "col" }, name));
  const body = element("tbody");
  lens.forEach((probabilities, depth) => {
    const name = depth === 0 ? "embedding" : `layer ${depth - 1}`;
    const row = element("tr", {}, element("th", { scope: "row" }, name));
    withRest(probabilities).forEach((p, i) => {
      row.append(element("td", {}, p.toFixed(3), share("span", `cell label-${i}`, p)));
    });
    body.append(row);
  });
  place.replaceChildren(element("table", {}, element("thead", {}, head), body));
}

// Draw tokens as running text, neighbours in different shades, a line for each line of the text.
function drawTokens(place, pieces) {
  const lines = [element("div", { class: "sentence", dir: "ltr" })];
  let open = null; // the character whose bytes are being shown, and where
  let rtl = false;
  readable(pieces).forEach((parts, number) => {
    const line = lines.at(-1);
    const title = `token ${number}: ${hex(pieces[number])}`;
    for (const { text, bytes, of } of parts) {
      if (text !== undefined) {
        open = null;
        const after = line.lastChild?.className === "cut" || !line.lastChild;
        line.append(tokenSpan(after ? onCircle(text) : text, number, title));
        rtl ||= isRightToLeft(text);
        continue;
      }
      if (open?.of !== of || of === null || open.missing <= 0) {
        const under = element("span", { class: "bytes" });
        const whole = element("span", {}, of === null ? "\ufffd" : visible(of));
        open = { of, under, missing: new TextEncoder().encode(of ?? "").length };
        line.append(element("span", { class: "cut" }, whole, under));
        rtl ||= of !== null && isRightToLeft(of);
      }
      open.missing -= bytes.length;
      open.under.append(tokenSpan(hex(bytes).replaceAll(" ", "\u00a0"), number, title));
    }
    if (pieces[number].includes(10)) {
      line.dir = rtl ? "rtl" : "ltr";
      rtl = false;
      lines.push(element("div", { class: "sentence", dir: "ltr" }));
    }
  });
  lines.at(-1).dir = rtl ? "rtl" : "ltr";
  place.replaceChildren(...lines.filter((line) => line.hasChildNodes()));
}

// Return one token's text; signs stand for the spaces and line ends in it.
function tokenSpan(text, number, title) {
  const span = element("span", { class: `shade-${number % 2}`, title });
  for (const part of text.split(/([ \n])/)) {
    if (part === "") continue;
    const sign = { " ": "\u00b7", "\n": "\u21b5" }[part];
    const hidden = { class: "hidden-sign", "aria-hidden": "true" };
    if (sign) span.append(element("wbr"), element("span", hidden, sign));
    else span.append(part);
  }
  return span;
}

function isRightToLeft(text) {
  return /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}]/u.test(text);
}

// Draw a (T, T) matrix of weights, a pixel each; darker is more.
function drawMatrix(canvas, map, T) {
  canvas.width = canvas.height = T;
  const color = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  const image = new ImageData(T, T);
  for (let i = 0; i < T * T; i++) {
    image.data.set([red, green, blue, 255 * Math.sqrt(map[i])], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const ROW = 18; // pixels, as in page.css

// Draw the weights as lines from the tokens on the left to those that they look at; from one token,
// or, with `from` null, all lines that stand out.
function drawLines(place, map, names, from, choose) {
  const T = names.length;
  const item = (name) => element("li", { dir: "auto" }, name);
  const [left, right] = [0, 1].map(() => element("ol", {}, ...names.map(item)));
  left.addEventListener("click", (event) => {
    choose([...left.children].indexOf(event.target.closest("li")));
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 100 ${ROW * T}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("height", ROW * T);
  svg.setAttribute("aria-hidden", "true");
  for (let t = 0; t < T; t++) {
    if (from !== null && t !== from) continue;
    for (let s = 0; s <= t; s++) {
      const weight = map[t * T + s];
      if (weight < (from === null ? 0.1 : 0.01)) continue;
      const line = document.createElementNS(svg.namespaceURI, "line");
      const ends = { x1: 0, y1: ROW * (t + 0.5), x2: 100, y2: ROW * (s + 0.5), opacity: weight };
      for (const [key, value] of Object.entries(ends)) line.setAttribute(key, value);
      line.setAttribute("vector-effect", "non-scaling-stroke");
      line.setAttribute("stroke-width", 1 + 3 * weight);
      svg.append(line);
      if (from !== null && weight >= 0.05) {
        right.children[s].prepend(`${weight.toFixed(2)} `);
        right.children[s].classList.add("chosen");
      }
    }
  }
  if (from !== null) left.children[from].classList.add("chosen");
  place.replaceChildren(element("div", { class: "pairing" }, left, svg, right));
  if (from !== null) place.scrollTop = ROW * (from + 2) - place.clientHeight; // so that it shows
}
