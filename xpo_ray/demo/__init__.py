"""The demo's world: a preference dataset of readable English, a small base model, and a judge. Nothing is downloaded.

`xpo-ray demo` writes the world, trains the base, and runs three algorithms from it. Nothing here starts a run or draws.
"""
