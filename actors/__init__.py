"""Ray layer: actors, pools, the scheduler and the driver. Imports xpo_ray, is imported by xpo_ray.api, never the other way round."""

if __name__ != "xpo_ray.actors":
    raise ImportError("import xpo_ray.actors, not actors")
