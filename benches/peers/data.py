"""The peers of benches/data.rs: PyTorch's webdataset with PIL, and pyarrow. Prints seconds, of the best round.

python data.py decode WORKERS SHARD...    reads and decodes every picture to RGB
python data.py rows FILE                  every row of a parquet file as a Python object
python data.py columns FILE               every column of it as an Arrow array
"""
import sys, time


def best(rounds, work):
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def decode(workers, shards):
    import torch
    import webdataset as wds

    torch.set_num_threads(1)
    def read():
        data = wds.WebDataset(shards, shardshuffle=False).decode("pilrgb").map(lambda sample: 1)
        loader = torch.utils.data.DataLoader(data, num_workers=workers, batch_size=64)
        return sum(int(batch.sum()) for batch in loader)

    return best(3, read), read()


def rows(path):
    import pyarrow.parquet as pq

    def read():
        return sum(len(batch.to_pylist()) for batch in pq.ParquetFile(path).iter_batches(1024, use_threads=False))

    return best(2, read), read()


def columns(path):
    import pyarrow.parquet as pq

    def read():
        return sum(batch.num_rows for batch in pq.ParquetFile(path).iter_batches(1024, use_threads=False))

    return best(3, read), read()


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    result = {"decode": lambda: decode(int(rest[0]), rest[1:]), "rows": lambda: rows(rest[0]), "columns": lambda: columns(rest[0])}
    print(*result[what]())
