"""The spec of a run: frozen pydantic models that import neither torch nor transformers."""

from xpo_ray.spec.algorithm import AlgorithmSpec, ObjectiveSpec
from xpo_ray.spec.data import ColumnsSpec, DataSpec, FilesSource, HubSource, ModelSpec, Source
from xpo_ray.spec.judge import ActorJudge, EnsembleJudge, JudgeSpec, PairRMJudge, PythonJudge, RewardModelJudge
from xpo_ray.spec.loading import load_spec, parse_spec
from xpo_ray.spec.remote_judge import HttpJudge, LlmJudge
from xpo_ray.spec.run import RunSpec, at_iteration
from xpo_ray.spec.training import EvaluationSpec, OutputSpec, ResourcesSpec, SamplingSpec, TrainingSpec

__all__ = [
    "ActorJudge",
    "AlgorithmSpec",
    "ColumnsSpec",
    "DataSpec",
    "EnsembleJudge",
    "EvaluationSpec",
    "FilesSource",
    "HttpJudge",
    "HubSource",
    "JudgeSpec",
    "LlmJudge",
    "ModelSpec",
    "ObjectiveSpec",
    "OutputSpec",
    "PairRMJudge",
    "PythonJudge",
    "ResourcesSpec",
    "RewardModelJudge",
    "RunSpec",
    "SamplingSpec",
    "Source",
    "TrainingSpec",
    "at_iteration",
    "load_spec",
    "parse_spec",
]
