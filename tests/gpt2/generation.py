"""What the tests of generation share: prompts, and transformers' continuation of them."""

from tests.hugging_face import batch_of

EOS = 7


def prompts(side="left", lengths=(9, 3, 6)):
    return batch_of(list(lengths), max(lengths), 23, side)


def theirs(reference, ids, mask, new=20, **settings):
    out = reference.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=new,
        eos_token_id=EOS,
        pad_token_id=EOS,
        do_sample=False,
        **settings,
    )
    return out[:, ids.size(1) :].tolist()
