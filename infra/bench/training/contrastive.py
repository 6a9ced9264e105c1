"""The same fine-tuning in PyTorch: what our trainer is held against, in loss and in speed.

Mean pooling, cosines times 20, in-batch softmax both ways, AdamW without decay on biases and layer
norms; no dropout, so that two programs can agree.
"""

import torch
from transformers import AutoModel

SCALE = 20.0


class Peer:
    def __init__(self, folder: str, fused: bool = True):
        # `sdpa` is what PyTorch does best on a CPU.
        self.model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
        kept = ("bias", "LayerNorm.weight")
        named = [(n, p) for n, p in self.model.named_parameters() if not n.startswith("pooler")]
        groups = [
            {"params": [p for n, p in named if not n.endswith(kept)], "weight_decay": 0.01},
            {"params": [p for n, p in named if n.endswith(kept)], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, fused=fused)

    def vectors(self, sequences: list[list[int]]) -> torch.Tensor:
        longest = max(map(len, sequences))
        ids = torch.zeros(len(sequences), longest, dtype=torch.long)
        mask = torch.zeros(len(sequences), longest, dtype=torch.long)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = 1
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).float()
        return (hidden * weights).sum(1) / weights.sum(1)

    def step(self, queries: int, sequences: list[list[int]], learning_rate: float) -> float:
        # As sentence-transformers does it: queries, positives and negatives are padded apart.
        parts = [sequences[:queries], sequences[queries : 2 * queries], sequences[2 * queries :]]
        vectors = torch.cat([self.vectors(part) for part in parts if part])
        vectors = torch.nn.functional.normalize(vectors, dim=1)
        scores = SCALE * vectors[:queries] @ vectors[queries:].T
        own = torch.arange(queries)
        forth = torch.nn.functional.cross_entropy(scores, own)
        back = torch.nn.functional.cross_entropy(scores[:, :queries].T, own)
        loss = (forth + back) / 2
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        return loss.item()
