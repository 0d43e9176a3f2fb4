"""AdamW in float64 NumPy, written from the handout alone, to hold the torch one against.

`python tests/adamw_reference.py` writes optimizer_test.npy, which the handout's sanity check reads.
"""

from pathlib import Path

import numpy as np


class NumpyAdamW:
    """One parameter array; `step(gradient)` changes `theta` as handout section 3.3 says."""

    def __init__(
        self, theta, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, correct_bias=True
    ):
        self.theta = np.array(theta, dtype=np.float64)
        self.lr, (self.beta1, self.beta2), self.eps = lr, betas, eps
        self.weight_decay, self.correct_bias = weight_decay, correct_bias
        self.m, self.v, self.t = np.zeros_like(self.theta), np.zeros_like(self.theta), 0

    def step(self, gradient):
        g = np.asarray(gradient, dtype=np.float64)
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g**2
        m_hat, v_hat = self.m, self.v
        if self.correct_bias:
            m_hat = self.m / (1 - self.beta1**self.t)
            v_hat = self.v / (1 - self.beta2**self.t)
        self.theta = self.theta - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)
        self.theta = self.theta - self.lr * self.weight_decay * self.theta


def sanity_check_weights(initial, steps=1000):
    """The handout's linear regression: weight [2, 3] after `steps` steps, in float64.

    Each step draws x from default_rng(0).uniform(size=[3]); the targets are [x0 + x1, -x2] and
    the loss is the summed squared error of weight @ x.
    """
    rng = np.random.default_rng(0)
    optimizer = NumpyAdamW(initial, lr=1e-3, weight_decay=1e-4, correct_bias=True)
    for _ in range(steps):
        x = rng.uniform(size=[3])
        error = optimizer.theta @ x - np.array([x[0] + x[1], -x[2]])
        optimizer.step(2 * np.outer(error, x))
    return optimizer.theta


if __name__ == "__main__":
    import torch

    torch.manual_seed(0)
    start = torch.nn.Linear(3, 2, bias=False).weight.detach().numpy()
    target = Path(__file__).parents[2] / "optimizer_test.npy"
    np.save(target, sanity_check_weights(start).astype(np.float32))
    print(f"wrote {target}")
