"""Which classes play the roles of a run. Run, Roles and TrainerSeat make their actors of these; benchmarks put in their own."""

from dataclasses import dataclass

from xpo_ray.actors.clerk import ClerkActor
from xpo_ray.actors.judge import JudgeActor
from xpo_ray.actors.policy import PolicyActor
from xpo_ray.actors.trainer import TrainerActor
from xpo_ray.actors.trainer_rank import TrainerRank


@dataclass(frozen=True)
class Cast:
    """A class for each role; another class has the same verbs and takes the same arguments."""

    model: type = PolicyActor
    """Of the policy, the base and the reference."""
    judge: type = JudgeActor
    trainer: type = TrainerActor
    """Of the trainer that is alone."""
    trainer_rank: type = TrainerRank
    """Of each rank of a trainer group."""
    clerk: type = ClerkActor


CAST = Cast()
