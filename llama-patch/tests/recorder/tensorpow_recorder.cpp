// A tensorpow library for tests: it writes down what llama-server calls and chooses tokens as told.
//
// It stands in for libtensorpow.a, so the hooks of the patch are tested without the real sampler. Each
// call becomes one JSON line in the file named by TENSORPOW_RECORDER_LOG. A payload may say
//   "rank": r                 choose the r-th best token of every step (0 = the best)
//   "eos": id, "eos_at": n    choose token `id` at step n
//   "fail_at": n              stop mining at step n
//   "bad_token_at": n         answer a token outside the vocabulary at step n
//   "park_at": n, "park_ms": t  step n has to wait t milliseconds; to sample earlier stops mining
// and TENSORPOW_RECORDER_REFUSE=1 makes the start fail as a bad configuration does.

#include "tensorpow.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

struct tensorpow_engine {
    std::atomic<uint64_t> begun{0};
};

using steady = std::chrono::steady_clock;

struct tensorpow_sequence {
    std::string pow;
    int32_t slot;
    std::vector<int32_t> tokens;
    steady::time_point parked_until;
};

static thread_local std::string last_error;

static tensorpow_status fail(tensorpow_status status, const std::string & message) {
    last_error = message;
    return status;
}

static void record(const std::string & line) {
    static std::mutex mutex;
    const char * path = getenv("TENSORPOW_RECORDER_LOG");
    if (!path) {
        return;
    }
    std::lock_guard<std::mutex> lock(mutex);
    if (FILE * file = fopen(path, "a")) {
        fprintf(file, "%s\n", line.c_str());
        fclose(file);
    }
}

// the integer behind "key": in the payload, or -1
static int64_t setting(const std::string & pow, const std::string & key) {
    const std::string quoted = "\"" + key + "\":";
    const size_t at = pow.find(quoted);
    return at == std::string::npos ? -1 : strtoll(pow.c_str() + at + quoted.size(), nullptr, 10);
}

static std::string list(const int32_t * values, size_t n) {
    std::string text = "[";
    for (size_t i = 0; i < n; i++) {
        text += (i ? "," : "") + std::to_string(values[i]);
    }
    return text + "]";
}

static std::string quoted(const std::string & text) {
    std::string out = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
        }
        out += c;
    }
    return out + "\"";
}

// the wait of a step begins as soon as the step before it is made
static void park(tensorpow_sequence * seq) {
    if ((int64_t) seq->tokens.size() == setting(seq->pow, "park_at")) {
        seq->parked_until = steady::now() + std::chrono::milliseconds(setting(seq->pow, "park_ms"));
    }
}

const char * tensorpow_version(void) {
    return "recorder";
}

const char * tensorpow_last_error(void) {
    return last_error.c_str();
}

tensorpow_status tensorpow_engine_new(const tensorpow_engine_args * args, tensorpow_engine ** out) {
    if (getenv("TENSORPOW_RECORDER_REFUSE")) {
        return fail(TENSORPOW_STATUS_CONFIG, "POW_EGRESS_MODE=nonsense is not a mode");
    }
    record("{\"call\":\"engine_new\",\"engine\":" + quoted(args->engine ? args->engine : "") + "}");
    *out = new tensorpow_engine;
    return TENSORPOW_STATUS_OK;
}

void tensorpow_engine_free(tensorpow_engine * engine) {
    if (engine) {
        record("{\"call\":\"engine_free\"}");
    }
    delete engine;
}

tensorpow_status tensorpow_begin(tensorpow_engine * engine, const tensorpow_begin_args * args, tensorpow_sequence ** out) {
    const std::string pow(args->pow_json, args->pow_json_len);
    char numbers[256];
    snprintf(numbers, sizeof(numbers),
             "\"temperature\":%.9g,\"top_k\":%d,\"top_p\":%.9g,\"repetition_penalty\":%.9g,"
             "\"exclusions\":%u,\"slot\":%d,\"n_vocab\":%u",
             args->temperature, args->top_k, args->top_p, args->repetition_penalty,
             args->exclusions, args->slot_id, args->n_vocab);
    record("{\"call\":\"begin\",\"pow\":" + quoted(pow) + ",\"completion_id\":" +
           quoted(args->completion_id ? args->completion_id : "") + "," + numbers +
           ",\"prompt\":" + list(args->prompt, args->n_prompt) + "}");
    *out = nullptr;
    if (args->exclusions != 0) {
        return fail(TENSORPOW_STATUS_NOT_MINED, "excluded");
    }
    if (pow.empty() || pow[0] != '{') {
        return fail(TENSORPOW_STATUS_NOT_MINED, "pow is not an object");
    }
    engine->begun++;
    *out = new tensorpow_sequence{pow, args->slot_id, {}, {}};
    park(*out);
    return TENSORPOW_STATUS_OK;
}

tensorpow_status tensorpow_ready(tensorpow_sequence * seq, uint32_t wait_ms, int32_t * ready) {
    std::this_thread::sleep_until(std::min(seq->parked_until, steady::now() + std::chrono::milliseconds(wait_ms)));
    *ready = steady::now() >= seq->parked_until;
    return TENSORPOW_STATUS_OK;
}

tensorpow_status tensorpow_sample(tensorpow_sequence * seq, const float * logits, size_t n_vocab, int32_t * token) {
    const int64_t step = (int64_t) seq->tokens.size();
    if (steady::now() < seq->parked_until) {
        return fail(TENSORPOW_STATUS_NOT_MINED, "sampled while parked");
    }
    if (step == setting(seq->pow, "fail_at")) {
        return fail(TENSORPOW_STATUS_NOT_MINED, "told to stop");
    }
    if (step == setting(seq->pow, "bad_token_at")) {
        *token = (int32_t) n_vocab;
        return TENSORPOW_STATUS_OK;
    }
    if (step == setting(seq->pow, "eos_at")) {
        *token = (int32_t) setting(seq->pow, "eos");
    } else {
        const size_t rank = (size_t) std::max<int64_t>(0, setting(seq->pow, "rank"));
        std::vector<int32_t> order(n_vocab);
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + rank + 1, order.end(),
                          [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
        *token = order[rank];
    }
    seq->tokens.push_back(*token);
    park(seq);
    return TENSORPOW_STATUS_OK;
}

void tensorpow_end(tensorpow_sequence * seq, tensorpow_end_reason reason) {
    record("{\"call\":\"end\",\"slot\":" + std::to_string(seq->slot) + ",\"reason\":" + std::to_string((int) reason) +
           ",\"tokens\":" + list(seq->tokens.data(), seq->tokens.size()) + "}");
    delete seq;
}

tensorpow_status tensorpow_metrics(const tensorpow_engine * engine, char * buf, size_t capacity, size_t * needed) {
    const std::string text = "# HELP tensorpow_sequences_started_total Sequences opened\n"
                             "# TYPE tensorpow_sequences_started_total counter\n"
                             "tensorpow_sequences_started_total " + std::to_string(engine->begun.load()) + "\n";
    *needed = text.size();
    if (capacity < text.size()) {
        return fail(TENSORPOW_STATUS_INVALID_ARGUMENT, "buffer too small");
    }
    memcpy(buf, text.data(), text.size());
    return TENSORPOW_STATUS_OK;
}
