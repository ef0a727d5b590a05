// The tensorpow C interface without the library: every request is served, none is mined.
//
// It keeps the patch buildable and testable without Rust. What llama-server reports as an exclusion is
// counted under the label the library uses, so the exclusion table can be read off /metrics; a request
// the library would have judged is counted as "no_library".

#include "tensorpow.h"

#include <array>
#include <atomic>
#include <cstring>
#include <string>

static constexpr std::array<const char *, 12> EXCLUSION_LABELS = {
    "grammar", "several_choices",  "penalty", "logit_bias", "sampler_option", "seed",
    "reasoning_budget", "adapter", "multimodal", "context_shift", "not_completion", "backend",
};

struct tensorpow_engine {
    std::array<std::atomic<uint64_t>, EXCLUSION_LABELS.size()> excluded{};
    std::atomic<uint64_t> no_library{0};
};

static thread_local const char * last_error = "";

static tensorpow_status fail(tensorpow_status status, const char * message) {
    last_error = message;
    return status;
}

const char * tensorpow_version(void) {
    return "stub";
}

const char * tensorpow_last_error(void) {
    return last_error;
}

tensorpow_status tensorpow_engine_new(const tensorpow_engine_args * args, tensorpow_engine ** out) {
    if (!args || !out || args->size < sizeof(*args)) {
        return fail(TENSORPOW_STATUS_INVALID_ARGUMENT, "engine_new: null or short argument");
    }
    *out = new tensorpow_engine;
    return TENSORPOW_STATUS_OK;
}

void tensorpow_engine_free(tensorpow_engine * engine) {
    delete engine;
}

tensorpow_status tensorpow_begin(tensorpow_engine * engine, const tensorpow_begin_args * args, tensorpow_sequence ** out) {
    if (!engine || !args || !out || args->size < sizeof(*args)) {
        return fail(TENSORPOW_STATUS_INVALID_ARGUMENT, "begin: null or short argument");
    }
    *out = nullptr;
    for (size_t bit = 0; bit < EXCLUSION_LABELS.size(); bit++) {
        if (args->exclusions & (1u << bit)) {
            engine->excluded[bit]++;
            return fail(TENSORPOW_STATUS_NOT_MINED, EXCLUSION_LABELS[bit]);
        }
    }
    engine->no_library++;
    return fail(TENSORPOW_STATUS_NOT_MINED, "built without the tensorpow library");
}

tensorpow_status tensorpow_ready(tensorpow_sequence *, uint32_t, int32_t *) {
    return fail(TENSORPOW_STATUS_INVALID_ARGUMENT, "ready: the stub opens no sequence");
}

tensorpow_status tensorpow_sample(tensorpow_sequence *, const float *, size_t, int32_t *) {
    return fail(TENSORPOW_STATUS_INVALID_ARGUMENT, "sample: the stub opens no sequence");
}

void tensorpow_end(tensorpow_sequence *, tensorpow_end_reason) {}

tensorpow_status tensorpow_metrics(const tensorpow_engine * engine, char * buf, size_t capacity, size_t * needed) {
    if (!engine || !needed) {
        return fail(TENSORPOW_STATUS_INVALID_ARGUMENT, "metrics: null argument");
    }
    const std::string name = "tensorpow_not_mined_total";
    std::string text = "# HELP " + name + " Requests with a pow payload that were not mined\n"
                       "# TYPE " + name + " counter\n";
    auto line = [&](const char * reason, uint64_t count) {
        text += name + "{reason=\"" + reason + "\"} " + std::to_string(count) + "\n";
    };
    for (size_t bit = 0; bit < EXCLUSION_LABELS.size(); bit++) {
        line(EXCLUSION_LABELS[bit], engine->excluded[bit].load());
    }
    line("no_library", engine->no_library.load());

    *needed = text.size();
    if (buf && capacity >= text.size()) {
        std::memcpy(buf, text.data(), text.size());
    }
    return TENSORPOW_STATUS_OK;
}
