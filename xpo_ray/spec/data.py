"""Where the model and the prompts come from."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, PositiveFloat, model_validator

from xpo_ray.spec.base import Spec, later, operational

TEMPLATE_OWN = (
    "messages",
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "max_length",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "tokenize",
    "tokenizer_kwargs",
    "truncation",
)
"""Names that a template's renderer gives or takes itself."""


class LoraSpec(Spec):
    """A low-rank adapter: the trained model is W + scaling · B·A, the model of `path` stays as it is. No dropout: log-probs
    are taken without."""

    rank: int = Field(16, ge=1)
    alpha: PositiveFloat = 32.0
    """scaling = alpha / rank, or alpha / √rank with `rslora`."""
    target_modules: Literal["all_linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all_linear"
    """Names of the layers that get an adapter, for example [q_proj, v_proj]; `all_linear`: all but the head."""
    rslora: bool = False


class ModelSpec(Spec):
    """The initial policy: a Hugging Face folder of safetensors, or a hub repository."""

    path: str = operational(...)
    """Folder (relative to the spec file) or hub repository. Its content, not its path, belongs to the run's identity."""
    revision: str | None = None
    """Hub revision; a commit hash pins the model."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What engines hold and forward passes compute in; weights that are trained are always float32."""
    lora: LoraSpec | None = None
    """Train an adapter instead of all weights. The reference is what the algorithm says: the adapter of the iteration before
    where it is the previous iterate (selm), this model with the adapter off where it is the initial model (xpo, dpo)."""
    chat_template: str = "tokenizer"
    """`tokenizer`: the template that comes with the model, if any. `plain`: messages joined by blank lines, no template.
    Else the path of a Jinja file."""
    end_of_turn: str | None = Field(None, min_length=1)
    """Token that ends a response where the template's turns do not end with the tokenizer's EOS, such as <|eot_id|>. Responses
    of the dataset end with it; draws end there, at the tokenizer's EOS, or at those of generation_config.json. Default: what
    the template writes behind an answer."""
    template_arguments: dict[str, JsonValue] = later({})
    """What the template is given beside the messages, such as {enable_thinking: false}; for prompts of training, evaluation
    and the canary alike. The result's template has them as its defaults."""

    @model_validator(mode="after")
    def _arguments_are_for_a_template(self) -> Self:
        for name in self.template_arguments:
            if not name.isidentifier() or name in TEMPLATE_OWN:
                raise ValueError(
                    f"template_arguments.{name}: not a name for an argument of a template; give names that the template "
                    f"reads, such as enable_thinking (not {', '.join(TEMPLATE_OWN)})"
                )
        if self.template_arguments and self.chat_template == "plain":
            raise ValueError("template_arguments: chat_template plain has no template; leave one of them out")
        return self


class FilesSource(Spec):
    """Parquet, jsonl, json, csv or Arrow, texts also as .gz or .zst: a file, a folder, a glob, or a list of them."""

    kind: Literal["files"]
    path: str | tuple[str, ...] = operational(...)
    """Relative to the spec file. The rows, not the paths, belong to the run's identity."""
    limit: int | None = Field(None, ge=1)
    """Read only the first rows."""


class HubSource(Spec):
    """A dataset of the Hugging Face hub, read with `datasets.load_dataset`."""

    kind: Literal["hub"]
    name: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """Repository, for example HuggingFaceH4/ultrafeedback_binarized; of a list all are read, one after the other."""
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    limit: int | None = Field(None, ge=1)
    """Read only the first rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """The repositories, in order."""
        return (self.name,) if isinstance(self.name, str) else self.name

    @model_validator(mode="after")
    def _a_revision_is_of_one_repository(self) -> Self:
        if self.revision is not None and len(self.names) > 1:
            raise ValueError(
                f"revision {self.revision} is of one repository, name lists {len(self.names)}; leave revision out, or "
                "download what you want to pin and use kind: files"
            )
        return self


Source = Annotated[FilesSource | HubSource, Field(discriminator="kind")]


class ColumnsSpec(Spec):
    """Names of the columns, where they differ from the usual ones."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    prompt_id: str = "prompt_id"
    conversations: str = later("conversations")
    """The turns before the answers, where a row has no prompt: ShareGPT's pairs have them there."""
    system: str = later("system")
    """The first turn of the prompt, of the role system; where the prompt has such a turn, both must be equal."""


class DataSpec(Spec):
    """Prompts, and preference pairs where the algorithm reads them."""

    source: Source
    evaluation: Source | None = None
    """Held-out prompts (and pairs, if it has them); without it no evaluation is made."""
    columns: ColumnsSpec = ColumnsSpec()
    partitions: int | None = Field(None, ge=1)
    """Portions of the prompt set, one per iteration; sizes differ by at most one. Default: 3 for selm, iterative_dpo and
    sdpo, 1 for dpo and custom; for xpo and online_dpo as many as there are windows (fully online)."""
    portions: Literal["mixed", "consecutive"] = later("mixed")
    """`mixed`: the seed permutes all rows, which are then cut. `consecutive`: partition t is the t-th stretch of the rows as
    they are read, such as one repository for each iteration, and the seed permutes within it."""
    shard_size: int = Field(64, ge=1)
    """Prompts that flow through the actors as one object."""
    max_prompt_tokens: int = Field(512, ge=1)
    max_response_tokens: int = Field(1024, ge=1)
    """Responses of the dataset are cut there (and then have no EOS)."""
    overlong_prompts: Literal["drop", "truncate"] = "drop"
    """`truncate` keeps the end of the prompt."""
    invalid_rows: Literal["refuse", "drop"] = "refuse"
    """What to do about a row that cannot be read (an empty answer, prompts that differ) or that the chat
    template refuses (a system turn, say): `drop` leaves it out and counts."""
