"""Ray layer: actors, pools, the scheduler and the driver. Imports xpo_ray, never xpo_ray.api."""

if __name__ != "xpo_ray.actors":
    raise ImportError("import xpo_ray.actors, not actors")
