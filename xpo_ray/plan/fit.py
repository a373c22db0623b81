"""Whether a planned run fits: what certainly lies in memory and is more than there is refuses it, before anything is started;
what is only possible is a note. Pure; the plan, `xpo-ray run` and the service ask it.
"""

from collections.abc import Mapping

from xpo_ray.plan.layouts import GpuLoad, LayoutPlan
from xpo_ray.plan.machine import SHM_SHARE, Machine
from xpo_ray.plan.objects import ObjectStore
from xpo_ray.plan.roles import RoleMemory
from xpo_ray.spec.run import RunSpec

STORE_OVERHEAD = 0.1
"""What Ray's store needs beside its objects, between which it leaves gaps."""


def gigabytes(count: int) -> str:
    """1.2 GB; MB or kB below one."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def refusals(spec: RunSpec, layouts: tuple[LayoutPlan, ...], objects: ObjectStore, machine: Machine) -> list[str]:
    """Why the run cannot fit, one sentence for each reason; `layouts[0]` is the chosen one."""
    chosen = layouts[0]
    found = [_machine_refusal(spec, chosen, machine)]
    found.append(_gpu_refusal(spec, chosen, layouts[1], machine))
    found.append(_store_refusal(objects, machine) if machine.is_the_runs else None)
    return [reason for reason in found if reason is not None]


def notes(spec: RunSpec, layouts: tuple[LayoutPlan, ...], objects: ObjectStore, machine: Machine) -> list[str]:
    """What may not fit, where it is not refused."""
    chosen = layouts[0]
    found = [_machine_note(spec, chosen, objects, machine)]
    found += [_gpu_note(spec, chosen, machine), _store_note(objects, machine) if machine.is_the_runs else None]
    found += [
        f"layout {layout.layout} is not possible: {layout.fault}" for layout in layouts if layout.fault is not None
    ]
    return [note for note in found if note is not None]


def least_bytes(layout: LayoutPlan) -> int:
    """What certainly lies in the memory of the machines of a run, all together. Where roles take turns on GPUs, either the
    trainer or the engines are asleep there."""
    asleep = {role.role: role.processes * role.least.get("asleep", 0) for role in layout.roles}
    trainer = asleep.pop("trainer", 0)
    return sum(role.least_bytes for role in layout.roles) - min(trainer, sum(asleep.values()))


def most_bytes(layout: LayoutPlan, objects: ObjectStore) -> int:
    """The bound from above."""
    return sum(role.bytes for role in layout.roles) + objects.bytes


def store_size(layout: LayoutPlan, objects: ObjectStore, machine: Machine) -> int | None:
    """Bytes for an object store that holds all that goes through it, as far as there is room beside what is certain; None where
    that is not more than Ray takes by default."""
    wanted = int(objects.bytes * (1 + STORE_OVERHEAD))
    room = machine.free_memory - sum(role.least_bytes for role in layout.roles)
    size = min(wanted, room, int(machine.shared_memory * SHM_SHARE))
    return size if size > machine.object_store else None


def _machine_refusal(spec: RunSpec, chosen: LayoutPlan, machine: Machine) -> str | None:
    certain, there = least_bytes(chosen), machine.memory_of_run
    if there is None or certain <= there:
        return None
    fullest = max(chosen.roles, key=lambda role: role.least_bytes)
    parts = f"{_processes(fullest)}{_parts(fullest.least)}{_others(chosen.roles, fullest)}"
    return (
        f"memory: the run certainly needs {gigabytes(certain)}, {_whose(machine)} has {gigabytes(there)}. Most of it is the "
        f"{fullest.role}: {parts}. {_remedy(spec, fullest, fullest.processes)}"
    )


def _gpu_refusal(spec: RunSpec, chosen: LayoutPlan, other: LayoutPlan, machine: Machine) -> str | None:
    load = chosen.fullest
    if load is None or machine.gpu_memory is None or load.least <= machine.gpu_memory:
        return None
    role = _largest_on(chosen, load)
    assert role.on_gpu is not None
    remedy = _remedy(spec, role, load.roles.count(role.role))
    text = (
        f"GPU memory: a GPU with {written(load)} certainly needs {gigabytes(load.least)}, it has "
        f"{gigabytes(machine.gpu_memory)}. Most of it is the {role.role}: {_parts(role.on_gpu.least)}. {remedy}"
    )
    turns = other.fullest if other.layout == "colocated" else None
    if turns is None or turns.least > machine.gpu_memory:
        return text
    return f"{text}, or set resources.layout: colocated, which certainly needs {gigabytes(turns.least)}"


def _store_refusal(objects: ObjectStore, machine: Machine) -> str | None:
    """An object that is larger than the store goes to the disk; one that is larger than that goes nowhere."""
    if objects.weights_object <= max(machine.object_store, machine.disk):
        return None
    return (
        f"object store: one version of the weights has {gigabytes(objects.weights_object)}, the store "
        f"{gigabytes(machine.object_store)}, and the disk behind it {gigabytes(machine.disk)} free: they can never be handed "
        "over. Set data.partitions, so that weights go by folder; train an adapter (model.lora); or make room"
    )


def _machine_note(spec: RunSpec, chosen: LayoutPlan, objects: ObjectStore, machine: Machine) -> str | None:
    total, certain, there = most_bytes(chosen, objects), least_bytes(chosen), machine.memory_of_run
    if there is None or total <= there or certain > there:
        return None
    fullest = max(chosen.roles, key=lambda role: role.bytes)
    return (
        f"memory: {gigabytes(certain)} for certain and up to {gigabytes(total)}, {_whose(machine)} has {gigabytes(there)}; "
        f"the most may be taken by the {fullest.role}. {_loosened(spec, fullest)}"
    )


def _gpu_note(spec: RunSpec, chosen: LayoutPlan, machine: Machine) -> str | None:
    fullest = chosen.fullest_at_most
    if fullest is None or machine.gpu_memory is None or fullest.most <= machine.gpu_memory:
        return None
    if fullest.least > machine.gpu_memory:
        return None
    role = _largest_on(chosen, fullest, certain=False)
    return (
        f"GPU memory: a GPU with {written(fullest)} needs {gigabytes(fullest.least)} for certain and up to "
        f"{gigabytes(fullest.most)}, it has {gigabytes(machine.gpu_memory)}; the most may be taken by the {role.role}. "
        f"{_loosened(spec, role)}"
    )


def _store_note(objects: ObjectStore, machine: Machine) -> str | None:
    if objects.bytes <= machine.object_store:
        if machine.store_on_disk and objects.bytes:
            return (
                f"object store: /dev/shm has {gigabytes(machine.shared_memory)} free, less than Ray's store, which then lies "
                "on the disk and is slow; give /dev/shm more (docker run --shm-size)"
            )
        return None
    return (
        f"object store: up to {gigabytes(objects.bytes)} at once, Ray takes {gigabytes(machine.object_store)} by default, with "
        f"{gigabytes(machine.shared_memory)} free in /dev/shm; what is above goes to the disk and is read from there, slower. "
        "A local Ray is started with more where there is room; else lower resources.max_shards_in_flight or data.shard_size"
    )


def _remedy(spec: RunSpec, role: RoleMemory, at_once: int) -> str:
    """What makes the certain parts of a role smaller, of which so many processes are in the same memory."""
    if role.role == "trainer":
        ways = ["train an adapter (model.lora)"] if spec.model.lora is None else []
        more = "on more GPUs" if role.on_gpu is not None else "over the machines of a cluster (resources.ray_address)"
        return f"To need less, {_either([*ways, f'raise resources.trainer_workers {more}'])}"
    if role.role in ("judge", "evaluation-judge"):
        ways = ["lower resources.judge_replicas"] if at_once > 1 else []
        return f"To need less, {_either([*ways, 'take a smaller judge'])}"
    return f"To need less, {_either(_engine_ways(spec, role, at_once))}"


def _engine_ways(spec: RunSpec, role: RoleMemory, at_once: int) -> list[str]:
    served = spec.sampling.engine == "vllm"
    ways = ["lower resources.engine_kv_cache_gib"] if served else []
    if at_once > 1:
        ways.append("lower resources.engine_replicas")
    if served and role.on_gpu is not None and spec.resources.layout == "dedicated":
        ways.append("raise resources.engine_tensor_parallel")
    if served and spec.model.dtype == "float32":
        ways.append("set model.dtype: bfloat16")
    if spec.model.lora is None:
        ways.append("train an adapter (model.lora), which leaves one set of engines")
    return ways or ["take a smaller model"]


def _loosened(spec: RunSpec, role: RoleMemory) -> str:
    """What makes the bounds of a role smaller."""
    if role.role == "trainer":
        ways = [] if spec.training.activation_checkpointing else ["set training.activation_checkpointing: true"]
        return f"To be sure, {_either([*ways, 'lower training.micro_batch_tokens or data.max_response_tokens'])}"
    if role.role in ("judge", "evaluation-judge"):
        return f"To be sure, {_either(['lower resources.judge_replicas', 'lower batch_tokens of the judge'])}"
    ways = ["lower resources.engine_replicas"] if role.processes > 1 and role.on_gpu is None else []
    cache = "resources.engine_kv_cache_gib" if spec.sampling.engine == "vllm" else "data.shard_size"
    return f"To be sure, {_either([*ways, f'lower {cache} or training.micro_batch_tokens'])}"


def _whose(machine: Machine) -> str:
    return "this machine" if machine.is_the_runs else "the cluster"


def _either(ways: list[str]) -> str:
    return ", or ".join(ways)


def _largest_on(layout: LayoutPlan, load: GpuLoad, *, certain: bool = True) -> RoleMemory:
    """The role with the most on a GPU, all of its processes there together."""

    def there(role: RoleMemory) -> int:
        if role.on_gpu is None:
            return 0
        working = role.role in load.working
        least = role.on_gpu.least_bytes if working else role.on_gpu.resting_least
        most = role.on_gpu.most_bytes if working else role.on_gpu.resting
        return load.roles.count(role.role) * (least if certain else most)

    return max(layout.roles, key=there)


def written(load: GpuLoad) -> str:
    """Who is on a GPU: trainer, 2 × policy."""
    return ", ".join(
        f"{n} × {name}" if (n := load.roles.count(name)) > 1 else name for name in dict.fromkeys(load.roles)
    )


def _processes(role: RoleMemory) -> str:
    return "" if role.processes == 1 else f"{role.processes} processes with "


def _parts(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {gigabytes(count)}" for name, count in parts.items())


def _others(roles: tuple[RoleMemory, ...], but: RoleMemory) -> str:
    told = [f"{role.role} {gigabytes(role.least_bytes)}" for role in roles if role is not but]
    return f"; beside it {', '.join(told)}" if told else ""
