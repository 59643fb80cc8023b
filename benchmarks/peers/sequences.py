"""Plain loops over sequences (`--work`): batches at random, padded or packed, or bucketed by a sampler."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler

from benchmarks.peers import options, sentences
from benchmarks.peers.record import Record

Sample = tuple[Tensor, Tensor]


class Sentences(Dataset[Sample]):
    def __init__(self) -> None:
        self.words, self.classes = sentences.sentences()

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> Sample:
        return self.words[index], self.classes[index]


class Buckets(Sampler[list[int]]):
    """The usual recipe: shuffle, sort within 50 batches by length, cut, shuffle the batches."""

    def __init__(self, words: list[Tensor], batch_size: int) -> None:
        self.lengths = [len(sentence) for sentence in words]
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(len(self.lengths)).tolist()
        size = 50 * self.batch_size
        pools = [sorted(order[at : at + size], key=self.lengths.__getitem__) for at in range(0, len(order), size)]
        cut = [pool[at : at + self.batch_size] for pool in pools for at in range(0, len(pool), self.batch_size)]
        yield from (cut[k] for k in torch.randperm(len(cut)).tolist())


def together(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor]:
    words, classes = zip(*samples, strict=True)
    return pad_sequence(words, batch_first=True), torch.tensor([len(row) for row in words]), torch.stack(classes)


def main() -> None:
    arguments = options.parse(__doc__)
    data = Sentences()
    torch.manual_seed(0)
    model = sentences.Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    size = sentences.BATCH_SIZE
    bucketed, packed = arguments.work == "bucketed", arguments.work == "packed"
    sampler = Buckets(data.words, size) if bucketed else BatchSampler(RandomSampler(data), size, drop_last=True)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=together)
    record = Record()
    step = 0
    while step < arguments.steps:
        for words, lengths, classes in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(words, lengths, packed), classes).backward()
            optimizer.step()
            step += 1
            record.words(int(lengths.sum()), int(lengths.sum()) if packed else words.numel())
            record.step(step, 1)
            if step == arguments.steps:
                break


if __name__ == "__main__":
    main()
