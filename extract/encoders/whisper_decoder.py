"""Whisper as a recogniser (Radford et al. 2022, arXiv:2212.04356): its decoder run greedily, one 30 s window at a time.

Of a checkpoint's generation settings only the tokens and heads they name are used: decoding is the same for all.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from .checkpoints import Checkpoint
from .encoder import SAMPLE_RATE, Audio
from .front_end import check_whisper
from .inference import Runtime, quiet
from .whisper_settings import alignment_heads, read_settings, read_tokenizer

_SCORED = 8  # texts that are scored together


@dataclass(frozen=True, slots=True)
class Opening:
    """The decoder's view of a window before its first word."""

    no_speech_prob: float
    language: str  # code, such as "en"
    language_probability: float  # among all languages


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """The decoder's view of a window's tokens.

    Attributes:
        logprobs: (N,) log probability of each sampled token, after the tokens that are never sampled were left out.
        attention: (H, L, 1500) cross-attention of the heads that follow the words, a row for each token it was given.
        first: the row that predicts the first sampled token; the last row predicts the end of the text.
    """

    logprobs: npt.NDArray[np.float64]
    attention: npt.NDArray[np.float64]
    first: int


class WhisperDecoder:
    """A Whisper that reads windows of up to 30 s.

    Results do not depend on the batch: the encoder sees each window alone, the tokens that a finished text is padded
    with are cut off, and scores do not see it.

    Args:
        checkpoint: a whole Whisper's, with its generation_config.json and tokenizer.
        runtime: the device and the precision to run with.

    Attributes:
        bands: of the log-mel spectrogram.
        languages: {code: token}; empty for an English-only model.
        translates: whether it was trained to translate to English. Turbo and distilled models, told by a decoder with
            fewer layers than the encoder, were not (README of github.com/openai/whisper on turbo).
        max_tokens: limit of the tokens sampled for a window, half of what the decoder takes, as in Whisper's own code.
    """

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self._runtime = runtime
        self._model = runtime.load(WhisperForConditionalGeneration, checkpoint)
        if runtime.reduced is not None:
            _cast_once(self._model, runtime.reduced)
        config = self._model.config
        self.bands = int(config.num_mel_bins)
        check_whisper(checkpoint, self.bands)
        self._front_end = WhisperFeatureExtractor(feature_size=self.bands)  # type: ignore[no-untyped-call]
        settings = read_settings(checkpoint)
        self._start, self._end = int(settings["decoder_start_token_id"]), int(settings["eos_token_id"])
        self._tokenizer = read_tokenizer(checkpoint, self._end)
        self._no_timestamps = int(settings["no_timestamps_token_id"])
        multilingual = bool(settings["is_multilingual"])
        self._tasks: Mapping[str, int] = settings["task_to_id"] if multilingual else {}
        # The settings call them "<|en|>" and so on.
        self.languages: dict[str, int] = (
            {token[2:-2]: number for token, number in settings["lang_to_id"].items()} if multilingual else {}
        )
        self.translates = multilingual and config.decoder_layers == config.encoder_layers
        self.max_tokens = int(config.max_target_positions) // 2
        self._heads = alignment_heads(checkpoint, settings)
        self._never, self._never_first = (settings.get(f"{key}suppress_tokens") or [] for key in ("", "begin_"))
        self._banned, self._banned_first = self._mask(self._never), self._mask(self._never_first)
        # In place of the checkpoint's own, whose beams, temperatures or forced tokens differ from one to the next.
        self._model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            decoder_start_token_id=self._start, eos_token_id=self._end, pad_token_id=self._end, do_sample=False,
            num_beams=1, max_new_tokens=self.max_tokens, suppress_tokens=self._never or None,
            begin_suppress_tokens=self._never_first or None,
        )  # fmt: skip

    def _mask(self, some: Sequence[int]) -> Tensor:
        """Make a mask of tokens, (V,) on the device."""
        mask = torch.zeros(int(self._model.config.vocab_size), dtype=torch.bool)
        mask[list(some)] = True
        return mask.to(self._runtime.device)

    def states(self, rows: Sequence[Audio]) -> Tensor:
        """Encode windows of up to 30 s, filled up with silence, to (B, 1500, D)."""
        # On the CPU and without a lock: another thread may run the model meanwhile.
        mel = self._front_end(list(rows), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        mel = self._runtime.send(mel)
        with self._runtime.model():
            states: Tensor = self._model.get_encoder()(mel).last_hidden_state
        return states

    def open(self, states: Tensor) -> list[Opening]:
        """Tell if there is speech and in which language, by what follows the start token, as in Whisper's own code."""
        start = torch.full((len(states), 1), self._start, device=states.device)
        with self._runtime.model():
            logits = self._model(encoder_outputs=BaseModelOutput(states), decoder_input_ids=start).logits[:, -1].float()
        # The no-speech token has had several names; it always stands before that for no time stamps.
        no_speech = logits.softmax(-1)[:, self._no_timestamps - 1].tolist()
        if not self.languages:
            return [Opening(p, "en", 1.0) for p in no_speech]
        best = logits[:, list(self.languages.values())].softmax(-1).max(-1)
        codes = [list(self.languages)[i] for i in best.indices.tolist()]
        return [Opening(*each) for each in zip(no_speech, codes, best.values.tolist(), strict=True)]

    def sample(self, states: Tensor, languages: Sequence[str], task: str) -> list[list[int]]:
        """Take the most probable token at every step, up to the end of the text.

        Args:
            states: (B, 1500, D).
            languages: code of the language spoken in each.
            task: "transcribe" or "translate".

        Returns:
            The tokens of each text; the last one is the end of the text, unless `max_tokens` were sampled before it.
        """
        prompts = [self._prompt(language, task) for language in languages]
        inputs = self._padded(prompts)
        with self._runtime.model(), quiet():
            rows = self._model.generate(
                encoder_outputs=BaseModelOutput(states),
                decoder_input_ids=inputs,
                force_unique_generate_call=True,  # else parts of the text would be taken for time stamps to go on from
            )
        sampled = [row[len(prompts[0]) :] for row in rows.tolist()]
        # A text that ends before the longest of its batch is followed by more ends, which are not its own.
        return [row[: row.index(self._end) + 1] if self._end in row else row for row in sampled]

    def complete(self, sampled: Sequence[int]) -> bool:
        """Tell whether the end of the text was reached."""
        return sampled[-1] == self._end

    def score(self, states: Tensor, languages: Sequence[str], sampled: Sequence[Sequence[int]]) -> list[Score]:
        """Run the decoder once over whole transcripts.

        Args:
            states: (B, 1500, D).
            languages: as in `sample`.
            sampled: the tokens that `sample` gave for each.

        Returns:
            The log probabilities of these tokens, and the attention with which they were predicted.
        """
        scores: list[Score] = []
        for i in range(0, len(sampled), _SCORED):
            some = slice(i, i + _SCORED)
            scores += self._score(states[some], languages[some], sampled[some])
        return scores

    def _score(self, states: Tensor, languages: Sequence[str], sampled: Sequence[Sequence[int]]) -> list[Score]:
        prompts = [self._prompt(language, "transcribe") for language in languages]
        # The end of the text is predicted, but nothing after it, so it is not put in.
        rows = [
            [*prompt, *(tokens[:-1] if self.complete(tokens) else tokens)]
            for prompt, tokens in zip(prompts, sampled, strict=True)
        ]
        # Row i predicts token i + 1: the prompt's last row predicts the first token of the text.
        first, steps = len(prompts[0]) - 1, max(map(len, sampled))
        inputs, chosen = self._padded(rows), self._padded(sampled)
        with self._runtime.model(), _eager(self._model), self._followed() as found:
            out = self._model(
                encoder_outputs=BaseModelOutput(states),
                decoder_input_ids=inputs,
                decoder_attention_mask=torch.ones_like(inputs),  # else transformers asks the device for positions
                use_cache=False,
            )
        with self._runtime.exact():
            # What sampling was not allowed to choose took no share of the probability then, and takes none here.
            logits = out.logits[:, first : first + steps].float().masked_fill(self._banned, -torch.inf)
            logits[:, 0].masked_fill_(self._banned_first, -torch.inf)
            logprobs = logits.log_softmax(-1).gather(2, chosen[..., None])[..., 0]
            attention = torch.stack([found[layer][:, head] for layer, head in self._heads], dim=1)
        told = self._runtime.fetch({"logprobs": logprobs, "attention": attention})
        return [
            Score(logprobs[: len(tokens)].astype(np.float64), attention[:, : len(row)].astype(np.float64), first)
            for logprobs, attention, tokens, row in zip(told["logprobs"], told["attention"], sampled, rows, strict=True)
        ]

    def _padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Fill rows of tokens up with ends, (B, L) on the device; nothing before them sees what comes after."""
        longest = max(map(len, rows))
        return self._runtime.send(torch.tensor([[*row, *[self._end] * (longest - len(row))] for row in rows]))

    @contextmanager
    def _followed(self) -> Iterator[dict[int, Tensor]]:
        """Collect {layer: (B, H, L, 1500)}, the cross-attention of the layers that follow the words, and no other."""
        found: dict[int, Tensor] = {}
        handles = [
            self._model.model.decoder.layers[layer].encoder_attn.register_forward_hook(
                lambda _module, _given, out, layer=layer: found.__setitem__(layer, out[1])
            )
            for layer in {layer for layer, _ in self._heads}
        ]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    def is_text(self, token: int) -> bool:
        """Tell whether a token is part of the text; the special ones all come after."""
        return token < self._end

    def text(self, tokens: Sequence[int]) -> str:
        """Decode tokens, the special ones left out; part of a character's bytes gives U+FFFD."""
        kept = [token for token in tokens if self.is_text(token)]
        return str(self._tokenizer.decode(kept, clean_up_tokenization_spaces=False))

    def _prompt(self, language: str, task: str) -> list[int]:
        # English-only models were trained without the tokens of language and task.
        known = [self.languages[language], self._tasks[task]] if self.languages else []
        return [self._start, *known, self._no_timestamps]


def _cast_once(model: nn.Module, reduced: torch.dtype) -> None:
    """Cast the weights that autocast would cast at every use, which is for each token again."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            for name, weight in list(module.named_parameters(recurse=False)):
                # A parameter of its own: the matrix of the logits is that of the tokens too, which stays in float32.
                setattr(module, name, nn.Parameter(weight.to(reduced), requires_grad=False))


@contextmanager
def _eager(model: Any) -> Iterator[None]:
    """Switch to the attention that alone gives its weights; it is slower, and needs more memory."""
    # Set and put back under `Runtime.model`'s lock, so that no other thread's pass sees it.
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)
