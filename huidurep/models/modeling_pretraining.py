"""What the models return."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from .losses import prototype_loss, reconstruction_loss, symmetric_contrastive_loss
from .modeling_huidurep import HuiduRep, HuiduRepPreTrainedModel
from .modeling_layers import HuiduRepEmbeddings, HuiduRepStack, encode, valid_tokens


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
        None without contrast.
    reconstruction : torch.FloatTensor (num_units, num_samples, num_channels)
        Denoised first view in uV.
    embeddings : torch.FloatTensor (num_units, embedding_size)
        Representation of the first view.
    view_embeddings : torch.FloatTensor (num_units, num_views, embedding_size)
        Representations of all views that the losses ask for: without the prototype loss the first two.
    """

    loss: torch.FloatTensor | None = None
    prototype_loss: torch.FloatTensor | None = None
    contrastive_loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    query_1: torch.FloatTensor | None = None
    query_2: torch.FloatTensor | None = None
    key_1: torch.FloatTensor | None = None
    key_2: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    embeddings: torch.FloatTensor | None = None
    view_embeddings: torch.FloatTensor | None = None


# In the order in which they are logged and told.
LOSSES = ("prototype_loss", "contrastive_loss", "reconstruction_loss")
QUERIES, KEYS = ("query_1", "query_2"), ("key_1", "key_2")


class HuiduRepForPreTraining(HuiduRepPreTrainedModel):
    """HuiduRep with what trains it.

    Spikes are told from those of other units by the prototypes of units, by MoCo v3's contrast of pairs (momentum
    branch, projection and predictor, which rest otherwise) or by both, as the configuration weighs them, beside
    denoising.

    Parameters
    ----------
    config : HuiduRepConfig
    """

    main_input_name = "view_1"

    def __init__(self, config):
        super().__init__(config)
        self.huidurep = HuiduRep(config)
        wide, size = config.projection_hidden_size, config.projection_size
        # Without heads the contrast is of the representation itself.
        self.projection = multilayer_perceptron(config.embedding_size, wide, wide, size) if wide else nn.Identity()
        self.predictor = multilayer_perceptron(size, wide, size) if wide else nn.Identity()
        self.momentum_embeddings = HuiduRepEmbeddings(config)
        self.momentum_encoder = HuiduRepStack(config, config.num_hidden_layers)
        self.momentum_reduction = nn.Linear(config.hidden_size, config.embedding_size)
        self.momentum_projection = copy.deepcopy(self.projection)
        self.post_init()
        self.update_momentum(0.0)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As :meth:`HuiduRep.from_pretrained`, with the momentum branch kept out of the optimiser's hands.

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
        # transformers makes the parameters anew while loading, all of them trainable.
        for momentum_module, _ in model.momentum_pairs():
            momentum_module.requires_grad_(False)
        return loaded

    def momentum_pairs(self):
        """Pair every module of the momentum branch with the trained one that it follows.

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
    def update_momentum(self, momentum=None):
        """Move the momentum branch towards the trained one: ``old * momentum + new * (1 - momentum)``.

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

    def forward(  # noqa: PLR0913 - a batch has that many parts
        self,
        view_1,
        view_2,
        clean=None,
        channel_mask=None,
        sample_mask=None,
        labels=None,
        channel_positions=None,
        recordings=None,
        further_views=None,
    ):
        """Losses of a batch of units, each seen in several views.

        Parameters
        ----------
        view_1, view_2 : torch.FloatTensor (num_units, num_samples, num_channels)
            Two spikes of one unit, or two distortions of one spike, in uV.
        clean : torch.FloatTensor, same shape, optional
            What the first view looks like without noise and collisions; without it there is no reconstruction loss.
        channel_mask, sample_mask : torch.Tensor (num_units, num_channels), (num_units, num_samples), optional
        labels : torch.Tensor (num_units,), optional
            Unit of each row: rows of one unit are not told from each other.
        channel_positions : torch.Tensor (num_units or 1, num_channels, 2), optional
            um.
        recordings : torch.Tensor (num_units,), optional
            Recording of each row: only units of one recording are told from each other.
        further_views : torch.FloatTensor (num_units, num_further, num_samples, num_channels), optional
            More spikes of each unit, in uV, for the prototype loss.

        Returns
        -------
        HuiduRepForPreTrainingOutput
        """
        model, num_units, num_samples = self.huidurep, *view_1.shape[:2]
        views = [view_1, view_2]
        if further_views is not None and self.config.prototype_weight > 0:
            views += further_views.unbind(1)
        snippets = torch.cat([model.prepare(view, channel_mask, sample_mask) for view in views])
        features = model.describe_positions(snippets[:num_units], channel_positions, channel_mask)
        where = (channel_mask, sample_mask, features)
        trained = (model.embeddings, model.encoder, model.reduction)
        hidden, embeddings = self._encode(trained, snippets, num_units, where)
        by_view = embeddings.unflatten(0, (len(views), num_units))
        found = dict(view_embeddings=by_view.transpose(0, 1), embeddings=by_view[0])
        if self.config.contrastive_weight > 0:
            found |= self._queries_and_keys(by_view, snippets[: 2 * num_units], where)
        losses = comparison_losses(self.config, found, labels=labels, recordings=recordings)
        valid = valid_tokens(sample_mask, hidden.shape[1], self.config.patch_size)
        scaled = model.decode(hidden[:num_units], num_samples, valid, features)
        losses["reconstruction_loss"] = snippets.new_zeros(())
        if clean is not None:
            channels = channel_mask if model.by_position else None
            target = model.prepare(clean, channels, sample_mask)
            losses["reconstruction_loss"] = reconstruction_loss(scaled, target, mask=_both(sample_mask, channels))
        found["reconstruction"] = model.unscale(scaled)
        return HuiduRepForPreTrainingOutput(loss=weighted_loss(self.config, losses), **losses, **found)

    def _queries_and_keys(self, by_view, snippets, where):
        """What the contrast compares, of the first two views; BatchNorm sees one view at a time, as in MoCo v3."""
        queries = [F.normalize(self.predictor(self.projection(view)), dim=-1) for view in by_view[:2]]
        with torch.no_grad():
            branch = (self.momentum_embeddings, self.momentum_encoder, self.momentum_reduction)
            _, embeddings = self._encode(branch, snippets, by_view.shape[1], where)
            keys = [F.normalize(self.momentum_projection(view), dim=-1) for view in embeddings.chunk(2)]
        return dict(query_1=queries[0], query_2=queries[1], key_1=keys[0], key_2=keys[1])

    def _encode(self, branch, snippets, num_units, where):
        """Hidden states and embeddings of the snippets of all views, by the trained or the momentum branch."""
        num_views = len(snippets) // num_units
        channel_mask, sample_mask, features = (_for_views(each, num_units, num_views) for each in where)
        to_tokens, encoder, reduction = branch
        tokens = to_tokens(snippets, channel_mask, features)
        return encode(encoder, reduction, tokens, valid_tokens(sample_mask, tokens.shape[1], self.config.patch_size))


def comparison_losses(config, found, *, labels=None, recordings=None):
    """Losses that compare spikes with each other, of those that `config` gives a weight.

    Parameters
    ----------
    config : HuiduRepConfig
    found : HuiduRepForPreTrainingOutput or dict of str to torch.Tensor
        ``view_embeddings`` for the prototype loss, queries and keys for the contrast.
    labels, recordings : torch.Tensor (num_units,), optional
        As in :func:`huidurep.models.losses.prototype_loss`.

    Returns
    -------
    dict of str to torch.Tensor, scalar
        ``prototype_loss``, ``contrastive_loss`` or both.
    """
    losses, groups = {}, dict(labels=labels, recordings=recordings)
    if config.prototype_weight > 0:
        embeddings, temperature = found["view_embeddings"], config.prototype_temperature
        losses["prototype_loss"] = prototype_loss(embeddings, temperature=temperature, **groups)
    if config.contrastive_weight > 0:
        sides, temperature = [found[name] for name in QUERIES + KEYS], config.contrastive_temperature
        losses["contrastive_loss"] = symmetric_contrastive_loss(*sides, temperature=temperature, **groups)
    return losses


def weighted_loss(config, losses):
    """Sum of losses, each times its weight in `config`.

    Parameters
    ----------
    config : HuiduRepConfig
    losses : dict of str to torch.Tensor, scalar
        Those of ``LOSSES`` that there are.

    Returns
    -------
    torch.Tensor, scalar
    """
    return sum(getattr(config, name.replace("_loss", "_weight")) * loss for name, loss in losses.items())


def _for_views(tensor, num_units, num_views):
    """Repeat what all views of a unit share; what all units share stays a single row."""
    if tensor is None or len(tensor) != num_units:
        return tensor
    return tensor.repeat(num_views, *[1] * (tensor.ndim - 1))


def _both(sample_mask, channel_mask):
    """One mask (num_units, num_samples or 1, num_channels or 1) of values that exist, or None where all do."""
    if sample_mask is None and channel_mask is None:
        return None
    samples = 1 if sample_mask is None else sample_mask[:, :, None]
    channels = 1 if channel_mask is None else channel_mask[:, None]
    return samples * channels


def multilayer_perceptron(*sizes):
    """Linear layers with BatchNorm and ReLU between them.

    Parameters
    ----------
    *sizes : int
        Of the input and of every layer.

    Returns
    -------
    nn.Sequential
    """
    layers = []
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
    return nn.Sequential(*layers[:-2])
