"""What the models return."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class HuiduRepOutput(ModelOutput):
    """Output of :class:`huidurep.HuiduRep`.

    Parameters
    ----------
    embeddings : torch.FloatTensor (num_spikes, embedding_size)
        The representation to cluster.
    last_hidden_state : torch.FloatTensor (num_spikes, num_tokens, hidden_size)
        Tokens of the last encoder layer.
    reconstruction : torch.FloatTensor (num_spikes, num_samples, num_channels), optional
        Denoised snippet in uV, by the decoder that was trained.
    denoised_tokens : torch.FloatTensor (num_spikes, num_tokens, hidden_size), optional
        Output of the research code's feature decoder (converted checkpoints only).
    hidden_states : tuple of torch.FloatTensor (num_spikes, num_tokens, hidden_size), optional
        The encoder's tokens with their position codes, then what each of its layers makes of them; the last one is
        `last_hidden_state`.
    attentions : tuple of torch.FloatTensor (num_spikes, num_heads, num_tokens, num_tokens), optional
        What each layer of the encoder attends to; rows sum to 1.
    """

    embeddings: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    denoised_tokens: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


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
