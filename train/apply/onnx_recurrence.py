"""Recurrent layers as ONNX has them: torch would write one step after the other, for clips of one length only."""

from typing import Any

import torch

# The order of ONNX's gates among torch's: z r h of r z n; i o f c of i f g o.
_KINDS = {"RNN_TANH": ("RNN", [0]), "GRU": ("GRU", [1, 0, 2]), "LSTM": ("LSTM", [0, 3, 1, 2])}


class WholeRecurrence(torch.nn.Module):
    """A recurrent layer over one clip that has no padding; only to be exported, its numbers in torch are none.

    Args:
        cell: batch first.
    """

    def __init__(self, cell: torch.nn.RNNBase) -> None:
        super().__init__()
        self.operator, gates = _KINDS[cell.mode]
        self.hidden, self.layers, self.directions = cell.hidden_size, cell.num_layers, 1 + cell.bidirectional

        def ordered(name: str, layer: int) -> torch.Tensor:
            """(directions, gates * H, ...) of one kind of weights."""
            own = [getattr(cell, f"{name}_l{layer}{end}") for end in ("", "_reverse")[: self.directions]]
            return torch.stack([torch.cat([one.detach().chunk(len(gates))[g] for g in gates]) for one in own])

        for layer in range(self.layers):
            self.register_buffer(f"w{layer}", ordered("weight_ih", layer))
            self.register_buffer(f"r{layer}", ordered("weight_hh", layer))
            self.register_buffer(f"b{layer}", torch.cat([ordered("bias_ih", layer), ordered("bias_hh", layer)], dim=1))

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, None]:
        """(1, T, D) to the states of the last layer, (1, T, H * directions), as torch's own layer gives them first."""
        attributes: dict[str, Any] = {"hidden_size": self.hidden}
        attributes["direction"] = "bidirectional" if self.directions == 2 else "forward"
        if self.operator == "GRU":
            attributes["linear_before_reset"] = 1
        states = values.transpose(0, 1)
        for layer in range(self.layers):
            given = [states, *(self.get_buffer(f"{name}{layer}") for name in "wrb")]
            shape = (states.shape[0], self.directions, 1, self.hidden)
            found: torch.Tensor = torch.onnx.ops.symbolic(
                self.operator, given, attributes, dtype=torch.float32, shape=shape
            )
            states = found.transpose(1, 2).flatten(2)
        return states.transpose(0, 1), None


def with_whole_recurrences(module: torch.nn.Module) -> None:
    """Replace the recurrent layers of a module, at any depth."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.RNNBase):
            setattr(module, name, WholeRecurrence(child))
        else:
            with_whole_recurrences(child)
