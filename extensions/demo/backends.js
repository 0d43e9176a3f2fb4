// The two back ends of the page. Each has
//   analyze({premise, hypothesis, ablated}): {pieces, probabilities, lens, attention, fertility}
//   brief(...): the same without lens and attention
//   next({text, ids, ablated}): the tokens of a text and of the ids after it, and candidates for
//   the next: {pieces, candidates: [{id, piece, probability}]}
// pieces: the bytes of each token; probabilities: of the three labels, among all tokens; lens:
// those after the embedding and after each layer; attention[layer][head]: a (T, T) matrix, row by
// row; fertility: tokens per word. Errors are sentences for the reader.

// In this page: the tokenizer and the model of tokenizer.js and model.js.
class LocalBackend {
  constructor(info, tokenizer, model) {
    Object.assign(this, { info, tokenizer, model });
    this.reader = null; // what `next` has read: ids, cache, and the heads that were ablated
  }

  static async load(info, base64) {
    const found = await unpack(base64, info.tensors);
    const { vocab_size: vocabulary, hidden_size: width } = info.config;
    found["word_embedding.weight"] = embedding(found, vocabulary, width);
    const tokenizer = new Tokenizer(info.byteOrder, found.merges);
    return new LocalBackend(info, tokenizer, new GPT2(info.config, found));
  }

  async analyze({ premise, hypothesis, ablated }, seen = { attention: [], states: [] }) {
    const texts = { premise, hypo: hypothesis };
    const prompt = this.info.prompt.replace(/\{(premise|hypo)\}/g, (_, name) => texts[name]);
    const ids = this.tokenizer.encode(prompt);
    checkLength(ids.length, this.info);
    const { model } = this;
    const state = model.read(ids, model.newCache(), new Set(ablated), seen);
    const lens = (seen?.states ?? []).map((s) => this.labels(model.norm(s, "final_layer_norm")));
    const tokens = this.tokenizer.encode(premise).length + this.tokenizer.encode(hypothesis).length;
    return {
      pieces: ids.map((id) => this.tokenizer.bytes(id)),
      probabilities: this.labels(state),
      lens,
      attention: seen?.attention,
      fertility: tokens / (countWords(premise) + countWords(hypothesis)),
    };
  }

  brief(input) {
    return this.analyze(input, null);
  }

  async next({ text, ids, ablated }) {
    const all = [...this.tokenizer.encode(text), ...ids];
    checkLength(all.length, this.info);
    const heads = ablated.join();
    const known = this.reader?.ids ?? [];
    const longer = known.length < all.length && known.every((id, i) => id === all[i]);
    if (!longer || this.reader?.heads !== heads) {
      this.reader = { heads, ids: [], cache: this.model.newCache() };
    }
    const unread = all.slice(this.reader.ids.length);
    const logits = this.model.logits(this.model.read(unread, this.reader.cache, new Set(ablated)));
    this.reader.ids = all;
    const total = logSumExp(logits);
    const candidates = largest(logits, this.info.candidates).map((id) => ({
      id,
      piece: this.tokenizer.bytes(id),
      probability: Math.exp(logits[id] - total),
    }));
    return { pieces: all.map((id) => this.tokenizer.bytes(id)), candidates };
  }

  // Return the probability of each label after a state.
  labels(state) {
    const logits = this.model.logits(state);
    const total = logSumExp(logits);
    return this.info.labels.map(({ id }) => Math.exp(logits[id] - total));
  }
}

// On this computer: extensions/demo/server.py, which serves the page and runs the model in Python.
class ServerBackend {
  constructor(info) {
    this.info = info;
  }

  async post(path, input) {
    let reply;
    try {
      const body = JSON.stringify(input);
      const headers = { "Content-Type": "application/json" };
      reply = await fetch(path, { method: "POST", headers, body });
    } catch {
      throw new Error("The server does not answer; start python -m gpt2 demo again.");
    }
    if (!reply.ok) throw new Error(await reply.text());
    return reply.json();
  }

  async analyze(input) {
    const result = await this.post("analyze", input);
    const T = result.pieces.length;
    result.attention = result.attention.map((maps) => maps.map((map) => lowerTriangle(map, T)));
    return result;
  }

  brief(input) {
    return this.post("brief", input);
  }

  next(input) {
    return this.post("next", input);
  }
}

// Throw a sentence for a text that is empty or too long.
function checkText(name, text, info) {
  if (countWords(text) === 0) {
    throw new Error(`The ${name} is empty: type a text or choose an example.`);
  }
  if (text.length > info.maxCharacters) {
    const most = info.maxCharacters.toLocaleString("en");
    throw new Error(
      `The ${name} has ${text.length.toLocaleString("en")} characters, but at most ${most} are ` +
        "read here: shorten it.",
    );
  }
}

function checkLength(tokens, info) {
  if (tokens > info.maxTokens) {
    throw new Error(
      `The text has ${tokens} tokens, but at most ${info.maxTokens} are read here (the model has ` +
        `${info.config.max_position_embeddings} positions): shorten it.`,
    );
  }
}

function logSumExp(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
}

// Return the places of the `count` largest numbers, in descending order.
function largest(numbers, count) {
  const places = [];
  for (let i = 0; i < numbers.length; i++) {
    if (places.length === count && numbers[i] <= numbers[places.at(-1)]) continue;
    let place = places.length;
    while (place > 0 && numbers[places[place - 1]] < numbers[i]) place--;
    places.splice(place, 0, i);
    places.length = Math.min(places.length, count);
  }
  return places;
}

// Return a (T, T) matrix from base64 of the numbers on and below its diagonal, 255 for 1.
function lowerTriangle(base64, T) {
  const numbers = atob(base64);
  const matrix = new Float32Array(T * T);
  let next = 0;
  for (let t = 0; t < T; t++) {
    for (let s = 0; s <= t; s++) matrix[t * T + s] = numbers.charCodeAt(next++) / 255;
  }
  return matrix;
}
