"""HuiduRepForPreTraining: the encoder with the momentum branch, heads and losses that train it."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import ModelOutput

from .losses import reconstruction_loss, symmetric_contrastive_loss
from .modeling_huidurep import HuiduRep, HuiduRepPreTrainedModel
from .modeling_layers import HuiduRepEmbeddings, HuiduRepStack, encode, valid_tokens


@dataclass
class HuiduRepForPreTrainingOutput(ModelOutput):
    """Output of :class:`HuiduRepForPreTraining`.

    Parameters
    ----------
    loss, contrastive_loss, reconstruction_loss : torch.FloatTensor, scalar
        ``loss = contrastive_loss + reconstruction_weight * reconstruction_loss``.
    query_1, query_2, key_1, key_2 : torch.FloatTensor (num_pairs, projection_size)
        L2-normalised predictions of the trained branch and projections of the momentum branch, for both views.
    reconstruction : torch.FloatTensor (num_pairs, num_samples, num_channels)
        Denoised first view in uV.
    embeddings : torch.FloatTensor (num_pairs, embedding_size)
        Representation of the first view.
    """

    loss: torch.FloatTensor | None = None
    contrastive_loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    query_1: torch.FloatTensor | None = None
    query_2: torch.FloatTensor | None = None
    key_1: torch.FloatTensor | None = None
    key_2: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    embeddings: torch.FloatTensor | None = None


class HuiduRepForPreTraining(HuiduRepPreTrainedModel):
    """HuiduRep with what trains it: momentum branch, projection, predictor and both losses (MoCo v3 + denoising).

    Parameters
    ----------
    config : HuiduRepConfig
    """

    def __init__(self, config):
        super().__init__(config)
        self.huidurep = HuiduRep(config)
        wide, size = config.projection_hidden_size, config.projection_size
        # Without heads the representation itself is contrasted.
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
    ):
        """Both losses of a batch of positive pairs.

        Parameters
        ----------
        view_1, view_2 : torch.FloatTensor (num_pairs, num_samples, num_channels)
            Two spikes of one unit, or two distortions of one spike, in uV.
        clean : torch.FloatTensor, same shape, optional
            What the first view looks like without noise and collisions; without it there is no reconstruction loss.
        channel_mask, sample_mask : torch.Tensor (num_pairs, num_channels), (num_pairs, num_samples), optional
        labels : torch.Tensor (num_pairs,), optional
            Unit of each pair: pairs of one unit are not each other's negatives.
        channel_positions : torch.Tensor (num_pairs, num_channels, 2), optional
            um.
        recordings : torch.Tensor (num_pairs,), optional
            Recording of each pair: only pairs of one recording are each other's negatives.

        Returns
        -------
        HuiduRepForPreTrainingOutput
        """
        model, where = self.huidurep, (channel_mask, sample_mask, channel_positions)
        first, query_1 = self._query(view_1, *where)
        _, query_2 = self._query(view_2, *where)
        with torch.no_grad():
            key_1, key_2 = self._key(view_1, *where), self._key(view_2, *where)
        options = dict(temperature=self.config.contrastive_temperature, labels=labels, recordings=recordings)
        contrast = symmetric_contrastive_loss(query_1, query_2, key_1, key_2, **options)
        hidden = first.last_hidden_state
        valid = valid_tokens(sample_mask, hidden.shape[1], self.config.patch_size)
        features = model.describe_positions(view_1, channel_positions, channel_mask)
        scaled = model.decode(hidden, view_1.shape[1], valid, features)
        error = torch.zeros_like(contrast)
        if clean is not None:
            channels = channel_mask if model.by_position else None
            target = model.prepare(clean, channels, sample_mask)
            error = reconstruction_loss(scaled, target, mask=_both(sample_mask, channels))
        loss = contrast + self.config.reconstruction_weight * error
        return HuiduRepForPreTrainingOutput(
            loss, contrast, error, query_1, query_2, key_1, key_2, model.unscale(scaled), first.embeddings
        )

    def _query(self, view, channel_mask, sample_mask, channel_positions):
        output = self.huidurep(view, channel_mask, sample_mask, channel_positions=channel_positions)
        return output, F.normalize(self.predictor(self.projection(output.embeddings)), dim=-1)

    def _key(self, view, channel_mask, sample_mask, channel_positions):
        snippets = self.huidurep.prepare(view, channel_mask, sample_mask)
        features = self.huidurep.describe_positions(snippets, channel_positions, channel_mask)
        tokens = self.momentum_embeddings(snippets, channel_mask, features)
        valid = valid_tokens(sample_mask, tokens.shape[1], self.config.patch_size)
        _, embeddings = encode(self.momentum_encoder, self.momentum_reduction, tokens, valid)
        return F.normalize(self.momentum_projection(embeddings), dim=-1)


def _both(sample_mask, channel_mask):
    """One mask (num_pairs, num_samples or 1, num_channels or 1) of values that exist, or None where all do."""
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
