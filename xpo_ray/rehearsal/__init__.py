"""The rehearsal: before a run begins, its model's config is cut down to a small random model, which goes through what a
run does with a model. What cannot work is refused in seconds, before anything is written.

    launch     the only room that others call: a kept verdict, or the rehearsal in a process of its own; no torch
    request    what it is asked and what it answers, as JSON
    cutting    the real config → small ones, of which the first that the model's class accepts is taken
    names      the real folder's tensors beside those that the model's class wants
    trial      load, draw, log-probs, one step, save, load again: with the code of runs
    __main__   the process

docs/rehearsal.md says what a cut cannot see.
"""
