// What lives here, in this order: which requests are excluded from mining, reading a request, a slot's
// sequence, the engine. The hooks that call it are the patches'; server-tensorpow.h says what each is for.

#include "server-tensorpow.h"

#include "build-info.h"
#include "server-task.h"

#include <algorithm>
#include <utility>

namespace server_tensorpow {

// The payload is looked for under these members of the body, in this order.
static constexpr const char * PAYLOAD_PARENTS[] = { "extra_sampling_params", "vllm_xargs" };

// a null value counts as absent, as everywhere in this server
static bool has_value(const json & data, const char * key) {
    return data.is_object() && data.contains(key) && !data.at(key).is_null();
}

static const json * find_payload(const json & data) {
    for (const char * parent : PAYLOAD_PARENTS) {
        if (has_value(data, parent) && has_value(data.at(parent), "pow")) {
            return &data.at(parent).at("pow");
        }
    }
    return nullptr;
}

//
// what the request excludes by itself
//

// true if `a` and `b` agree in all the given fields
template <typename... Fields>
static bool same(const common_params_sampling & a, const common_params_sampling & b, Fields... fields) {
    return ((a.*fields == b.*fields) && ...);
}

// A sampler the request switches on or changes rules mining out. One that runs by the server's start-up
// settings does not: a mined slot never sees it, because the library works on the raw logits.
static uint32_t sampler_exclusions(const common_params_sampling & request, const common_params_sampling & server) {
    using params = common_params_sampling;
    const params & r = request;

    struct rule {
        uint32_t exclusion;
        bool     active;    // not neutral: it can change which token is drawn
        bool     as_server; // exactly what the server was started with
    };

    const rule rules[] = {
        { TENSORPOW_EXCLUDE_PENALTY,
          r.penalty_last_n != 0 && (r.penalty_repeat != 1.0f || r.penalty_freq != 0.0f || r.penalty_present != 0.0f),
          same(r, server, &params::penalty_last_n, &params::penalty_repeat, &params::penalty_freq, &params::penalty_present) },
        { TENSORPOW_EXCLUDE_PENALTY,
          r.dry_multiplier != 0.0f && r.dry_penalty_last_n != 0,
          same(r, server, &params::dry_multiplier, &params::dry_base, &params::dry_allowed_length,
               &params::dry_penalty_last_n, &params::dry_sequence_breakers) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION, r.min_p > 0.0f, same(r, server, &params::min_p) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION, r.typ_p < 1.0f, same(r, server, &params::typ_p) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION, r.top_n_sigma > 0.0f, same(r, server, &params::top_n_sigma) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION,
          r.xtc_probability > 0.0f && r.xtc_threshold <= 0.5f,
          same(r, server, &params::xtc_probability, &params::xtc_threshold) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION,
          r.dynatemp_range > 0.0f,
          same(r, server, &params::dynatemp_range, &params::dynatemp_exponent) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION,
          r.mirostat != 0,
          same(r, server, &params::mirostat, &params::mirostat_tau, &params::mirostat_eta) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION,
          r.adaptive_target >= 0.0f,
          same(r, server, &params::adaptive_target, &params::adaptive_decay) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION, r.min_keep > 0, same(r, server, &params::min_keep) },
        { TENSORPOW_EXCLUDE_SAMPLER_OPTION, true, same(r, server, &params::samplers) },
        { TENSORPOW_EXCLUDE_REASONING_BUDGET, r.reasoning_budget_tokens >= 0, same(r, server, &params::reasoning_budget_tokens) },
        // lets the client cut the reasoning short at any moment, which a mined slot could not obey
        { TENSORPOW_EXCLUDE_REASONING_BUDGET, r.reasoning_control, false },
    };

    uint32_t exclusions = 0;
    for (const auto & rule : rules) {
        if (rule.active && !rule.as_server) {
            exclusions |= rule.exclusion;
        }
    }
    return exclusions;
}

static bool has_logit_bias(
        const json & data,
        const task_params & params,
        const std::vector<llama_logit_bias> & logit_bias_eog) {
    if (!has_value(data, "logit_bias")) {
        return false;
    }
    // ignore_eos is parsed into a bias behind the request's own; a mined slot honours it in another way
    size_t n_own = params.sampling.logit_bias.size();
    if (has_value(data, "ignore_eos") && params.sampling.ignore_eos) {
        n_own -= std::min(n_own, logit_bias_eog.size());
    }
    for (size_t i = 0; i < n_own; i++) {
        if (params.sampling.logit_bias[i].bias != 0.0f) {
            return true;
        }
    }
    return false;
}

static bool wants_tool_calls(const json & data) {
    const bool has_tools = has_value(data, "tools") && data.at("tools").is_array() && !data.at("tools").empty();
    return has_tools && json_value(data, "tool_choice", std::string("auto")) != "none";
}

static uint32_t request_exclusions(
        const json & data,
        const task_params & params,
        const common_params & server,
        const std::vector<llama_logit_bias> & logit_bias_eog) {
    uint32_t exclusions = sampler_exclusions(params.sampling, server.sampling);

    // whoever set the grammar, the server's start-up included: the sampler chain throws on a token outside it
    if (!common_grammar_value(params.sampling.grammar).empty() || wants_tool_calls(data)) {
        exclusions |= TENSORPOW_EXCLUDE_GRAMMAR;
    }
    if (params.n_cmpl > 1) {
        exclusions |= TENSORPOW_EXCLUDE_SEVERAL_CHOICES;
    }
    if (has_logit_bias(data, params, logit_bias_eog)) {
        exclusions |= TENSORPOW_EXCLUDE_LOGIT_BIAS;
    }
    if (has_value(data, "seed") && params.sampling.seed != LLAMA_DEFAULT_SEED) {
        exclusions |= TENSORPOW_EXCLUDE_SEED;
    }
    if (params.n_cache_reuse > 0) {
        exclusions |= TENSORPOW_EXCLUDE_CONTEXT_SHIFT;
    }
    return exclusions;
}

//
// request
//

std::shared_ptr<const request> read_request(
        const json & data,
        const task_params & params,
        const common_params & server,
        const std::vector<llama_logit_bias> & logit_bias_eog) {
    const json * payload = find_payload(data);
    if (!payload) {
        return nullptr;
    }

    auto result = std::make_shared<request>();
    result->pow        = payload->is_string() ? payload->get<std::string>() : safe_json_to_str(*payload);
    result->exclusions = request_exclusions(data, params, server, logit_bias_eog);

    // as sent, not as the server clamps them: a value outside the profile is not mined
    if (has_value(data, "temperature")) {
        result->temperature = data.at("temperature").get<float>();
    }
    if (has_value(data, "top_k")) {
        result->top_k = params.sampling.top_k;
    }
    if (has_value(data, "top_p")) {
        result->top_p = data.at("top_p").get<float>();
    }
    // not a field of this server (that is repeat_penalty), but of the mining profile
    if (has_value(data, "repetition_penalty")) {
        const json & penalty = data.at("repetition_penalty");
        if (penalty.is_number()) {
            result->repetition_penalty = penalty.get<float>();
        } else {
            result->exclusions |= TENSORPOW_EXCLUDE_PENALTY;
        }
    }
    return result;
}

std::string completion_id(const task_params & params) {
    switch (params.res_type) {
        case TASK_RESPONSE_TYPE_NONE:
            return "";
        case TASK_RESPONSE_TYPE_OAI_RESP:
            // answers of this route are named resp_*
            return "resp_" + params.oaicompat_cmpl_id.substr(params.oaicompat_cmpl_id.find('-') + 1);
        default:
            return params.oaicompat_cmpl_id;
    }
}

//
// sequence
//

sequence::sequence(sequence && other) noexcept
    : handle(std::exchange(other.handle, nullptr)), n_vocab(other.n_vocab) {}

sequence & sequence::operator=(sequence && other) noexcept {
    if (this != &other) {
        end(TENSORPOW_END_REASON_CANCELLED);
        handle  = std::exchange(other.handle, nullptr);
        n_vocab = other.n_vocab;
    }
    return *this;
}

sequence::~sequence() {
    end(TENSORPOW_END_REASON_CANCELLED);
}

void sequence::end(tensorpow_end_reason reason) {
    if (handle) {
        tensorpow_end(std::exchange(handle, nullptr), reason);
    }
}

bool sequence::sample(llama_context * ctx, int32_t idx, llama_token & token) {
    if (!handle) {
        return false;
    }

    llama_synchronize(ctx);
    const float * logits = llama_get_logits_ith(ctx, idx);

    int32_t choice = LLAMA_TOKEN_NULL;
    if (!logits) {
        SRV_WRN("%s", "mining stopped: no raw logits for this output\n");
    } else if (tensorpow_sample(handle, logits, n_vocab, &choice) != TENSORPOW_STATUS_OK) {
        SRV_WRN("mining stopped: %s\n", tensorpow_last_error());
    } else if (choice < 0 || choice >= n_vocab) {
        SRV_WRN("mining stopped: token %d is not in the vocabulary of %d\n", choice, n_vocab);
    } else {
        token = choice;
        return true;
    }
    end(TENSORPOW_END_REASON_ERROR);
    return false;
}

bool sequence::ready(uint32_t wait_ms) {
    if (!handle) {
        return true;
    }
    int32_t ready = 1;
    // a handle that fails here fails in sample too, which says why
    return tensorpow_ready(handle, wait_ms, &ready) != TENSORPOW_STATUS_OK || ready != 0;
}

//
// engine
//

engine::~engine() {
    tensorpow_engine_free(handle);
}

bool engine::start() {
    const std::string name = string_format("llama.cpp b%d", llama_build_number());

    tensorpow_engine_args args = {};
    args.size   = sizeof(args);
    args.engine = name.c_str();

    if (tensorpow_engine_new(&args, &handle) != TENSORPOW_STATUS_OK) {
        handle = nullptr;
        SRV_ERR("tensorpow refuses to start: %s\n", tensorpow_last_error());
        return false;
    }
    SRV_INF("tensorpow %s\n", tensorpow_version());
    return true;
}

// what rules mining out that only the task and the running server show
static uint32_t task_exclusions(const server_task & task, const llama_tokens & prompt, const common_params & server) {
    uint32_t exclusions = 0;
    if (task.type != SERVER_TASK_TYPE_COMPLETION) {
        exclusions |= TENSORPOW_EXCLUDE_NOT_COMPLETION;
    }
    if (task.is_parent() || task.is_child()) {
        exclusions |= TENSORPOW_EXCLUDE_SEVERAL_CHOICES;
    }
    // any adapter that is loaded, even at scale 0: the slot's cache may hold what another request computed with it
    if (!server.lora_adapters.empty() || !server.control_vectors.empty()) {
        exclusions |= TENSORPOW_EXCLUDE_ADAPTER;
    }
    if (prompt.size() != task.tokens.size()) {
        exclusions |= TENSORPOW_EXCLUDE_MULTIMODAL;
    }
    if (server.ctx_shift) {
        exclusions |= TENSORPOW_EXCLUDE_CONTEXT_SHIFT;
    }
    return exclusions;
}

sequence engine::begin(const server_task & task, int32_t id_slot, int32_t n_vocab, const common_params & server) {
    if (!handle || !task.params.tensorpow) {
        return {};
    }
    const request & req = *task.params.tensorpow;
    const llama_tokens prompt = task.tokens.get_text_tokens(); // media have no text token
    const std::string id = completion_id(task.params);

    tensorpow_begin_args args = {};
    args.size               = sizeof(args);
    args.pow_json           = req.pow.data();
    args.pow_json_len       = req.pow.size();
    args.completion_id      = id.c_str();
    args.temperature        = req.temperature;
    args.top_k              = req.top_k;
    args.top_p              = req.top_p;
    args.repetition_penalty = req.repetition_penalty;
    args.exclusions         = req.exclusions | task_exclusions(task, prompt, server);
    args.slot_id            = id_slot;
    args.n_vocab            = n_vocab;
    args.prompt             = prompt.data();
    args.n_prompt           = prompt.size();

    tensorpow_sequence * opened = nullptr;
    switch (tensorpow_begin(handle, &args, &opened)) {
        case TENSORPOW_STATUS_OK:
            return { opened, n_vocab };
        case TENSORPOW_STATUS_NOT_MINED: // everyday, and counted
            SRV_TRC("slot %d is not mined: %s\n", id_slot, tensorpow_last_error());
            return {};
        default:
            SRV_WRN("slot %d cannot be mined: %s\n", id_slot, tensorpow_last_error());
            return {};
    }
}

std::string engine::metrics() const {
    if (!handle) {
        return "";
    }
    std::string text;
    size_t needed = 0;
    do { // the text may grow between learning its length and reading it
        text.resize(needed);
        needed = 0;
        tensorpow_metrics(handle, text.data(), text.size(), &needed);
    } while (needed > text.size());
    text.resize(needed);
    return text;
}

} // namespace server_tensorpow
