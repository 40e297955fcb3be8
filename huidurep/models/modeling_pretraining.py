"""HuiduRepForPreTraining: the encoder with momentum branch, heads and losses. Only in the package, not published."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForPreTraining
from transformers.utils import ModelOutput, logging

from .configuration_huidurep import HuiduRepConfig
from .losses import prototype_loss, reconstruction_loss, symmetric_contrastive_loss
from .modeling_huidurep import HuiduRep, HuiduRepPreTrainedModel
from .modeling_layers import HuiduRepEmbeddings, HuiduRepStack, encode, valid_tokens

logger = logging.get_logger(__name__)
ONE_UNIT = (
    "a batch of one unit has no other unit to be compared with: its losses of comparison are 0 and teach nothing; use "
    "larger batches and leave out the last one of an epoch (dataloader_drop_last=True)"
)
# In the order in which they are logged.
LOSSES = ("prototype_loss", "contrastive_loss", "reconstruction_loss")
QUERIES, KEYS = ("query_1", "query_2"), ("key_1", "key_2")


@dataclass
class HuiduRepForPreTrainingOutput(ModelOutput):
    """Output of :class:`huidurep.HuiduRepForPreTraining`.

    Parameters
    ----------
    loss : torch.FloatTensor, scalar
        Sum of the losses below, each times its weight in the configuration.
    prototype_loss, contrastive_loss : torch.FloatTensor, scalar, optional
        None where the weight is 0.
    reconstruction_loss : torch.FloatTensor, scalar
        0 without clean views.
    query_1, query_2, key_1, key_2 : torch.FloatTensor (num_units, projection_size), optional
        L2-normalised predictions of the trained branch and projections of the momentum branch, for the first two views;
        None without contrastive loss.
    reconstruction : torch.FloatTensor (num_units, num_samples, num_channels)
        Denoised first view in uV.
    embeddings : torch.FloatTensor (num_units, embedding_size)
        Of the first view.
    view_embeddings : torch.FloatTensor (num_units, num_views, embedding_size)
        Of all views that the losses need: without the prototype loss the first two.
    """

    loss: Tensor | None = None
    prototype_loss: Tensor | None = None
    contrastive_loss: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    query_1: Tensor | None = None
    query_2: Tensor | None = None
    key_1: Tensor | None = None
    key_2: Tensor | None = None
    reconstruction: Tensor | None = None
    embeddings: Tensor | None = None
    view_embeddings: Tensor | None = None


class HuiduRepForPreTraining(HuiduRepPreTrainedModel):
    """HuiduRep with momentum branch, heads and pretraining losses.

    The losses are the prototype loss, MoCo v3's contrastive loss of pairs (with momentum branch, projection and
    predictor, which are not trained otherwise) and the reconstruction loss, with the weights of the configuration.

    Parameters
    ----------
    config : HuiduRepConfig
    """

    main_input_name = "view_1"

    def __init__(self, config: HuiduRepConfig) -> None:
        super().__init__(config)
        self._seen_weight: Tensor | None = None  # of the last forward pass in training or momentum update
        self.huidurep = HuiduRep(config)
        wide, size = config.projection_hidden_size, config.projection_size
        # Without heads the embeddings themselves are contrasted.
        trained_size = config.embedding_size - config.linear_size  # the linear axes are fixed
        self.projection = _multilayer_perceptron(trained_size, wide, wide, size) if wide else nn.Identity()
        self.predictor = _multilayer_perceptron(size, wide, size) if wide else nn.Identity()
        self.momentum_embeddings = HuiduRepEmbeddings(config)
        self.momentum_encoder = HuiduRepStack(config, config.num_hidden_layers)
        self.momentum_reduction = nn.Linear(config.hidden_size, trained_size)
        self.momentum_projection = copy.deepcopy(self.projection)
        self.post_init()
        self.update_momentum(0.0)
        self._seen_weight = None

    @classmethod
    def _load(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as transformers does; from an encoder's checkpoint with new heads and a copy as momentum branch."""
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = super()._load(*args, output_loading_info=True, **kwargs)
        missing = set(info.get("missing_keys") or ())
        if missing >= {name for name, _ in model.named_parameters() if not name.startswith("huidurep.")}:
            info["missing_keys"] = {name for name in missing if name.startswith("huidurep.")}
            model.update_momentum(0.0)
            model._seen_weight = None
            logger.warning(
                "%s is a checkpoint of an encoder: the heads of %s are newly initialised and its momentum branch is a "
                "copy of the encoder; train the model before its heads are used",
                model.name_or_path,
                cls.__name__,
            )
        return (model, info) if wants_info else model

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | Path | None, *args: Any, **kwargs: Any
    ) -> Any:
        """As :meth:`HuiduRep.from_pretrained`; momentum branch and linear axes stay without gradients.

        Parameters
        ----------
        pretrained_model_name_or_path : str or Path
        *args, **kwargs
            As there.

        Returns
        -------
        HuiduRepForPreTraining
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        # transformers creates new parameters while loading, which all require gradients.
        for momentum_module, _ in model.momentum_pairs():
            momentum_module.requires_grad_(False)
        if model.config.linear_size:
            model.huidurep.linear_axes.requires_grad_(False)
        return loaded

    def momentum_pairs(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """Pair every module of the momentum branch with the trained one.

        Returns
        -------
        tuple of (nn.Module, nn.Module)
            (momentum module, trained module), always in the same order.
        """
        return (
            (self.momentum_embeddings, self.huidurep.embeddings),
            (self.momentum_encoder, self.huidurep.encoder),
            (self.momentum_reduction, self.huidurep.reduction),
            (self.momentum_projection, self.projection),
        )

    @torch.no_grad()
    def update_momentum(self, momentum: float | None = None) -> None:
        """Update the momentum branch from the trained one: ``old * momentum + new * (1 - momentum)``.

        Parameters
        ----------
        momentum : float, optional
            Default ``config.momentum``; 0 copies.
        """
        momentum = self.config.momentum if momentum is None else momentum
        for old, new in self.momentum_pairs():
            for p_old, p_new in zip(old.parameters(), new.parameters(), strict=True):
                p_old.requires_grad_(False)
                p_old.lerp_(p_new.to(p_old.dtype), 1 - momentum)
        self._seen_weight = self.huidurep.reduction.weight.detach().clone()

    def _follow_optimizer(self) -> None:
        """Update the momentum branch if an optimizer has changed the weights since the last forward pass in training.

        Every Trainer therefore trains the momentum branch. HuiduRepTrainer does it itself, directly after each step.
        """
        weight = self.huidurep.reduction.weight
        if not (self.training and self.config.contrastive_weight > 0 and isinstance(weight, nn.Parameter)):
            return  # nn.DataParallel's replicas have no parameters
        seen = self._seen_weight
        if seen is not None and (seen.device, seen.dtype) == (weight.device, weight.dtype):
            if torch.equal(seen, weight):  # fused optimizers do not count as a new version of the tensor
                return
            self.update_momentum()
        self._seen_weight = weight.detach().clone()

    def forward(  # noqa: PLR0913 - a batch has that many parts
        self,
        view_1: Tensor,
        view_2: Tensor,
        clean: Tensor | None = None,
        channel_mask: Tensor | None = None,
        sample_mask: Tensor | None = None,
        labels: Tensor | None = None,
        channel_positions: Tensor | None = None,
        recordings: Tensor | None = None,
        further_views: Tensor | None = None,
        return_loss: bool = True,
        return_dict: bool | None = None,
    ) -> HuiduRepForPreTrainingOutput | tuple:
        """Losses of a batch of units with several views of each.

        Parameters
        ----------
        view_1, view_2 : torch.FloatTensor (num_units, num_samples, num_channels)
            Two spikes of one unit, or two distortions of one spike, in uV.
        clean : torch.FloatTensor, same shape, optional
            The first view without noise and overlapping spikes; without it there is no reconstruction loss.
        channel_mask, sample_mask : torch.Tensor (num_units, num_channels), (num_units, num_samples), optional
        labels : torch.Tensor (num_units,), optional
            Unit of each row: rows of the same unit are not contrasted.
        channel_positions : torch.Tensor (num_units or 1, num_channels, 2), optional
            um.
        recordings : torch.Tensor (num_units,), optional
            Recording of each row: only units of the same recording are contrasted.
        further_views : torch.FloatTensor (num_units, num_further, num_samples, num_channels), optional
            More spikes of each unit, in uV, for the prototype loss.
        return_loss, return_dict : bool
            As in transformers: compute the losses, with or without labels; return no tuple.

        Returns
        -------
        HuiduRepForPreTrainingOutput
        """
        self._follow_optimizer()
        _check_batch(view_1, dict(view_2=view_2, clean=clean), dict(labels=labels, recordings=recordings), return_loss)
        model, (num_units, num_samples), views = self.huidurep, view_1.shape[:2], [view_1, view_2]
        if further_views is not None and self.config.prototype_weight > 0:
            views += further_views.unbind(1)
        snippets = torch.cat([model._prepare(view, channel_mask, sample_mask) for view in views])
        features = model._describe_positions(snippets[:num_units], channel_positions, channel_mask)
        trained, where = (model.embeddings, model.encoder, model.reduction), (channel_mask, sample_mask, features)
        hidden, embeddings = self._encode(trained, snippets, num_units, where)
        by_view = embeddings.unflatten(0, (len(views), num_units))
        found: dict[str, Tensor] = dict(view_embeddings=by_view.transpose(0, 1), embeddings=by_view[0])
        if self.config.contrastive_weight > 0:
            found |= self._queries_and_keys(by_view, snippets[: 2 * num_units], where)
        losses = comparison_losses(self.config, found, labels=labels, recordings=recordings) if return_loss else {}
        valid = valid_tokens(sample_mask, hidden.shape[1], self.config.patch_size)
        scaled = model._decode(hidden[:num_units], num_samples, valid, features)
        found["reconstruction"] = model.unscale(scaled)
        if return_loss:
            losses["reconstruction_loss"] = self._reconstruction_loss(scaled, clean, channel_mask, sample_mask)
            losses["loss"] = weighted_loss(self.config, losses)
        output = HuiduRepForPreTrainingOutput(**losses, **found)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _reconstruction_loss(
        self, scaled: Tensor, clean: Tensor | None, channel_mask: Tensor | None, sample_mask: Tensor | None
    ) -> Tensor:
        """Reconstruction loss of the decoder's output in the model's units; 0 without clean views."""
        if clean is None:
            return scaled.new_zeros(())
        channels = channel_mask if self.huidurep.by_position else None
        target = self.huidurep._prepare(clean, channels, sample_mask)
        return reconstruction_loss(scaled, target, mask=_both(sample_mask, channels))

    def _queries_and_keys(
        self, by_view: Tensor, snippets: Tensor, where: tuple[Tensor | None, ...]
    ) -> dict[str, Tensor]:
        """Queries and keys of the first two views; BatchNorm sees one view at a time, as in MoCo v3."""
        queries = [F.normalize(self.predictor(self.projection(view)), dim=-1) for view in by_view[:2]]
        with torch.no_grad():
            branch = (self.momentum_embeddings, self.momentum_encoder, self.momentum_reduction)
            _, embeddings = self._encode(branch, snippets, by_view.shape[1], where)
            keys = [F.normalize(self.momentum_projection(view), dim=-1) for view in embeddings.chunk(2)]
        return dict(query_1=queries[0], query_2=queries[1], key_1=keys[0], key_2=keys[1])

    def _encode(
        self, branch: tuple[nn.Module, ...], snippets: Tensor, num_units: int, where: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, Tensor]:
        """Hidden states and embeddings of the snippets of all views, by the trained or the momentum branch."""
        num_views = len(snippets) // num_units
        channel_mask, sample_mask, features = (_for_views(each, num_units, num_views) for each in where)
        to_tokens, encoder, reduction = branch
        tokens = to_tokens(snippets, channel_mask, features)
        return encode(encoder, reduction, tokens, valid_tokens(sample_mask, tokens.shape[1], self.config.patch_size))


def _check_batch(
    view_1: Tensor, alike: dict[str, Tensor | None], of_units: dict[str, Tensor | None], has_loss: bool
) -> None:
    """Refuse parts of a batch that are not of the same units; say that one unit has no loss."""
    if has_loss and len(view_1) == 1:
        logger.warning_once(ONE_UNIT)
    expected = {name: (each, view_1.shape) for name, each in alike.items()}
    expected |= {name: (each, view_1.shape[:1]) for name, each in of_units.items()}
    for name, (found, shape) in expected.items():
        if found is not None and (not isinstance(found, Tensor) or found.shape != shape):
            described = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"expected {name} as a tensor {tuple(shape)}, as view_1 has it, found {described}: correct it."
            )


def comparison_losses(
    config: HuiduRepConfig,
    found: Mapping[str, Tensor],
    *,
    labels: Tensor | None = None,
    recordings: Tensor | None = None,
) -> dict[str, Tensor]:
    """Losses that compare spikes with each other, if their weight in `config` is not 0.

    Parameters
    ----------
    config : HuiduRepConfig
    found : HuiduRepForPreTrainingOutput or dict of str to torch.Tensor
        ``view_embeddings`` for the prototype loss, queries and keys for the contrastive loss.
    labels, recordings : torch.Tensor (num_units,), optional
        As in :func:`huidurep.models.losses.prototype_loss`.

    Returns
    -------
    dict of str to torch.Tensor, scalar
        ``prototype_loss``, ``contrastive_loss`` or both.
    """
    losses: dict[str, Tensor] = {}
    groups: dict[str, Any] = dict(labels=labels, recordings=recordings)
    if config.prototype_weight > 0:
        embeddings, temperature = found["view_embeddings"], config.prototype_temperature
        losses["prototype_loss"] = prototype_loss(embeddings, temperature=temperature, **groups)
    if config.contrastive_weight > 0:
        sides, temperature = [found[name] for name in QUERIES + KEYS], config.contrastive_temperature
        losses["contrastive_loss"] = symmetric_contrastive_loss(*sides, temperature=temperature, **groups)
    return losses


def weighted_loss(config: HuiduRepConfig, losses: Mapping[str, Tensor]) -> Tensor:
    """Sum of losses, each times its weight in the configuration.

    Parameters
    ----------
    config : HuiduRepConfig
    losses : dict of str to torch.Tensor, scalar
        Named as in ``LOSSES``.

    Returns
    -------
    torch.Tensor, scalar
    """
    return sum(getattr(config, name.replace("_loss", "_weight")) * loss for name, loss in losses.items())


def _for_views(tensor: Tensor | None, num_units: int, num_views: int) -> Tensor | None:
    """Repeat the rows of the units for their views; a single row that all units share is kept."""
    if tensor is None or len(tensor) != num_units:
        return tensor
    return tensor.repeat(num_views, *[1] * (tensor.ndim - 1))


def _both(sample_mask: Tensor | None, channel_mask: Tensor | None) -> Tensor | None:
    """Mask (num_units, num_samples or 1, num_channels or 1) of existing values, or None if nothing is masked."""
    samples = None if sample_mask is None else sample_mask[:, :, None]
    channels = None if channel_mask is None else channel_mask[:, None]
    return samples if channels is None else channels if samples is None else samples * channels


def _multilayer_perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with BatchNorm and ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


class _NoTarget(str):
    """Name of an argument that transformers' Trainer does not take for the target that every loss needs.

    It takes those whose name contains "label", and returns no loss for a batch that lacks one of them.
    """

    def __contains__(self, part: object) -> bool:
        return False


def _with_optional_labels(signature: inspect.Signature) -> inspect.Signature:
    """The signature with `labels` as an argument without which there is a loss, too."""
    return signature.replace(
        parameters=[
            each.replace(name=_NoTarget(each.name)) if each.name == "labels" else each
            for each in signature.parameters.values()
        ]
    )


HuiduRepForPreTraining.forward.__signature__ = _with_optional_labels(  # type: ignore[attr-defined]
    inspect.signature(HuiduRepForPreTraining.forward)
)
AutoModelForPreTraining.register(HuiduRepConfig, HuiduRepForPreTraining, exist_ok=True)
