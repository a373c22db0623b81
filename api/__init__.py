"""HTTP layer: the control plane and its pages. The foreground `xpo-ray run` needs nothing from here."""

if __name__ != "xpo_ray.api":
    raise ImportError("import xpo_ray.api, not api")
