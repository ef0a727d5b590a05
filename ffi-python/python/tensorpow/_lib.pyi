"""The extension module. Bytes of a hash are in internal order, as hashed; targets are integers.

Every call that takes its time lets other Python threads run. A defect of the library raises
`RuntimeError` and ends the sequence it happened in, nothing else.
"""

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias, final, type_check_only

from typing_extensions import Buffer

from tensorpow._exclude import Exclude

__version__: str

@type_check_only
class _DLPack(Protocol):
    def __dlpack__(self, *, stream: None = ...) -> Any: ...

_Logits: TypeAlias = Buffer | _DLPack
"""float32 logits, read where they lie: NumPy arrays, tensors on the CPU, plain buffers."""
_TokenIds: TypeAlias = Seq[int] | Buffer | _DLPack
"""A sequence of ids, or a one-dimensional array or tensor of integers."""
_Floats: TypeAlias = Seq[float] | Buffer | _DLPack
_Bytes: TypeAlias = bytes | bytearray
_Precision: TypeAlias = Literal["bf16", "fp16", "fp8"]
_EndReason: TypeAlias = Literal["finished", "cancelled", "error", "continuity_lost"]
_Network: TypeAlias = Literal["mainnet", "tensor-test", "regtest"]
_Form: TypeAlias = Literal["flatbuffer", "mining_response", "compact", "canonical"]

class Error(Exception):
    """Everything this package raises of its own."""

class NotMined(Error):
    """The request is served without mining. Counted under its label."""

    label: str
    """A short name for counters."""

class Stopped(Error):
    """The sequence stopped mining: this and all further tokens are the engine's own sampler's."""

    label: str
    """A short name for counters."""

class SettingsError(Error):
    """The engine side cannot start; the message names the setting."""

class ProofError(Error):
    """The bytes are no proof, or the proof has no such form."""

class CheckFailed(Error):
    """A proof does not pass its self-check; the message names the check."""

class NoVerdict(Error):
    """A proof cannot be judged with what was given. It says nothing about the proof."""

@final
class Engine:
    """The engine side of a process. Start it in the process that samples, after every fork."""

    def __new__(
        cls,
        settings: Mapping[str, str] | None = None,
        *,
        engine: str = "",
        model_identifier: str | None = None,
        compute_precision: str | None = None,
        max_sequences: int | None = None,
        threads: int | None = None,
    ) -> Engine:
        """Reads the settings, from the environment unless given, and starts the threads.

        `engine` is the inference engine's name and version for logs; `model_identifier`
        (`name@commit`), `compute_precision` and `max_sequences` (default 1024) are what it knows
        about itself, and settings go before them. `threads` step a batch; by default as many as
        the machine has.

        Raises `SettingsError`; the inference engine serves without mining then.
        """

    def begin(
        self,
        pow: Mapping[str, Any] | str,
        prompt_ids: _TokenIds,
        vocab: int,
        *,
        completion_id: str = "",
        temperature: float = 1.0,
        top_k: int = 50,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        exclusions: Exclude | int = 0,
        slot_id: int = 0,
    ) -> Sequence:
        """Begins a request that carries a payload, a dictionary or its JSON text.

        `prompt_ids` are the exact ids the model is fed before the first sampled token, `vocab`
        the width of the logits; `completion_id` is the id the client sees, the sampling fields
        are the request's own (`top_k` 0 or below is off).

        Raises `NotMined`, or `TypeError` and `ValueError` for wrong arguments; either is counted,
        and the request is served as usual.
        """

    def sample_batch(
        self, sequences: Seq[Sequence], logits: _Logits, rows: Seq[int] | None = None
    ) -> list[int | Stopped]:
        """One step of many sequences on the threads of the engine.

        `logits` has two dimensions; `sequences[i]` samples from row `rows[i]`, or `i`. Only the
        values of a row must follow each other, so a view without padding needs no copy. A
        sequence that stops gives the exception in its place and the others go on. A sequence
        that is not `ready` is waited for.

        Raises before any sequence has stepped: `ValueError` for rows that are not there,
        `TypeError` for values that are not float32, `RuntimeError` for a sequence that has ended,
        is named twice or in use.
        """

    def record_batch(
        self, sequences: Seq[Sequence], logits: _Logits, ids: _Logits, stats: _Logits
    ) -> list[int | Stopped]:
        """`sample_batch` on evidence that a device took: row `i` of each array is `sequences[i]`'s.

        70 logits (float32), 70 ids (int32) and 6 statistics (float32) in a row; rows are
        contiguous. Raises before any sequence has stepped, as `sample_batch` does.
        """

    def metrics(self) -> str:
        """Everything that is counted, in the Prometheus text format."""

    def close(self) -> None:
        """Closes finished windows and sends their proofs, for a second at most.

        Sequences may outlive it; their windows are lost.
        """

    def __enter__(self) -> Engine: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

@final
class Sequence:
    """A mined request. One thread at a time may use it; different ones are independent."""

    def sample(self, logits: _Logits) -> int:
        """Chooses the next token from the raw logits of the last position, and records the step.

        Raw means before any bias, penalty, temperature or grammar. Called once for each token the
        engine keeps, in order. Waits where `ready` is false. Raises `Stopped`.
        """

    def record(self, evidence: Evidence) -> int:
        """Like `sample`, on evidence that a device took from the logits.

        Evidence that no row of this sequence can have stops it: raises `Stopped`.
        """

    def ready(self, wait_s: float = 0.0) -> bool:
        """True when the next token need not wait for its window's admission.

        With admission the first draw of each version-3 window needs a nonce. Waits `wait_s`
        seconds at most. True for a sequence that stopped: `sample` says why.
        """

    def forgo_admission(self) -> None:
        """Waits no longer: a window that has no nonce yet is mined without one."""

    def next_u(self) -> float | None:
        """The draw of the next token, which is known before its logits are.

        None while `ready` was not true, and after the sequence stopped.
        """

    @property
    def drawn(self) -> int:
        """Tokens drawn so far."""

    @property
    def vocab(self) -> int:
        """Logits in every row."""

    @property
    def precision(self) -> str:
        """The precision label of its proofs: evidence is taken on that grid."""

    @property
    def temperature(self) -> float:
        """The temperature that evidence is taken at."""

    def end(self, reason: _EndReason = "finished") -> None:
        """Ends the request; an incomplete window is discarded. A second end does nothing."""

@final
class StepHasher:
    """The constant head of a sequence's step messages."""

    def __new__(cls, header: _Bytes, vdf: _Bytes, tick: int) -> StepHasher:
        """Absorbs the 76-byte header prefix, the VDF proof and the tick."""

    def digest(
        self,
        j: int,
        context: _TokenIds,
        precision: str,
        nonce: _Bytes | None = None,
        window: int = 256,
    ) -> bytes:
        """The digest of step `j` of a window, after the tokens of `context`.

        The last `window` of them count, with zeros before a shorter context.
        """

    def closing(self, tokens: _TokenIds, precision: str, nonce: _Bytes | None = None) -> bytes:
        """The digest that closes a window of these tokens."""

@final
class Evidence:
    """The evidence of one step: 50 largest logits, 20 probes, six statistics."""

    def __new__(cls, logits: _Floats, ids: _TokenIds, stats: _Floats) -> Evidence:
        """Takes 70 logits, their 70 ids and 6 statistics that were computed elsewhere."""

    @staticmethod
    def of(logits: _Logits, precision: _Precision | None, temperature: float = 1.0) -> Evidence:
        """The evidence of a row of raw logits, rounded to the grid of the precision.

        Without a precision the row is taken as it stands, neither rounded nor checked. Raises
        `ValueError` for a row that cannot be mined.
        """

    def check(self, vocab: int, precision: _Precision) -> None:
        """Raises `ValueError` for what no row of that width and precision has as its evidence."""

    def choose(self, digest: _Bytes, temperature: float = 1.0, top_k: int = 50, top_p: float = 1.0) -> Choice:
        """The token that a step's digest draws."""

    @property
    def logits(self) -> list[float]:
        """50 largest, descending, ties by ascending id; then 20 probes."""

    @property
    def ids(self) -> list[int]:
        """Token ids of `logits`."""

    @property
    def stats(self) -> list[float]:
        """ln Σ exp after temperature, four means by rank, the mean of all."""

@final
class Choice:
    """A drawn token and what the proof records of it."""

    token: int
    upper_edge: float
    """Upper edge of its interval in the cumulative distribution."""
    normalizer: float
    """ln Σ exp over the survivors."""

def draw(digest: _Bytes) -> float:
    """The draw that a digest gives, from 0 to 1."""

@final
class MiningResponse:
    """What a mining response says beside its proof."""

    req_id: int
    nonce: int
    adjusted_bits: int
    difficulty: int
    @property
    def pow_blob_hash(self) -> bytes: ...
    @property
    def completion_id(self) -> str: ...

@final
class Verdict:
    """A node's verdict; true when the proof is accepted."""

    accepted: bool
    verdict: str
    """The node's name for it."""
    check: str | None
    """What rejects the proof: the identifier of a check, or the node's code."""
    step: int | None
    """The step at which that check fails, if it is made per step."""
    reason: str | None
    """The same in words."""
    version: int
    is_solution: bool
    v3_active: bool
    """The rules of version 3 bind the proof."""
    credit_units: int
    """Credited entropy of the steps that were looked at, in units of 1/1024 bit."""
    tier: str | None
    reuse_score: int
    """In units of 2^-32."""
    least_margin: float | None
    header_hash: str | None
    """As explorers show it."""
    def __bool__(self) -> bool: ...

@final
class Proof:
    """A proof. Equal to another when their canonical bytes are."""

    @staticmethod
    def from_bytes(data: _Bytes) -> Proof:
        """Reads a FlatBuffer of a proof or of a mining response, or the compact form.

        Raises `ProofError`.
        """

    def to_bytes(self, form: _Form = "flatbuffer") -> bytes:
        """Writes the proof: as it is sent, with its message, to keep, or as it is hashed.

        Only a proof that came in a mining response has that form. Raises `ProofError`.
        """

    def commitment(self) -> bytes:
        """The commitment the node computes. Raises `ProofError` above a block's limit."""

    def verify(
        self,
        network: _Network | str = "mainnet",
        height: int | None = None,
        difficulty: int | None = None,
    ) -> Verdict:
        """Judges the proof as a node does, at a height of a network.

        Without a height no rule that begins at one is applied; without the registered difficulty
        the registration of the model is not judged. Raises `NoVerdict` where that would decide.
        """

    def self_check(self, share_target: int | None = None) -> str:
        """Checks the proof as the solution, share or audit it claims to be; the VDF is skipped.

        Returns a report of a few lines; raises `CheckFailed`.
        """

    def is_admitted(self, difficulty: int, nonce: _Bytes | None = None) -> bool:
        """True when a nonce, by default the claimed one, solves the puzzle of the window.

        Costs one try. False when no nonce is claimed. Raises `ValueError` for a proof without a
        puzzle.
        """

    @property
    def admission_nonce(self) -> bytes | None:
        """The nonce that `extra_flags` claims."""

    @property
    def message(self) -> MiningResponse | None:
        """What the mining response said beside the proof, if it came in one."""

    @property
    def version(self) -> int: ...
    @property
    def tick(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def target(self) -> bytes:
        """Most significant byte first."""

    @property
    def vdf(self) -> bytes: ...
    @property
    def hash(self) -> bytes:
        """The closing digest."""

    @property
    def block_hash(self) -> bytes: ...
    @property
    def header_prefix(self) -> bytes: ...
    @property
    def is_solution(self) -> bool: ...
    @property
    def model_identifier(self) -> str:
        """What is not UTF-8 is replaced, here and in the next two."""

    @property
    def compute_precision(self) -> str: ...
    @property
    def ipfs_cid(self) -> str: ...
    @property
    def extra_flags(self) -> bytes: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def repetition_penalty(self) -> float: ...
    @property
    def chosen_tokens(self) -> list[int]: ...
    @property
    def chosen_probs(self) -> list[float]: ...
    @property
    def sampling_u(self) -> list[float]: ...
    @property
    def softmax_normalizers(self) -> list[float]: ...
    @property
    def prompt_tokens(self) -> list[int]: ...
    @property
    def pad_mask(self) -> bytes: ...
    @property
    def topk_logits(self) -> list[list[float]]: ...
    @property
    def topk_indices(self) -> list[list[int]]: ...
    @property
    def logsumexp_stats(self) -> list[list[float]]: ...

def vdf_prove(challenge: _Bytes, ticks: int) -> bytes:
    """Does `ticks` squarings for the previous block's hash (32 bytes); returns the proof.

    Works in the calling thread, about 100 000 squarings a second; Ctrl-C ends it.
    """

def vdf_verify(challenge: _Bytes, tick: int, blob: _Bytes) -> bool:
    """Judges a proof as a node does."""

@final
class Published:
    """A proof that a `Prover` made and verified."""

    @property
    def challenge(self) -> bytes: ...
    @property
    def tick(self) -> int: ...
    @property
    def blob(self) -> bytes: ...

@final
class Prover:
    """Squares in the background and publishes ever later proofs of one challenge."""

    def __new__(cls, challenge: _Bytes, *, chunk: int = 32768, threads: int = 1) -> Prover:
        """Starts. Proofs are made for multiples of `chunk` squarings, by `threads` threads."""

    def latest(self, wait_s: float = 0.0) -> Published | None:
        """The latest proof of the current challenge; waits `wait_s` seconds for the first."""

    def reset(self, challenge: _Bytes) -> None:
        """Turns to another challenge; the current one is not started over."""

    @property
    def ticks(self) -> int:
        """Squarings done for the current challenge."""

    def stop(self) -> None:
        """Ends all work, which takes some milliseconds."""

    def __enter__(self) -> Prover: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

def compact_to_target(bits: int) -> int:
    """The target of a compact form. Raises `ValueError` for one no network takes."""

def target_to_compact(target: int) -> int:
    """The compact form of a target, rounded down."""

@final
class Adjusted:
    """The thresholds of a job after the model adjustment."""

    @property
    def bits(self) -> int:
        """Compact form: what goes into the mined header."""

    @property
    def target(self) -> int:
        """Expansion of `bits`: the target that is mined."""

    @property
    def max_target(self) -> int:
        """The easiest target consensus allows."""

def adjust_for_model(bits: int, difficulty: int, normalizer: int = 1_000_000) -> Adjusted:
    """The block target of a job with nBits `bits` and a model. Raises `ValueError`."""

def share_target(base: int, difficulty: int, normalizer: int = 1_000_000) -> int:
    """The share threshold of a broker's base target with a model. Raises `ValueError`."""

@final
class HeaderFields:
    """The fields of a header prefix."""

    @property
    def version(self) -> int: ...
    @property
    def parent(self) -> bytes: ...
    @property
    def merkle_root(self) -> bytes: ...
    @property
    def time(self) -> int: ...
    @property
    def bits(self) -> int: ...

def header_prefix(version: int, parent: _Bytes, merkle_root: _Bytes, time: int, bits: int) -> bytes:
    """Lays the fields out as a header does: 76 bytes."""

def header_fields(prefix: _Bytes) -> HeaderFields:
    """Takes a header prefix apart."""

def with_bits(prefix: _Bytes, bits: int) -> bytes:
    """The same prefix with another compact target."""

def header_hash(prefix: _Bytes, digest: _Bytes) -> bytes:
    """The proof-of-work hash of the header that a closing digest completes."""

def is_met_by(target: int, header_hash: _Bytes) -> bool:
    """True when the hash, as a number, is not above the target."""

def admission_extract(extra_flags: _Bytes) -> bytes | None:
    """The nonce that `extra_flags` claims; None for whatever claims none."""

def admission_merge(extra_flags: _Bytes, nonce: _Bytes) -> bytes:
    """`extra_flags` with the nonce in it, everything else kept. Raises `ValueError`."""

def admission_expected_tries(difficulty: int) -> int:
    """How many tries a model's difficulty stands for."""

def admission_prompt_commitment(tokens: _TokenIds, mask: _Bytes | None = None) -> bytes:
    """The hash that binds a puzzle to everything the model saw before the window."""
