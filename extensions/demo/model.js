// GPT-2's forward pass on Float32Arrays; matrices are stored row by row. The weights have the names
// and shapes of the Python model, whose formulas these are: gpt2/attention.py, layer.py, model.py.

class GPT2 {
  // config: as in config.json; weights: name -> Float32Array.
  constructor(config, weights) {
    this.config = config;
    this.weights = weights;
    this.width = config.hidden_size;
    this.heads = config.num_attention_heads;
    this.headWidth = this.width / this.heads;
  }

  // Return an empty cache: the keys and values of the positions that were read.
  newCache() {
    const size = this.config.max_position_embeddings * this.width;
    const layers = Array.from({ length: this.config.num_hidden_layers }, () => ({
      keys: new Float32Array(size),
      values: new Float32Array(size),
    }));
    return { length: 0, layers };
  }

  // Read tokens after those in the cache, and return the last one's state after the final layer
  // norm. The context of the heads in `ablated` (a Set of "layer.head", from 0) is 0. What `seen`
  // has is filled: `attention[layer][head]`, a (T, T) matrix of what was read from the start, and
  // `states`, the last token's after the embedding and after each layer.
  read(ids, cache, ablated = new Set(), seen = null) {
    const { width, weights } = this;
    const start = cache.length;
    let x = new Float32Array(ids.length * width);
    ids.forEach((id, t) => {
      for (let i = 0; i < width; i++) {
        x[t * width + i] =
          weights["word_embedding.weight"][id * width + i] +
          weights["pos_embedding.weight"][(start + t) * width + i];
      }
    });
    seen?.states.push(x.slice(-width));
    for (let layer = 0; layer < this.config.num_hidden_layers; layer++) {
      const name = `gpt_layers.${layer}.`;
      const normed = this.norm(x, name + "attention_layer_norm");
      const context = this.attend(normed, layer, cache, ablated, seen);
      x = add(x, this.linear(context, name + "attention_dense"));
      const widened = this.linear(this.norm(x, name + "out_layer_norm"), name + "interm_dense");
      x = add(x, this.linear(gelu(widened), name + "out_dense"));
      seen?.states.push(x.slice(-width));
    }
    cache.length += ids.length;
    return this.norm(x.slice(-width), "final_layer_norm");
  }

  // Return the weighted values of each position, (T, width), heads side by side.
  attend(x, layer, cache, ablated, seen) {
    const { width, heads, headWidth } = this;
    const name = `gpt_layers.${layer}.self_attention.`;
    const { keys, values } = cache.layers[layer];
    const start = cache.length;
    const T = x.length / width;
    const queries = this.linear(x, name + "query");
    keys.set(this.linear(x, name + "key"), start * width);
    values.set(this.linear(x, name + "value"), start * width);
    const context = new Float32Array(x.length);
    const maps = [];
    for (let head = 0; head < heads; head++) {
      const offset = head * headWidth;
      const map = seen ? new Float32Array(T * T) : null;
      maps.push(map);
      const silent = ablated.has(`${layer}.${head}`);
      if (silent && !map) continue;
      for (let t = 0; t < T; t++) {
        const positions = start + t + 1; // those that this one sees
        const scores = new Float32Array(positions);
        for (let s = 0; s < positions; s++) {
          let sum = 0;
          for (let i = offset; i < offset + headWidth; i++) {
            sum += queries[t * width + i] * keys[s * width + i];
          }
          scores[s] = sum / Math.sqrt(headWidth);
        }
        softmax(scores);
        map?.set(scores, t * T);
        if (silent) continue;
        for (let s = 0; s < positions; s++) {
          for (let i = offset; i < offset + headWidth; i++) {
            context[t * width + i] += scores[s] * values[s * width + i];
          }
        }
      }
    }
    seen?.attention.push(maps);
    return context;
  }

  // Return the logits of the token after a state: its product with every token's embedding.
  logits(state) {
    return product(state, this.weights["word_embedding.weight"], null, this.width);
  }

  linear(x, name) {
    const weight = this.weights[name + ".weight"];
    const bias = this.weights[name + ".bias"];
    return product(x, weight, bias, weight.length / bias.length);
  }

  norm(x, name) {
    const { width } = this;
    const weight = this.weights[name + ".weight"];
    const bias = this.weights[name + ".bias"];
    const y = new Float32Array(x.length);
    for (let start = 0; start < x.length; start += width) {
      let mean = 0;
      for (let i = 0; i < width; i++) mean += x[start + i] / width;
      let variance = 0;
      for (let i = 0; i < width; i++) variance += (x[start + i] - mean) ** 2 / width;
      const scale = 1 / Math.sqrt(variance + this.config.layer_norm_eps);
      for (let i = 0; i < width; i++) {
        y[start + i] = (x[start + i] - mean) * scale * weight[i] + bias[i];
      }
    }
    return y;
  }
}

// Return x·Wᵀ + bias: x (rows, inputs), W (outputs, inputs). Four rows at a time, so that each
// weight is loaded once for all of them.
function product(x, weight, bias, inputs) {
  const rows = x.length / inputs;
  const outputs = weight.length / inputs;
  const y = new Float32Array(rows * outputs);
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    const a = row * inputs;
    const b = a + inputs;
    const c = b + inputs;
    const d = c + inputs;
    for (let o = 0; o < outputs; o++) {
      const w = o * inputs;
      let [sa, sb, sc, sd] = [0, 0, 0, 0];
      for (let i = 0; i < inputs; i++) {
        const v = weight[w + i];
        sa += v * x[a + i];
        sb += v * x[b + i];
        sc += v * x[c + i];
        sd += v * x[d + i];
      }
      const shift = bias ? bias[o] : 0;
      const place = row * outputs + o;
      y[place] = sa + shift;
      y[place + outputs] = sb + shift;
      y[place + 2 * outputs] = sc + shift;
      y[place + 3 * outputs] = sd + shift;
    }
  }
  for (; row < rows; row++) {
    const a = row * inputs;
    for (let o = 0; o < outputs; o++) {
      const w = o * inputs;
      let sum = bias ? bias[o] : 0;
      for (let i = 0; i < inputs; i++) sum += weight[w + i] * x[a + i];
      y[row * outputs + o] = sum;
    }
  }
  return y;
}

function add(x, y) {
  return x.map((value, i) => value + y[i]);
}

// The tanh form, with which GPT-2 was trained.
function gelu(x) {
  const scale = Math.sqrt(2 / Math.PI);
  return x.map((v) => 0.5 * v * (1 + Math.tanh(scale * (v + 0.044715 * v ** 3))));
}

function softmax(scores) {
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum += scores[i] = Math.exp(scores[i] - most);
  for (let i = 0; i < scores.length; i++) scores[i] /= sum;
  return scores;
}
