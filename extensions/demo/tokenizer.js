// GPT-2's tokenizer: text, its UTF-8 bytes, pairs of bytes joined in the order of a table.
//
// The table is all there is to it: ids 0 to 255 are the bytes, in an order of their own, id 256 + k
// is what merge k makes of two earlier ids, and the last id is <|endoftext|>, which no text holds.

// What is never joined: a contraction, a word, a number, punctuation, white space. The space before
// a word belongs to it. JavaScript's \s is not Unicode's white space: it has U+FEFF, not U+0085.
const PIECES = new RegExp(
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
    "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+",
  "gu",
);
const WORD_SPACE = /[\p{White_Space}\x1c-\x1f]+/u; // what Python's str.split() splits at

class Tokenizer {
  // byteOrder: the byte of each of the ids 0 to 255; merges: left and right id of each merge.
  constructor(byteOrder, merges) {
    this.byteOrder = byteOrder;
    this.merges = merges;
    this.byteIds = new Array(256);
    byteOrder.forEach((byte, id) => (this.byteIds[byte] = id));
    this.joined = new Map(); // of two ids, as one number: the id that they make
    for (let k = 0; k < merges.length / 2; k++) {
      this.joined.set(merges[2 * k] * 65536 + merges[2 * k + 1], 256 + k);
    }
    this.pieces = new Map(); // the bytes of ids that were asked for
  }

  encode(text) {
    const ids = [];
    const utf8 = new TextEncoder(); // writes U+FFFD for half of a surrogate pair
    for (const [piece] of text.matchAll(PIECES)) {
      const bytes = Array.from(utf8.encode(piece), (byte) => this.byteIds[byte]);
      for (const id of this.merge(bytes)) ids.push(id);
    }
    return ids;
  }

  // Join neighbours, those of the earliest merge first. What a merge makes has a later merge than
  // itself, so all pairs of one merge can be joined at once, from the left.
  merge(ids) {
    const rank = (list, i) =>
      i + 1 < list.length ? (this.joined.get(list[i] * 65536 + list[i + 1]) ?? Infinity) : Infinity;
    let ranks = ids.map((_, i) => rank(ids, i));
    for (;;) {
      const first = ranks.reduce((a, b) => Math.min(a, b), Infinity);
      if (first === Infinity) return ids;
      const next = [];
      const known = []; // the ranks that stay as they are
      for (let i = 0; i < ids.length; i++) {
        const joins = ranks[i] === first;
        next.push(joins ? first : ids[i]);
        known.push(joins ? null : ranks[i]);
        if (joins) i++;
      }
      ranks = known.map((value, i) =>
        value === null || next[i + 1] === first ? rank(next, i) : value,
      );
      ids = next;
    }
  }

  // Return the bytes of a token as an array of numbers.
  bytes(id) {
    if (id < 256) return [this.byteOrder[id]];
    if (id >= 256 + this.merges.length / 2) return [...new TextEncoder().encode("<|endoftext|>")];
    if (!this.pieces.has(id)) {
      const left = this.merges[2 * (id - 256)];
      const right = this.merges[2 * (id - 256) + 1];
      this.pieces.set(id, [...this.bytes(left), ...this.bytes(right)]);
    }
    return this.pieces.get(id);
  }
}

function countWords(text) {
  return text.split(WORD_SPACE).filter((word) => word !== "").length;
}

function hex(bytes) {
  return bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ");
}

// Return the characters that some bytes spell: {text, start, end}, with text null where they spell
// none. A character's bytes may belong to several tokens.
function characters(bytes) {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const found = [];
  for (let start = 0; start < bytes.length; ) {
    const lead = bytes[start];
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    let end = Math.min(start + length, bytes.length);
    let text = null;
    try {
      text = decoder.decode(Uint8Array.from(bytes.slice(start, end)));
    } catch {
      end = start + 1;
    }
    found.push({ text, start, end });
    start = end;
  }
  return found;
}

// Return the tokens as text that can be read, each a list of parts: {text} for whole characters,
// {bytes, of} for some of the bytes of the character `of` (null for bytes that spell none).
function readable(pieces) {
  const ends = [];
  let total = 0;
  for (const piece of pieces) ends.push((total += piece.length));
  const parts = pieces.map(() => []);
  let token = 0;
  for (const { text, start, end } of characters(pieces.flat())) {
    while (ends[token] <= start) token++;
    if (text !== null && end <= ends[token]) {
      const last = parts[token].at(-1);
      if (last?.text !== undefined) last.text += text;
      else parts[token].push({ text });
      continue;
    }
    for (let t = token, from = start; from < end; t++) {
      const until = Math.min(end, ends[t]);
      const offset = ends[t] - pieces[t].length;
      parts[t].push({ bytes: pieces[t].slice(from - offset, until - offset), of: text });
      from = until;
    }
  }
  return parts;
}

// Return one line of text for a token: its characters, with marks for spaces and line ends.
function label(parts) {
  return parts
    .map(({ text, bytes, of }) => {
      if (text === undefined) return of === null ? hex(bytes) : `${hex(bytes)} (${visible(of)})`;
      return visible(text);
    })
    .join("");
}

// Return text whose first mark, if it starts with one, stands on a dotted circle; browsers draw it
// themselves for Devanagari.
function onCircle(text) {
  return text.replace(/^(?!\p{Script=Devanagari})\p{M}/u, "\u25cc$&");
}

// Return text in which what has no glyph of its own shows: spaces, controls, marks on a letter.
function visible(text) {
  return onCircle(text)
    .replace(/ /g, "\u00b7")
    .replace(/\n/g, "\u21b5")
    .replace(/[\p{Cc}\p{Cf}\p{Z}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}
