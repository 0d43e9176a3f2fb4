"""A course notebook as one script, a `# %%` for each cell, on tiny settings.

    python course.py DATA WEIGHTS WORK

Where the course's notebook defines classes and functions, this one imports them. DATA holds
pretrain.txt, XNLI-1.0 and XNLI-MT-1.0; WEIGHTS is a folder with a GPT-2 that Hugging Face saved;
models are saved in WORK. The last line of the output is what was measured, as JSON.
"""

# %% Imports
import json
import os
import sys

import torch
import torch.nn.functional as F
import transformers
from torch.utils.data import ConcatDataset, DataLoader
from tqdm import tqdm

from config import GPT2Config
from gpt2 import (
    GPT2Model,
    TextDataset,
    XNLIDataset,
    compute_accuracy,
    compute_fertility,
    evaluate_gpt2_xnli,
    generate_gpt2,
    load_tokenizer,
)
from optim import AdamW
from utils import model_size_to_params

data_dir, weights_dir, work_dir = sys.argv[1:]
device = torch.device("cpu")
torch.manual_seed(11711)
measured = {}

# %% 3.1 Tokenizer; outside the project folder "gpt2" would be a download
if os.path.isdir("gpt2"):
    tokenizer = transformers.GPT2Tokenizer.from_pretrained("gpt2")
else:
    tokenizer = load_tokenizer("gpt2")
tokenizer.pad_token = tokenizer.eos_token
measured["ids"] = tokenizer("This is the beginning of default final project!")["input_ids"]

# %% 3.2 Sanity check against Hugging Face
reference = transformers.GPT2Model.from_pretrained(weights_dir).eval()
shape = reference.config
ours = GPT2Model.from_pretrained(
    weights_dir, d=shape.n_embd, l=shape.n_layer, num_heads=shape.n_head
).eval()
sent_ids = torch.tensor([[101, 7592, 2088, 102, 50256], [101, 7592, 15756, 2897, 2005]])
att_mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
with torch.no_grad():
    expected = reference(input_ids=sent_ids, attention_mask=att_mask).last_hidden_state
    states = ours(sent_ids, att_mask)["last_hidden_state"]
    assert torch.allclose((expected - states) * att_mask[..., None], torch.zeros(()), atol=1e-4)
assert model_size_to_params("gpt2") == {"d": 768, "l": 12, "num_heads": 12}

# %% 3.4 Toy pretraining
max_len, d = 32, 64
toy_config = GPT2Config(
    hidden_size=d,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=3 * d,
    max_position_embeddings=max_len,
)
toy_model = GPT2Model(toy_config).to(device)
texts = TextDataset(os.path.join(data_dir, "pretrain.txt"), tokenizer, max_len)
text_loader = DataLoader(texts, batch_size=4, shuffle=True)
optimizer = AdamW(toy_model.parameters(), lr=1e-3, weight_decay=1e-4, correct_bias=True)

toy_model.train()
losses = []
for epoch in range(2):
    for input_ids, attention_mask in tqdm(text_loader, desc=f"epoch {epoch}"):
        input_ids, attention_mask = input_ids.to(device), attention_mask.to(device)
        hidden_states = toy_model(input_ids, attention_mask)["last_hidden_state"]
        logits = toy_model.hidden_state_to_token(hidden_states)
        predicted = logits[:, :-1].reshape(-1, logits.size(-1))
        loss = F.cross_entropy(predicted, input_ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
measured["pretraining"] = [losses[0], losses[-1]]

# %% 4.1 Text from both models
model = GPT2Model.from_pretrained(weights_dir)
prompt = tokenizer("The morning train", return_tensors="pt")["input_ids"]
measured["texts"] = [
    generate_gpt2(toy_model, tokenizer, prompt, max_gen_length=8, device=device),
    generate_gpt2(model, tokenizer, prompt.to(device), 8, device),
]


# %% 4.2 Data
def nli(split, lang="en", subset=1.0):
    train_file = os.path.join("XNLI-MT-1.0", "multinli", "multinli.train.{lang}.tsv")
    return XNLIDataset(
        split=split,
        lang=lang,
        train_path_template=os.path.join(data_dir, train_file),
        test_path=os.path.join(data_dir, "XNLI-1.0", "xnli.test.tsv"),
        dev_path=os.path.join(data_dir, "XNLI-1.0", "xnli.dev.tsv"),
        tokenizer=tokenizer,
        max_length=128,
        subset=subset,
    )


def loader(dataset, shuffle=False):
    return DataLoader(dataset, batch_size=4, shuffle=shuffle, collate_fn=XNLIDataset.collate_fn)


train_dataset, dev_dataset, test_dataset = (nli(split) for split in ("train", "dev", "test"))
example = train_dataset[0]
assert tokenizer.decode(example["input_ids"]).endswith(f"\nLabel:{example['label_str']}")
assert (example["labels"] != -100).nonzero().flatten().tolist() == [len(example["labels"]) - 1]
assert train_dataset.ID2LABEL[int(example["label_str"])] == train_dataset.data["label"][0]


# %% 4.3 Fine-tuning
def finetune(dataset, save_path, epochs=1):
    model = GPT2Model.from_pretrained(weights_dir).to(device)
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    best, losses = -1.0, []
    for _ in range(epochs):
        model.train()
        for batch in loader(dataset, shuffle=True):
            hidden_states = model(batch["input_ids"], batch["attention_mask"])["last_hidden_state"]
            logits = model.hidden_state_to_token(hidden_states)
            predicted = logits[:, :-1].reshape(-1, logits.size(-1))
            labels = batch["labels"][:, 1:].reshape(-1)
            loss = F.cross_entropy(predicted, labels, ignore_index=-100)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        accuracy, *_ = evaluate_gpt2_xnli(model, tokenizer, loader(dev_dataset), device=device)
        if accuracy > best:
            best = accuracy
            os.makedirs(os.path.dirname(save_path), exist_ok=True)
            torch.save(model.state_dict(), save_path)
    return model, best, losses


best_path = os.path.join(work_dir, "best_model", "model.pt")
model, best, losses = finetune(train_dataset, best_path, epochs=2)
measured["fine-tuning"] = [losses[0], losses[-1]]

# %% The saved model on the test set
model = GPT2Model.from_pretrained(weights_dir)
model.load_state_dict(torch.load(best_path, map_location=device))
model = model.to(device).eval()
again, preds, labels = evaluate_gpt2_xnli(model, tokenizer, loader(dev_dataset), 1, device)
assert again == best == compute_accuracy(preds, labels)
accuracy, preds, labels = evaluate_gpt2_xnli(model, tokenizer, loader(test_dataset), 1, device)
assert labels == [item["label_str"] for item in test_dataset]
prompt = test_dataset[0]["input_ids"][None]
text = generate_gpt2(model, tokenizer, prompt, max_gen_length=1)
assert text[len(tokenizer.decode(prompt[0])) :].strip().lower() == preds[0]
measured["test"] = accuracy

# %% 5.1 Zero-shot transfer and 5.2 fertility
measured["zero-shot"], measured["fertility"] = {}, {}
for lang in ("en", "de", "zh"):
    dataset = nli("test", lang)
    accuracy, _, _ = evaluate_gpt2_xnli(model, tokenizer, loader(dataset), device=device)
    measured["zero-shot"][lang] = accuracy
    subset_for_check = nli("train", lang, subset=0.5)
    measured["fertility"][lang] = compute_fertility(subset_for_check, tokenizer, max_samples=4)

# %% 5.3 and 5.4 One more language, then both in one model
for languages in (("de",), ("en", "de")):
    together = ConcatDataset([nli("train", lang) for lang in languages])
    name = "-".join(languages)
    finetune(together, os.path.join(work_dir, f"best_model_{name}", "model.pt"))

print(json.dumps(measured))
