"""PairRM (Jiang, Ren and Lin 2023, LLM-Blender): a DeBERTa that reads a prompt with two responses and prefers one.

`conversation` makes the texts, `encoding` the token ids, `checkpoint` loads either published form (which `backbone` tells
apart) into `model`, `disentangled` is its fast forward pass, `ranking` turns the logits of all ordered pairs into scores, and
`judge` is the Judge.
"""
