// Unpack what extensions/demo/export.py packed: gzip, in base64, of tensors one after the other.

// Return name -> typed array. `tensors` lists {name, kind, start, length}, length in numbers.
async function unpack(base64, tensors) {
  const bytes = await inflate(base64);
  const halves = halfTable();
  const found = {};
  for (const { name, kind, start, length } of tensors) {
    if (kind === "uint16") {
      found[name] = new Uint16Array(bytes, start, length);
    } else if (kind === "float16") {
      found[name] = Float32Array.from(new Uint16Array(bytes, start, length), (h) => halves[h]);
    } else {
      found[name] = new Int8Array(bytes, start, length);
    }
  }
  return found;
}

// Return the embedding: rows of half precision for the ids in `used`, and for the others, in order,
// rows of numbers of a byte times the row's scale.
function embedding(found, vocabulary, width) {
  const { used, rows, levels, scales } = found;
  const table = new Float32Array(vocabulary * width);
  const isUsed = new Uint8Array(vocabulary);
  used.forEach((id, row) => {
    isUsed[id] = 1;
    table.set(rows.subarray(row * width, (row + 1) * width), id * width);
  });
  let other = 0;
  for (let id = 0; id < vocabulary; id++) {
    if (isUsed[id]) continue;
    for (let i = 0; i < width; i++) {
      table[id * width + i] = levels[other * width + i] * scales[other];
    }
    other++;
  }
  return table;
}

async function inflate(base64) {
  if (!("DecompressionStream" in window)) {
    throw new Error(
      "This browser cannot unpack the model; open the page in Chrome 80, Firefox 113, Safari " +
        "16.4 or a newer version.",
    );
  }
  const text = atob(base64);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// Return the value of every number of half precision, by its 16 bits.
function halfTable() {
  return Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits >> 15 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1024 + fraction) * 2 ** (exponent - 25);
  });
}
