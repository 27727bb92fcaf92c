"""The losses, each over what is valid in one step."""

from collections.abc import Callable

import torch

from ..config.sections import LossSettings
from ..heads.head import Outputs, as_outputs
from ..inputs.batch import Batch

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(outputs, targets, mask) -> scalar. The shapes are those of the functions below."""


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy per utterance, averaged with the weights of the true classes.

    Args:
        logits: (B, C) float32.
        targets: (B,) int64.
        weights: (C,) float32, or None for equal ones.
        smoothing: the target is (1 - smoothing) one-hot + smoothing / C. An utterance weighs what its true class does,
            where `torch.nn.CrossEntropyLoss` weighs each class that the smoothed target has a share of.

    Returns:
        A scalar: the weighted sum over the step by the sum of the weights, as torch has it.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    true = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
    per_utterance = -(1 - smoothing) * true - smoothing * log_p.mean(dim=-1)
    if weights is None:
        return per_utterance.mean()
    chosen = weights[targets]
    return (chosen * per_utterance).sum() / chosen.sum()


def mean_squared_error(outputs: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the squared error over every valid value of the step.

    Args:
        outputs: (..., K) float32.
        targets: (..., K) float32.
        mask: (..., K) bool, True for what counts.

    Returns:
        A scalar; zero where nothing counts.
    """
    squared = (outputs - targets) ** 2
    return torch.where(mask, squared, 0.0).sum() / mask.sum().clamp(min=1)


def mean_absolute_error(outputs: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the absolute error over every valid value of the step; arguments as for `mean_squared_error`."""
    return torch.where(mask, (outputs - targets).abs(), 0.0).sum() / mask.sum().clamp(min=1)


def concordance_loss(outputs: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 - CCC, pooled over the step's valid values, averaged over the K targets.

    CCC = 2 cov(y, p) / (var y + var p + (mean y - mean p)^2), all with divisor n (Lin 1989), in float32.

    Args:
        outputs: (..., K).
        targets: (..., K).
        mask: (..., K) bool, True for what counts.

    Returns:
        A float32 scalar. A target without two valid values counts as CCC 0.
    """
    k = outputs.shape[-1]
    valid = mask.reshape(-1, k)
    # What does not count becomes zero before the sums: a NaN there times a mask of 0 would still be NaN.
    p = torch.where(valid, outputs.reshape(-1, k).float(), 0.0)
    y = torch.where(valid, targets.reshape(-1, k).float(), 0.0)
    n = valid.sum(dim=0).clamp(min=1)
    mean_p, mean_y = p.sum(dim=0) / n, y.sum(dim=0) / n
    dp = torch.where(valid, p - mean_p, 0.0)
    dy = torch.where(valid, y - mean_y, 0.0)
    covariance = (dp * dy).sum(dim=0) / n
    spread = ((dp**2).sum(dim=0) + (dy**2).sum(dim=0)) / n + (mean_y - mean_p) ** 2
    # Constant and equal: 0 / 0 in the definition; as a loss it counts as CCC 0 and has no gradient.
    return (1 - 2 * covariance / spread.clamp(min=1e-8)).mean()


def squared_error_and_concordance(outputs: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Add the squared error and the loss of the concordance; arguments as for `mean_squared_error`."""
    return mean_squared_error(outputs, targets, mask) + concordance_loss(outputs, targets, mask)


def sigmoid_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Binary cross-entropy of every class on its own, against one-hot (B,) int64 targets; mean over all B x C."""
    one_hot = torch.nn.functional.one_hot(targets, logits.shape[-1]).to(logits.dtype)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, one_hot)


def soft_cross_entropy(logits: torch.Tensor, shares: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """- sum_c share_c log softmax_c, averaged over utterances; (B, C) logits and (B, C) shares that sum to 1."""
    return -(shares * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def make_loss(settings: LossSettings, class_counts: torch.Tensor | None) -> Loss:
    """Make the loss of an experiment.

    Args:
        settings: the `[loss]` table, with `kind` resolved. `class_weights = "balanced"` weighs a class by the inverse
            of its share of the training part, as the baseline of the Odyssey 2024 challenge does.
        class_counts: (C,) training utterances per class; None for regression.

    Returns:
        A function of (outputs, targets, mask). Losses of whole utterances take the mask and leave it unused.
    """
    entry = settings.entry
    function = globals()[entry.function]
    if not entry.weighs_classes:
        return function  # type: ignore[no-any-return]
    weights = None
    if settings.class_weights == "balanced" and class_counts is not None:
        counts = class_counts.float()
        # A class absent from the training part has no utterance to weigh.
        weights = counts.sum() / (counts > 0).sum() / counts.clamp(min=1)
    smoothing = settings.label_smoothing

    def loss(outputs: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        on_device = None if weights is None else weights.to(outputs.device)
        return function(outputs, targets, on_device, smoothing)  # type: ignore[no-any-return]

    return loss


def total_loss(
    loss: Loss, outputs: Outputs, targets: torch.Tensor, mask: torch.Tensor, auxiliary: torch.Tensor | None
) -> torch.Tensor:
    """Sum every term of a head by its weight: what is minimised.

    Args:
        loss: of the target.
        outputs: of a head.
        targets: as the loss takes them.
        mask: as the loss takes it.
        auxiliary: (B,) int64 classes of the second target, -1 where unknown; those utterances do not count in it.

    Returns:
        A scalar on the device of the outputs.
    """
    total = torch.as_tensor(outputs.constant, device=outputs.prediction.device)
    for term in outputs.terms:
        if term.target == "main":
            total = total + term.weight * loss(term.output, targets, mask)
        elif auxiliary is not None and bool((auxiliary >= 0).any()):
            known = auxiliary >= 0
            total = total + term.weight * cross_entropy(term.output[known], auxiliary[known])
    return total


def batch_loss(loss: Loss, outputs: torch.Tensor | Outputs, batch: Batch) -> torch.Tensor:
    """`total_loss` of a batch, whose targets may be mixed."""
    made = as_outputs(outputs)
    value = total_loss(loss, made, batch.targets, batch.target_mask, batch.auxiliary)
    if batch.mixed is None:
        return value
    targets, share = batch.mixed
    return (1 - share) * value + share * total_loss(loss, made, targets, batch.target_mask, batch.auxiliary)
