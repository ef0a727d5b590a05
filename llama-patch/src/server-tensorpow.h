#pragma once

// Proof-of-work sampling in llama-server: the whole of our C++ side, over the C interface tensorpow.h.
//
// A request that carries a pow payload gets a `request` when its JSON is read, and a `sequence` when its
// slot starts. While the sequence lives, it chooses the slot's tokens from the raw logits in place of the
// sampler chain. A request that cannot be mined is served by the chain as if it had no payload, and the
// library counts why. Nothing here runs for a request without a payload.

#include "tensorpow.h"

#include "llama.h"
#include "server-common.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct server_task;
struct task_params;

namespace server_tensorpow {

// How long the server waits at a time when all its slots are parked.
constexpr uint32_t PARKED_WAIT_MS = 5;

// What the body of one completion request says about mining.
struct request {
    std::string pow; // the payload's JSON text as it came; the library judges it

    // the request's own sampling fields; the server's start-up values play no part
    float   temperature        = 1.0f;
    int32_t top_k              = 50;
    float   top_p              = 1.0f;
    float   repetition_penalty = 1.0f;

    uint32_t exclusions = 0; // TENSORPOW_EXCLUDE_* of everything the body asks for
};

// Reads `data`, the body of a completion request in the server's own terms. `params` is the result of
// parsing it with `server` as the defaults. Null: the body has no payload.
std::shared_ptr<const request> read_request(
        const json & data,
        const task_params & params,
        const common_params & server,
        const std::vector<llama_logit_bias> & logit_bias_eog);

// The id that the client reads in its answer, "" where the route gives none.
std::string completion_id(const task_params & params);

// One slot's open handle in the library, or nothing. Ends with the object.
class sequence {
  public:
    sequence() = default;
    sequence(tensorpow_sequence * handle, int32_t n_vocab) : handle(handle), n_vocab(n_vocab) {}
    sequence(sequence && other) noexcept;
    sequence & operator=(sequence && other) noexcept;
    ~sequence();

    explicit operator bool() const { return handle != nullptr; }

    // Chooses the token from the logits of output `idx` of `ctx`. False: nothing is mined here, or no
    // longer, and the caller samples as usual.
    bool sample(llama_context * ctx, int32_t idx, llama_token & token);

    // False: the next sample would have to wait for the admission of its window. Waits up to `wait_ms` for it.
    bool ready(uint32_t wait_ms = 0);

    void end(tensorpow_end_reason reason);

  private:
    tensorpow_sequence * handle = nullptr;
    int32_t n_vocab = 0;
};

// The process-wide handle; must outlive every sequence.
class engine {
  public:
    ~engine();

    // Reads the environment. False: the configuration is refused, and the reason is logged.
    bool start();

    // Opens a sequence for a task that is about to start in slot `id_slot`.
    sequence begin(const server_task & task, int32_t id_slot, int32_t n_vocab, const common_params & server);

    // The library's counters as Prometheus text.
    std::string metrics() const;

  private:
    tensorpow_engine * handle = nullptr;
};

} // namespace server_tensorpow
