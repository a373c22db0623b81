"""Judges behind HTTP endpoints: `http` (our JSON contract, TRL's, OpenRLHF's) and `llm` (chat completions).

    http, llm ──bodies──► caller (tries, pauses, breaker, limits) ──► endpoint
              ◄──outcomes──        what an answer means: contract, rewards, verdicts

`open_judge` opens them. No torch, no Ray.
"""
