"""Low-rank adapters (LoRA, by PEFT): a model that is W + scaling · B·A while its adapter is on, and W while it is off.

The trainer trains one, engines serve one; its tensors are what travels and what a checkpoint holds. The model that it is put
into keeps its class, so that drawing and log-probs do not know of the adapter. PEFT takes most of a second to import; runs
without an adapter never do.
"""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from xpo_ray.architectures import has_other_parts
from xpo_ray.checkpoints import copy_processor, load_model, save_model
from xpo_ray.errors import ModelError
from xpo_ray.memory_folder import memory_folder
from xpo_ray.saved_chat import copy_ends
from xpo_ray.seeds import seed_of
from xpo_ray.spec.data import LoraSpec, ModelSpec

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
NAME = "default"
UNADAPTED = dict.fromkeys(("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"), ("out_proj",))
"""Linear layers that PEFT does not take in models of these kinds, whose kernels read their weights themselves."""


class Adapter:
    """An adapter in its model; on, and at first without effect (B = 0)."""

    def __init__(
        self, origin: ModelSpec, lora: LoraSpec, seed: int = 0, model: "PreTrainedModel | None" = None
    ) -> None:
        """Into the model of `origin`, loaded, or given by who holds it otherwise."""
        model = model or load_model(origin.path, origin.dtype, origin.revision)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "adapter"))
            self._peft = _inject(model, origin, lora)
        self.model: PreTrainedModel = model.eval()

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model as it was before the adapter, to the bit."""
        with self._peft.disable_adapter():
            yield

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """A and B of every adapted layer, under the names that PEFT gives them on disk."""
        named = self._peft.named_parameters()
        return {n.replace(f".{NAME}.", "."): p for n, p in named if f".{NAME}." in n}

    def weights(self) -> dict[str, Tensor]:
        """Copies on the CPU, to travel by object ref."""
        return {n: p.detach().to("cpu", copy=True).contiguous() for n, p in self.parameters.items()}

    def put(self, weights: dict[str, Tensor]) -> None:
        """Copy weights in. Raises ValueError, before anything is copied, where names or shapes do not fit."""
        own = self.parameters
        if odd := sorted(set(weights) ^ set(own)):
            raise ValueError(f"an adapter of other layers than the model's: {odd[:3]}")
        if misshapen := sorted(n for n, tensor in weights.items() if tensor.shape != own[n].shape):
            raise ValueError(f"an adapter of another shape than the model's: {misshapen[:3]}")
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write a PEFT folder; `from_pretrained` loads it where peft is installed and the base is where it was. `weights`:
        its own, put together by who holds them in parts."""
        folder.mkdir(parents=True, exist_ok=True)
        config = copy(self._peft.peft_config[NAME])
        config.inference_mode, config.target_modules = True, sorted(config.target_modules)
        config.save_pretrained(folder)
        save_file(weights or self.weights(), folder / WEIGHTS, {"format": "pt"})


def read_adapter(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of a PEFT folder. Raises ModelError."""
    file = Path(folder) / WEIGHTS
    if not file.exists():
        raise ModelError(f"{file}: missing; a checkpoint of a run with model.lora holds an adapter")
    weights: dict[str, Tensor] = load_file(file)
    return weights


@contextmanager
def adapter_folder(weights: dict[str, Tensor], lora: LoraSpec) -> Iterator[Path]:
    """A PEFT folder of tensors that came without one, for engines that read adapters from folders; gone with the block."""
    rank = next(t.shape[0] for name, t in weights.items() if ".lora_A." in name)  # an average's is not the spec's
    scaling = lora.alpha / (math.sqrt(lora.rank) if lora.rslora else lora.rank)
    layers = sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in weights})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": scaling * rank, "target_modules": layers}
    with memory_folder(sum(t.nbytes for t in weights.values())) as folder:
        (folder / "adapter_config.json").write_text(json.dumps(config))
        save_file({name: t.contiguous() for name, t in weights.items()}, folder / WEIGHTS, {"format": "pt"})
        yield folder


def merged(folder: Path) -> "PreTrainedModel":
    """The model that an adapter's folder and its base stand for, in float32, as one that needs neither PEFT nor the base."""
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(folder))
    base = load_model(config.base_model_name_or_path, "float32", config.revision)
    with _patterns_unheeded():
        whole = PeftModel.from_pretrained(base, str(folder)).merge_and_unload(safe_merge=True)
    model: PreTrainedModel = whole.eval()
    return model


def save_merged(folder: Path, target: Path) -> None:
    """Write the merged model of an adapter's folder, with the tokenizer and the end tokens that lie there, and the base's image
    processor."""
    model = merged(folder)
    save_model(model, folder, target)
    if has_other_parts(model.config):
        origin = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        copy_processor(origin["base_model_name_or_path"], target, origin.get("revision"))
    copy_ends(folder, target)


def averaged(origin: ModelSpec, lora: LoraSpec, folders: Sequence[str | Path], decay: float) -> Adapter:
    """The exponential moving average of the base and the models of `folders`, oldest first: r ← decay·r + (1 − decay)·θ.

    Averages of A and of B would not be it. Every model is W + scaling · B·A, so the average is W and one adapter of rank
    Σ rank: the A below each other, the B beside each other, each B times its model's share.
    """
    n = len(folders)
    shares = [(1.0 - decay) * decay ** (n - 1 - k) for k in range(n)]
    rank = n * lora.rank
    alpha = lora.alpha * (math.sqrt(n) if lora.rslora else n)  # the same scaling at the larger rank
    adapter = Adapter(origin, lora.model_copy(update={"rank": rank, "alpha": alpha}))
    read = [read_adapter(folder) for folder in folders]
    adapter.put({name: _joined(name, [w[name] for w in read], shares) for name in read[0]})
    return adapter


def _joined(name: str, tensors: list[Tensor], shares: list[float]) -> Tensor:
    if ".lora_A." in name:
        return torch.cat(tensors, dim=0)
    return torch.cat([share * t for share, t in zip(shares, tensors, strict=True)], dim=1)


def _inject(model: "PreTrainedModel", origin: ModelSpec, lora: LoraSpec) -> "PeftModel":
    from peft import get_peft_model

    try:
        with _patterns_unheeded():
            made = get_peft_model(model, _config(model, origin, lora))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"model.lora.target_modules: {lora.target_modules} cannot be adapted in {type(model).__name__}: {error}; "
            "use all_linear or names of its linear layers"
        ) from error
    if any(hasattr(m, "base_layer") for m in (model.get_input_embeddings(), model.get_output_embeddings())):
        raise ModelError(
            f"model.lora.target_modules: {lora.target_modules} has the embeddings or the head in it, which are not adapted; "
            "leave them out"
        )
    return made


@contextmanager
def _patterns_unheeded() -> Iterator[None]:
    """PEFT sets patterns for fused experts, and warns that no layer has them where it does not take these."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys did not match", RuntimeWarning)
        yield


def _other_parts(model: "PreTrainedModel") -> list[str]:
    """Names of linear layers that are not trained: those of vision and audio."""
    return [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not m.weight.requires_grad]


def _unadapted(model: "PreTrainedModel") -> list[str]:
    """Linear layers that `all_linear` leaves out: routers, which are a kind of them and give more than a product, and those
    that PEFT refuses."""
    routers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and "Router" in type(m).__name__]
    return [*routers, *UNADAPTED.get(model.config.model_type, ())]


def _config(model: "PreTrainedModel", origin: ModelSpec, lora: LoraSpec) -> "LoraConfig":
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    every = lora.target_modules == "all_linear"
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        use_rslora=lora.rslora,
        target_modules="all-linear" if every else list(lora.target_modules),
        exclude_modules=[*_other_parts(model), *(_unadapted(model) if every else ())] or None,
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.modules()),
        task_type="CAUSAL_LM",
        base_model_name_or_path=origin.path,
        revision=origin.revision,
    )
