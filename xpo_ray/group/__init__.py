"""A group of trainers: N processes, called ranks, that train one policy together by torch.distributed (DESIGN §4.13). No Ray.

    window ──shares──► micro-batches of each rank ──► sharded model ──► gradients, summed over ranks ──► one step on all

Each rank holds a share of every matrix, of its gradient and of the optimizer (FSDP2). All ranks are called alike, and as
often; the first one's answers count. Whoever starts the processes (actors, tests, a benchmark) calls `ranks` and `trainer`.
"""
