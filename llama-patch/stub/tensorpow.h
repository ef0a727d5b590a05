/* C interface of tensorpow as the llama.cpp patch uses it.
 *
 * The header that ffi-c generates is the original; this copy lets the patch build where the Rust
 * library is absent, and a test holds the two to the same declarations.
 *
 * Ownership: every handle made by tensorpow_engine_new or tensorpow_begin belongs to the caller until
 * it is given to tensorpow_engine_free or tensorpow_end. Threads: an engine may be used by several
 * threads, a sequence by one at a time. */
#ifndef TENSORPOW_H
#define TENSORPOW_H

#include <stddef.h>
#include <stdint.h>

/* what the engine (llama-server) knows about a request that the library cannot see; any bit: not mined */
#define TENSORPOW_EXCLUDE_GRAMMAR         (1u << 0)
#define TENSORPOW_EXCLUDE_SEVERAL_CHOICES (1u << 1)
#define TENSORPOW_EXCLUDE_PENALTY         (1u << 2)
#define TENSORPOW_EXCLUDE_LOGIT_BIAS      (1u << 3)
#define TENSORPOW_EXCLUDE_SAMPLER_OPTION  (1u << 4)
#define TENSORPOW_EXCLUDE_SEED            (1u << 5)
#define TENSORPOW_EXCLUDE_REASONING_BUDGET (1u << 6)
#define TENSORPOW_EXCLUDE_ADAPTER         (1u << 7)
#define TENSORPOW_EXCLUDE_MULTIMODAL      (1u << 8)
#define TENSORPOW_EXCLUDE_CONTEXT_SHIFT   (1u << 9)
#define TENSORPOW_EXCLUDE_NOT_COMPLETION  (1u << 10)
#define TENSORPOW_EXCLUDE_BACKEND         (1u << 11)

typedef enum tensorpow_status {
  TENSORPOW_STATUS_OK = 0,
  /* serve with the engine's own sampler; counted by reason */
  TENSORPOW_STATUS_NOT_MINED = 1,
  /* null handle, size too small, ... */
  TENSORPOW_STATUS_INVALID_ARGUMENT = 2,
  /* environment or settings refuse to start; tensorpow_last_error says which */
  TENSORPOW_STATUS_CONFIG = 3,
  /* panic caught: the sequence is dead, the engine lives */
  TENSORPOW_STATUS_INTERNAL = 4,
} tensorpow_status;

typedef enum tensorpow_end_reason {
  TENSORPOW_END_REASON_FINISHED = 0,
  TENSORPOW_END_REASON_CANCELLED = 1,
  TENSORPOW_END_REASON_ERROR = 2,
  TENSORPOW_END_REASON_CONTINUITY_LOST = 3,
} tensorpow_end_reason;

typedef struct tensorpow_engine tensorpow_engine;
typedef struct tensorpow_sequence tensorpow_sequence;

typedef struct tensorpow_engine_args {
  size_t size;                   /* sizeof(tensorpow_engine_args) */
  const char *engine;            /* name and version for logs, may be NULL */
  const char *model_identifier;  /* name@commit or NULL */
  const char *compute_precision; /* label or NULL */
  uint32_t max_sequences;        /* 0: the library's default */
} tensorpow_engine_args;

typedef struct tensorpow_begin_args {
  size_t size;               /* sizeof(tensorpow_begin_args) */
  const char *pow_json;      /* object or JSON string text, UTF-8 */
  size_t pow_json_len;
  const char *completion_id; /* NULL is "" */
  float temperature;
  int32_t top_k;
  float top_p;
  float repetition_penalty;
  uint32_t exclusions; /* TENSORPOW_EXCLUDE_* */
  int32_t slot_id;     /* for logs */
  uint32_t n_vocab;
  const int32_t *prompt;
  size_t n_prompt;
} tensorpow_begin_args;

#ifdef __cplusplus
extern "C" {
#endif

const char *tensorpow_version(void);

/* message of the last failure on this thread, "" if none; valid until the next call on this thread */
const char *tensorpow_last_error(void);

tensorpow_status tensorpow_engine_new(const tensorpow_engine_args *args, tensorpow_engine **out);

void tensorpow_engine_free(tensorpow_engine *engine);

tensorpow_status tensorpow_begin(tensorpow_engine *engine,
                                 const tensorpow_begin_args *args,
                                 tensorpow_sequence **out);

/* *ready: the next sample need not wait for an admission; waits up to wait_ms for it */
tensorpow_status tensorpow_ready(tensorpow_sequence *seq, uint32_t wait_ms, int32_t *ready);

/* OK: *token is the choice and already part of the sequence. Anything else: the sequence mines no more. */
tensorpow_status tensorpow_sample(tensorpow_sequence *seq,
                                  const float *logits,
                                  size_t n_vocab,
                                  int32_t *token);

void tensorpow_end(tensorpow_sequence *seq, tensorpow_end_reason reason);

/* Prometheus text without NUL; *needed is its length, nothing is written when capacity is smaller */
tensorpow_status tensorpow_metrics(const tensorpow_engine *engine,
                                   char *buf,
                                   size_t capacity,
                                   size_t *needed);

#ifdef __cplusplus
}
#endif

#endif /* TENSORPOW_H */
